"""All certificates of a model on rows that it has not seen."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from html import escape
from typing import Any, Literal, TypeAlias, cast

import numpy as np
import torch

from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.certificates.bound import MIN_UNITS, check_delta
from vrm_pyro.diagnostics.certificates.certify_head import (
    PRIOR_SCALES,
    HeadCertificate,
    certify_head,
)
from vrm_pyro.diagnostics.certificates.dependence import effective_units
from vrm_pyro.diagnostics.certificates.fit_head import FitSettings
from vrm_pyro.diagnostics.certificates.held_out import HeldOutBound, held_out_bounds
from vrm_pyro.diagnostics.certificates.information_cost import InformationCost, information_cost
from vrm_pyro.diagnostics.certificates.local import LocalCertificate, check_provenance
from vrm_pyro.diagnostics.certificates.local_risk import certify_local
from vrm_pyro.diagnostics.certificates.table import (
    CONTAMINATED,
    DECLARED,
    ENSEMBLE,
    NO_HEAD,
    table_of,
)
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.reading import DataLike, data_name, read_data, rows_of
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.opening import ModelLike, as_model, check_pairs, check_store, read_inputs
from vrm_pyro.prediction.overlap import Overlap, training_overlap
from vrm_pyro.prediction.predict import predict

log = logging.getLogger(__name__)

Declared: TypeAlias = Literal["no", "yes", "unknown"]


def check_declared(declared: str, name: str = "backbone_saw_these_labels") -> Declared:
    """Return ``declared``; raise InputError unless it is one of no, yes, unknown.

    >>> check_declared("no")
    'no'
    >>> check_declared("maybe")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: ...
    """
    if declared not in DECLARED:
        raise InputError(f"{name} is {declared!r}, but must be one of {', '.join(DECLARED)}.")
    return cast(Declared, declared)


@dataclass(frozen=True)
class Withheld:
    """A certificate that is not given.

    Args:
        reason: Why.
    """

    reason: str


@dataclass(frozen=True)
class Settings:
    """Settings of certificates; see :func:`certify` for their meaning."""

    backbone_saw_these_labels: Declared
    delta: float
    delta_mc: float
    loss: str
    head: str
    prior_scales: tuple[float, ...]
    num_draws: int
    num_steps: int
    seed: int
    chi: float
    local: bool
    prior_fitted_on_disjoint_data: bool
    leave_out_training_prompts: bool

    def __post_init__(self) -> None:
        check_declared(self.backbone_saw_these_labels)
        check_delta(delta=self.delta, delta_mc=self.delta_mc)
        if self.delta + self.delta_mc >= 1:
            raise InputError("delta and delta_mc: their sum must be below 1.")
        for name, value in (("draws", self.num_draws), ("steps", self.num_steps)):
            if value < 1:
                raise InputError(f"{name} is {value}, but must be at least 1.")
        if self.local:
            check_provenance(self.prior_fitted_on_disjoint_data)


@dataclass(frozen=True, repr=False)
class Certificates:
    """Upper limits of the risk of a model on new prompts, with their data and settings.

    ``print(certificates)`` shows the table of ``vrm-pyro certify``. Source: spec 3.3.

    Args:
        model: Name of the model.
        data: Name of the rows.
        num_pairs: Comparisons with a positive weight.
        num_prompts: Their prompts.
        settings: The settings used.
        overlap: Prompts that the model was trained on, and rows that could not be compared.
        held_out: Held-out limits by loss, ``error`` and ``brier``.
        pac_bayes: Limits of a randomized head.
        local: Limit for fresh labels on the same items; None if not requested.
        information_cost: D(Q || P). A diagnostic, not a bound; None without latent variables.
    """

    model: str
    data: Any
    num_pairs: int
    num_prompts: int
    settings: Settings
    overlap: Overlap
    held_out: dict[str, HeldOutBound] | Withheld
    pac_bayes: HeadCertificate | Withheld
    local: LocalCertificate | Withheld | None
    information_cost: InformationCost | None

    def to_json(self) -> dict[str, Any]:
        """Return everything as JSON values, in the order of spec 3.3."""
        asked, overlap = self.settings, self.overlap
        return {
            "model": self.model,
            "data": self.data,
            "n_pairs": self.num_pairs,
            "n_prompts": self.num_prompts,
            "chi": asked.chi,
            "effective_prompts": effective_units(self.num_prompts, asked.chi),
            "delta": asked.delta,
            "delta_mc": asked.delta_mc,
            "declared": {
                "backbone_saw_these_labels": asked.backbone_saw_these_labels,
                "prior_fitted_on_disjoint_data": asked.prior_fitted_on_disjoint_data,
            },
            "training_rows": {
                "compared": list(overlap.compared),
                "not_compared": list(overlap.not_compared),
                "prompts_left_out": overlap.count,
            },
            "held_out": _plain(self.held_out),
            "pac_bayes": _plain(self.pac_bayes, asked.prior_scales),
            "local": _plain(self.local),
            "information_cost": _plain(self.information_cost),
        }

    def __str__(self) -> str:
        """Return the table."""
        return table_of(self.to_json())

    def __repr__(self) -> str:
        """Return the held-out limit of the error rate."""
        if isinstance(self.held_out, Withheld):
            return f"Certificates(withheld: {self.held_out.reason})"
        bound = self.held_out["error"]
        return (
            f"Certificates(error rate {bound.observed:.3f}, at most {bound.value:.3f} with "
            f"confidence {bound.confidence:g}; {self.num_prompts} prompts)"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def certify(
    model: ModelLike,
    data: DataLike,
    *,
    backbone_saw_these_labels: Declared,
    delta: float = 0.05,
    delta_mc: float = 0.01,
    loss: Literal["error", "brier"] = "error",
    head: Literal["reward", "reward_and_networks"] = "reward",
    prior_scales: Sequence[float] = PRIOR_SCALES,
    num_draws: int = 1000,
    num_steps: int = 300,
    seed: int = 0,
    chi: float = 1.0,
    local: bool = False,
    prior_fitted_on_disjoint_data: bool = False,
    leave_out_training_prompts: bool = False,
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    cache: bool = True,
    progress: bool = False,
) -> Certificates:
    """Bound the risk of a model on new prompts, from rows that were not used in training.

    Rows are compared with the training and validation rows of the run before any text is encoded.
    Each limit holds separately, for a model chosen without these rows. Source: spec 3.3.

    Args:
        model: Folder of a run, loaded model or scorer. Without a folder, its training rows are
            unknown, and rows are not compared.
        data: Rows or a feature store.
        backbone_saw_these_labels: Whether the backbone was trained on these preferences. ``yes``:
            no limit is given; ``unknown``: limits are given with a warning.
        delta: Probability that a limit is too low.
        delta_mc: Probability that its Monte Carlo estimates are too low; the confidence is 1
            minus both.
        loss: Loss that the PAC-Bayes posterior minimises; limits for both losses are given.
        head: Random parameters in PAC-Bayes: A, b and log beta, or these and the last layer of
            each prior network.
        prior_scales: Standard deviations of the PAC-Bayes prior to try, chosen in advance.
        num_draws: Draws for each estimate.
        num_steps: Optimiser steps to fit the PAC-Bayes posterior.
        seed: Seed of the fit and of all draws.
        chi: Dependence between prompts: n counts as n / chi.
        local: Also bound the risk of fresh labels on the same items.
        prior_fitted_on_disjoint_data: Declares that prior and decoder were not fitted on these
            labels, or on ratings that determine them; ``local`` needs it.
        leave_out_training_prompts: Skip and count training and validation prompts of the run.
        skip_invalid: Skip and count invalid rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        device: Device of the backbone, if states have to be computed.
        dtype: Precision of the backbone; that of training when omitted.
        cache: Whether to use the disk cache of states.
        progress: Whether to show progress bars.

    Raises:
        InputError: If a prompt was trained on, no comparison is left, or a setting is wrong.
    """
    asked = Settings(
        backbone_saw_these_labels,
        delta,
        delta_mc,
        loss,
        head,
        tuple(prior_scales),
        num_draws,
        num_steps,
        seed,
        chi,
        local,
        prior_fitted_on_disjoint_data,
        leave_out_training_prompts,
    )
    loaded = as_model(model)
    if local and loaded.vrm is None:
        what = f"a {loaded.architecture} model, which has no local latent variables"
        if loaded.members:
            what = "an ensemble, which has a posterior q(w, z) for each member"
        raise InputError(f"local: {loaded.directory or 'the model'} is {what}. Leave it out.")
    name = data_name(data)
    rows = read_data(data, skip_invalid=skip_invalid, split=split)
    table = rows_of(rows)
    if isinstance(rows, FeatureStore):
        check_store(rows, loaded)
    overlap = _checked_overlap(training_overlap(loaded.directory, table), name, asked)
    if isinstance(rows, FeatureStore | Inputs):
        inputs = read_inputs(model, rows, needs_pairs=True)
        inputs = inputs.select(~overlap.shared)
    else:
        kept = table.select_prompts(~overlap.shared)
        check_pairs(kept)
        inputs = read_inputs(
            model, kept, device=device, dtype=dtype, progress=progress, cache=cache
        )
    inputs = _compared(inputs, name)
    contaminated = Withheld(CONTAMINATED) if backbone_saw_these_labels == "yes" else None
    source = inputs.source
    return Certificates(
        model=str(loaded.directory or "the model"),
        data=data if isinstance(data, str | list) and name != "the rows" else name,
        num_pairs=int((np.asarray(source.pair_weight) > 0).sum()),
        num_prompts=inputs.table.num_prompts,
        settings=asked,
        overlap=overlap,
        held_out=contaminated or _held_out(asked, loaded, inputs),
        pac_bayes=contaminated or _pac_bayes(asked, loaded, inputs, progress),
        local=(contaminated or _local(asked, loaded, inputs)) if local else None,
        information_cost=_information_cost(loaded, inputs),
    )


def _checked_overlap(overlap: Overlap, name: str, asked: Settings) -> Overlap:
    if not asked.leave_out_training_prompts:
        overlap.check(name)
    elif overlap.shared.all():
        raise InputError(
            f"{name}: every prompt is a training or validation prompt of the model, so nothing is "
            "left to certify on. Give rows of other prompts."
        )
    for other in overlap.not_compared:
        log.warning("not compared with %s: make sure that no label here was trained on", other)
    if asked.backbone_saw_these_labels == "unknown":
        log.warning("if the backbone saw these labels, the limits below are void")
    return overlap


def _compared(inputs: Inputs, name: str) -> Inputs:
    """Return the prompts with a comparison of positive weight."""
    counted = np.zeros(inputs.table.num_prompts, dtype=bool)
    counted[inputs.table.pair_prompt[np.asarray(inputs.source.pair_weight) > 0]] = True
    if not counted.any():
        raise InputError(
            f"{name}: holds no comparison with a positive weight to certify on. Give rows with "
            '"prompt", "chosen" and "rejected".'
        )
    return inputs.select(counted)


def _too_few(asked: Settings, inputs: Inputs) -> Withheld | None:
    units = effective_units(inputs.table.num_prompts, asked.chi)
    if units >= MIN_UNITS:
        return None
    return Withheld(f"needs at least {MIN_UNITS} independent prompts, here are {units:g}")


def _held_out(
    asked: Settings, loaded: LoadedModel, inputs: Inputs
) -> dict[str, HeldOutBound] | Withheld:
    few = _too_few(asked, inputs)
    if few is not None and asked.chi > 1:  # independent prompts need no minimum
        return few
    source = inputs.source
    return held_out_bounds(
        predict(loaded.model, source).p_first,
        source.preference,
        source.pair_weight,
        inputs.table.pair_prompt,
        asked.delta,
        asked.chi,
    )


def _pac_bayes(
    asked: Settings, loaded: LoadedModel, inputs: Inputs, progress: bool
) -> HeadCertificate | Withheld:
    if loaded.vrm is None:
        return Withheld(ENSEMBLE if loaded.members else NO_HEAD)
    return _too_few(asked, inputs) or certify_head(
        loaded.vrm,
        inputs.source,
        head=asked.head,
        loss=asked.loss,
        delta=asked.delta,
        delta_mc=asked.delta_mc,
        num_draws=asked.num_draws,
        prior_scales=asked.prior_scales,
        chi=asked.chi,
        settings=FitSettings(asked.num_steps, seed=asked.seed),
        progress=progress,
    )


def _local(asked: Settings, loaded: LoadedModel, inputs: Inputs) -> LocalCertificate | Withheld:
    assert loaded.vrm is not None
    return _too_few(asked, inputs) or certify_local(
        loaded.vrm,
        with_objectives(inputs.source, loaded.objectives if loaded.rated else ()),
        fitted_on_disjoint_data=asked.prior_fitted_on_disjoint_data,
        delta=asked.delta,
        delta_mc=asked.delta_mc,
        num_draws=asked.num_draws,
        seed=asked.seed,
        chi=asked.chi,
    )


def _information_cost(loaded: LoadedModel, inputs: Inputs) -> InformationCost | None:
    if not loaded.members:
        return None
    rated = loaded.objectives if loaded.rated else ()
    return information_cost(loaded.model, with_objectives(inputs.source, rated))


def _plain(part: Any, prior_scales: Sequence[float] = ()) -> Any:
    """Return one part of the certificates as JSON values."""
    if isinstance(part, Withheld):
        return {"withheld": part.reason}
    if isinstance(part, dict):
        return {name: asdict(bound) for name, bound in part.items()}
    if isinstance(part, HeadCertificate):
        plain: dict[str, Any] = {
            "head": part.head,
            "fitted_for": part.loss,
            "prior_scales": list(prior_scales),
        }
        for name, bounds in part.bounds.items():
            plain[name] = {"best": part.best(name).posterior} | _plain(bounds)
        return plain
    if isinstance(part, InformationCost):
        return part.to_json()
    return None if part is None else asdict(part)
