"""PAC-Bayes certificate of a trained model's head."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from tqdm import tqdm

from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.certificates.bound import check_delta, check_units
from vrm_pyro.diagnostics.certificates.dependence import effective_units
from vrm_pyro.diagnostics.certificates.fit_head import FitSettings, fit_head
from vrm_pyro.diagnostics.certificates.gaussian_head import GaussianHead, HeadParameters
from vrm_pyro.diagnostics.certificates.head_rule import frozen_copy, gibbs_risks
from vrm_pyro.diagnostics.certificates.pac_bayes import (
    PACBayesBound,
    pac_bayes_bound,
    pac_bayes_upper,
)
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES
from vrm_pyro.errors import InputError
from vrm_pyro.models.vrm import VRM

PRIOR_SCALES: Final = (0.003, 0.01, 0.03, 0.1, 0.3)
"""Grid of standard deviations s0 of the prior, chosen before seeing any data."""

# Draws that choose s0. Fresh draws then estimate the risk, so the choice costs nothing.
CHOOSING_DRAWS: Final = 32


@dataclass(frozen=True)
class HeadCertificate:
    """The PAC-Bayes bounds of one head.

    Args:
        head: The parameters in theta.
        bounds: By loss and posterior: ``bounds["error"]["fitted"]``. Both bounds of a loss hold
            jointly at the stated confidence, so the smaller may be reported.
        loss: The loss for which Q and s0 were chosen.
    """

    head: str
    bounds: dict[str, dict[str, PACBayesBound]]
    loss: str

    def best(self, loss: str) -> PACBayesBound:
        """Return the smaller bound of a loss."""
        return min(self.bounds[loss].values(), key=lambda bound: bound.value)


@dataclass(frozen=True)
class _Candidate:
    posterior: str
    prior_scale: float
    gaussian: GaussianHead
    kl: float


def certify_head(
    model: VRM,
    source: FeatureSource,
    *,
    head: str = "reward",
    loss: str = "error",
    delta: float = 0.05,
    delta_mc: float = 0.01,
    num_draws: int = 1000,
    prior_scales: Sequence[float] = PRIOR_SCALES,
    chi: float = 1.0,
    settings: FitSettings | None = None,
    progress: bool = False,
) -> HeadCertificate:
    """Certify the Gibbs rule of a Gaussian over the head (spec 3.3.2).

    P = N(theta_0, s0^2 I) with theta_0 the trained values. For each s0 of the grid, Q is fitted
    on the rows, and Q = P is tried too. A few draws choose s0 for each of the two; m fresh draws
    estimate the risk of both. The grid costs ln G; the two Monte Carlo estimates share delta'.

    Args:
        model: A trained model; the rows were not used to train or to choose it.
        source: Certifying rows; every prompt has a pair of positive weight.
        head: ``reward`` or ``reward_and_networks``.
        loss: ``error`` or ``brier``; the bound of the other loss is given at the same Q.
        delta: Failure probability over the rows.
        delta_mc: Failure probability delta' over the draws of theta.
        num_draws: m.
        prior_scales: Grid of s0, chosen before seeing the rows.
        chi: See :func:`effective_units`.
        settings: Settings of the fit of Q.
        progress: Whether to show a progress bar.

    Raises:
        InputError: If there are fewer than 8 units or a setting is out of range.
    """
    check_delta(delta=delta, delta_mc=delta_mc)
    _check(loss, num_draws, prior_scales)
    settings = settings or FitSettings()
    parameters = HeadParameters.of(model, head)
    num_prompts = source.prompts.shape[0]
    n = effective_units(num_prompts, chi)
    check_units(n, "PAC-Bayes bound")
    num_scales = len(prior_scales)
    log_term = math.log(2 * math.sqrt(n) * num_scales / delta)
    # Each draw or step is a pass over the rows; the bar counts prompts.
    passes = num_scales * (settings.steps + 2 * CHOOSING_DRAWS) + 2 * num_draws
    bar = tqdm(
        total=passes * num_prompts, unit="prompt", unit_scale=True, desc="certify",
        disable=not progress,
    )  # fmt: skip
    with frozen_copy(model) as copied, bar:

        def risks(candidate: _Candidate, draws: int, seed: int) -> dict[str, float]:
            found = gibbs_risks(
                copied, parameters, candidate.gaussian, source, draws, seed, bar.update
            )
            return {name: float(values.mean()) for name, values in found.items()}

        candidates = []
        for index, scale in enumerate(prior_scales):
            prior = GaussianHead.prior(parameters, scale)
            fitted = fit_head(
                copied,
                parameters,
                scale,
                source,
                n=n,
                log_term=log_term,
                loss=loss,
                settings=replace(settings, seed=settings.seed + index),
                tick=lambda count: bar.update(count * num_prompts),
            )
            candidates.append(_Candidate("fitted", scale, fitted, float(fitted.kl(prior))))
            candidates.append(_Candidate("prior", scale, prior, 0.0))

        def estimate(candidate: _Candidate) -> float:
            risk = risks(candidate, CHOOSING_DRAWS, _seed(settings.seed, 1))[loss]
            return pac_bayes_upper(risk, candidate.kl, n, delta, num_scales)

        bounds: dict[str, dict[str, PACBayesBound]] = {name: {} for name in LOSSES}
        for index, kind in enumerate(("fitted", "prior")):
            chosen = min((c for c in candidates if c.posterior == kind), key=estimate)
            found = risks(chosen, num_draws, _seed(settings.seed, 2 + index))
            for name, risk in found.items():
                bounds[name][kind] = pac_bayes_bound(
                    risk,
                    chosen.kl,
                    n,
                    delta=delta,
                    delta_mc=delta_mc,
                    num_draws=num_draws,
                    posterior=kind,
                    prior_scale=chosen.prior_scale,
                    num_parameters=parameters.size,
                    num_scales=num_scales,
                    num_estimates=2,
                    loss=name,
                )
    return HeadCertificate(head, bounds, loss)


def _seed(seed: int, part: int) -> int:
    """Return a seed for one part: draws that estimate differ from draws that choose."""
    return (seed + 1) * 1_000_003 + part


def _check(loss: str, num_draws: int, prior_scales: Sequence[float]) -> None:
    if loss not in LOSSES:
        raise InputError(f"loss is {loss!r}, but must be one of {', '.join(LOSSES)}.")
    if num_draws < 1:
        raise InputError(f"draws is {num_draws}, but must be at least 1; 1000 is usual.")
    if not prior_scales or not all(math.isfinite(s) and s > 0 for s in prior_scales):
        raise InputError(
            f"prior_scales is {list(prior_scales)}, but must be a list of positive numbers."
        )
