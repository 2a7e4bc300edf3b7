"""Checks of a model on rows, one file each, listed in the table :data:`DIAGNOSTICS`.

To add one, write ``checks/<name>.py`` with a function from :class:`CheckInputs` to a
:class:`Finding` and a constant ``CHECK``, and add one line to the table.
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final

import torch
from tqdm import tqdm

from vrm_pyro.diagnostics.checks import (
    artefacts,
    calibration,
    collapse,
    coverage,
    dependence,
    gaps,
    guide_shift,
    khat,
    loo,
    predictive_checks,
    prior_overlap,
    rating_coverage,
    rating_pit,
    shift,
    shuffle,
    simulation_check,
    unit_use,
    weight_evidence,
)
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnosis import Diagnosis, check_inputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding
from vrm_pyro.diagnostics.checks.log_scores import log_scores
from vrm_pyro.diagnostics.checks.rows import Rows
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.features.reading import DataLike
from vrm_pyro.prediction.opening import ModelLike, as_model, read_inputs

NUM_PROMPTS: Final = 200
NUM_DRAWS: Final = 1000

DIAGNOSTICS: Final[dict[str, Diagnostic]] = {
    "calibration": calibration.CHECK,
    "loo": loo.CHECK,
    "predictive": predictive_checks.CHECK,
    "ratings": rating_pit.CHECK,
    "rating_coverage": rating_coverage.CHECK,
    "length": artefacts.CHECK,
    "shuffle": shuffle.CHECK,
    "weights": weight_evidence.CHECK,
    "collapse": collapse.CHECK,
    "units": unit_use.CHECK,
    "khat": khat.CHECK,
    "gaps": gaps.CHECK,
    "simulation": simulation_check.CHECK,
    "coverage": coverage.CHECK,
    "prior": prior_overlap.CHECK,
    "sensitivity": dependence.CHECK,
    "shift": shift.CHECK,
    "guide_shift": guide_shift.CHECK,
}


def diagnose(
    model: ModelLike,
    data: DataLike,
    names: Iterable[str] | None = None,
    *,
    against: Mapping[str, ModelLike] | None = None,
    reference: DataLike | None = None,
    num_prompts: int = NUM_PROMPTS,
    num_draws: int = NUM_DRAWS,
    seed: int = 0,
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    cache: bool = True,
    progress: bool = False,
) -> Diagnosis:
    """Look for what is wrong with a model on rows that it was not trained on.

    Each alarm is a test at level 1%. Source: spec 4.

    Args:
        model: Folder of a run, loaded model or scorer.
        data: Rows or a feature store.
        names: Which of :data:`DIAGNOSTICS`; all when omitted.
        against: Other models, by name, to compare with by log predictive density (``loo``).
        reference: Training rows, for ``shift``; without them subsets are compared.
        num_prompts: Prompts drawn at random for what is costly.
        num_draws: Draws of each of these.
        seed: Fixes everything that is drawn.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        device: Where the backbone runs, if it has to.
        dtype: Its precision; that of training when omitted.
        cache: Whether states of texts are looked for, and kept, on disk.
        progress: Whether to show progress bars.

    Raises:
        InputError: If there is no such diagnostic, or model or rows cannot be read.
    """
    chosen = check_names(names)
    for what, number in (("prompts", num_prompts), ("draws", num_draws)):
        if number < 1:
            raise InputError(f"{what} is {number}, but must be at least 1.")
    loaded = as_model(model)
    reading: dict[str, Any] = {
        "skip_invalid": skip_invalid,
        "split": split,
        "device": device,
        "dtype": dtype,
        "cache": cache,
        "progress": progress,
    }
    others = {name: as_model(other) for name, other in (against or {}).items()}
    inputs = read_inputs(model, data, needs_pairs=True, **reading)
    known = None if reference is None else read_inputs(model, reference, **reading)
    states = {name: (other, read_inputs(other, data, **reading)) for name, other in others.items()}
    made = check_inputs(loaded, inputs, known, states, num_prompts, num_draws, seed)
    found = run_checks(made, chosen, progress=progress)
    return Diagnosis(found, DIAGNOSTICS, made.rows.num_prompts, made.some.num_prompts)


def check_names(names: Iterable[str] | None) -> list[str]:
    """Return the names of the diagnostics to run, all when None.

    >>> check_names(["khat"])
    ['khat']

    Raises:
        InputError: For a name that is none.
    """
    chosen = list(DIAGNOSTICS) if names is None else list(names)
    if not chosen:
        raise InputError(f"no diagnostic is named. Choose from {', '.join(DIAGNOSTICS)}.")
    for name in chosen:
        if name not in DIAGNOSTICS:
            raise InputError(
                f"no diagnostic {name!r}{did_you_mean(name, DIAGNOSTICS)} Choose from "
                f"{', '.join(DIAGNOSTICS)}."
            )
    return chosen


def run_checks(
    inputs: CheckInputs, names: Iterable[str] | None = None, *, progress: bool = False
) -> dict[str, Finding]:
    """Return the findings by name, in the order of :data:`DIAGNOSTICS`.

    Args:
        inputs: Model and rows.
        names: Which; all when omitted.
        progress: Show a bar on stderr.
    """
    chosen = list(DIAGNOSTICS) if names is None else [n for n in DIAGNOSTICS if n in set(names)]
    found = {}
    with tqdm(chosen, desc="diagnose", unit="", disable=not progress) as bar:
        for name in bar:
            bar.set_postfix_str(name)
            found[name] = DIAGNOSTICS[name].find(inputs)
    return found


__all__ = [
    "DIAGNOSTICS",
    "CheckInputs",
    "Diagnosis",
    "Diagnostic",
    "Finding",
    "Rows",
    "check_names",
    "diagnose",
    "log_scores",
    "run_checks",
]
