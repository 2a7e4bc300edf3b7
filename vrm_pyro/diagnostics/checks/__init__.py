"""Checks of a model on rows, one file each, listed in the table :data:`DIAGNOSTICS`.

To add one, write ``checks/<name>.py`` with a function from :class:`CheckInputs` to a
:class:`Finding` and a constant ``CHECK``, and add one line to the table.
"""

from collections.abc import Iterable
from typing import Final

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
    rating_pit,
    shift,
    shuffle,
    simulation_check,
    unit_use,
    weight_evidence,
)
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Rows, log_scores
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding

DIAGNOSTICS: Final[dict[str, Diagnostic]] = {
    "calibration": calibration.CHECK,
    "loo": loo.CHECK,
    "predictive": predictive_checks.CHECK,
    "ratings": rating_pit.CHECK,
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


__all__ = ["DIAGNOSTICS", "Diagnostic", "Finding", "CheckInputs", "Rows", "diagnose", "log_scores"]
