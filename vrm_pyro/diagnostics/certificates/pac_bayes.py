"""PAC-Bayes-kl bound of a Gibbs rule, with Monte Carlo correction and a grid of priors."""

import math
from dataclasses import dataclass

from vrm_pyro.diagnostics.certificates.binary_kl import binary_kl_inverse
from vrm_pyro.diagnostics.certificates.bound import LOSS_NAMES, Bound, check_delta, check_units

GIBBS = {
    "error": "Gibbs rule: a fresh draw of theta from Q for each comparison. The vote of many "
    "draws (the averaged rule) has at most 2 x this error",
    "brier": "Gibbs rule: a fresh draw of theta from Q for each comparison. The mean probability "
    "of many draws has at most this Brier score, as the score is convex (no factor 2)",
}


@dataclass(frozen=True)
class PACBayesBound(Bound):
    """Upper limit of the risk of the Gibbs rule of Q; ``observed`` is its Monte Carlo mean.

    Args:
        posterior: ``fitted`` for the Q optimised on the certifying rows, ``prior`` for Q = P,
            which has KL 0.
        observed_upper: ``observed`` corrected for the number of draws of theta.
        kl: KL(Q || P) in nats.
        num_parameters: Length of theta.
        prior_scale: s0, the standard deviation of P, chosen from a grid.
        num_scales: Size G of that grid, which costs ln G.
        num_draws: Draws m of theta.
    """

    posterior: str
    observed_upper: float
    kl: float
    num_parameters: int
    prior_scale: float
    num_scales: int
    num_draws: int


def pac_bayes_upper(risk: float, kl: float, n: float, delta: float, num_scales: int = 1) -> float:
    """Return kl^-1(risk, [KL + ln(2 sqrt(n) G / delta)] / n) (spec 3.3.2).

    Holds for all Q simultaneously, so Q may depend on the certifying data; P may not. With G
    priors chosen in advance, each gets delta / G, and the best may be chosen afterwards.

    Args:
        risk: Mean loss of the Gibbs rule on the units, in [0, 1].
        kl: KL(Q || P) in nats.
        n: Independent units, or n / chi.
        delta: Probability that the limit is too low.
        num_scales: G.

    Raises:
        InputError: If there are fewer than 8 units, or delta is out of range.
    """
    check_delta(delta=delta)
    check_units(n, "PAC-Bayes bound")
    return binary_kl_inverse(risk, (kl + math.log(2 * math.sqrt(n) * num_scales / delta)) / n)


def monte_carlo_upper(risk: float, num_draws: int, delta: float) -> float:
    """Return kl^-1(risk, ln(2/delta) / m): upper limit of a mean of m draws (spec 3.3.2).

    Args:
        risk: Mean over independent draws of a quantity in [0, 1].
        num_draws: m.
        delta: Probability that the limit is too low.
    """
    check_delta(delta_mc=delta)
    return binary_kl_inverse(risk, math.log(2 / delta) / num_draws)


def pac_bayes_bound(
    risk: float,
    kl: float,
    n: float,
    *,
    delta: float,
    delta_mc: float,
    num_draws: int,
    posterior: str,
    prior_scale: float,
    num_parameters: int,
    num_scales: int = 1,
    num_estimates: int = 1,
    loss: str = "error",
) -> PACBayesBound:
    """Compute the bound of spec 3.3.2.

    Args:
        risk: Mean loss over draws of theta and prompts.
        kl: KL(Q || P) in nats.
        n: Prompts, or n / chi.
        delta: Failure probability of the PAC-Bayes bound, shared by the grid.
        delta_mc: Failure probability of the Monte Carlo estimates, shared by them.
        num_draws: m draws behind ``risk``.
        posterior: ``fitted`` or ``prior``.
        prior_scale: s0 of this prior.
        num_parameters: Length of theta.
        num_scales: G priors chosen in advance.
        num_estimates: Monte Carlo estimates among which the best is reported.
        loss: ``error`` or ``brier``.
    """
    upper = monte_carlo_upper(risk, num_draws, delta_mc / num_estimates)
    return PACBayesBound(
        pac_bayes_upper(upper, kl, n, delta, num_scales),
        1 - delta - delta_mc,
        n,
        "prompt",
        loss,
        risk,
        f"the {LOSS_NAMES[loss]} of the randomised model on new prompts drawn as these were, "
        f"averaged inside the prompt. {GIBBS[loss]}",
        posterior,
        upper,
        kl,
        num_parameters,
        prior_scale,
        num_scales,
        num_draws,
    )
