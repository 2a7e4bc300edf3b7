"""Summaries and verdicts of power-scaling sensitivity over all prompts (spec 4.9)."""

import math
from typing import Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.power_scaling import khat_limit
from vrm_pyro.diagnostics.sensitivity.indices import COMPONENT_DIM, LIKELIHOOD, PRIOR, Indices
from vrm_pyro.names import OBJECTIVE_DIM

THRESHOLD: Final = 0.05

# Diagnoses of one item, with ArviZ's rule.
CONFLICT: Final = "prior-data conflict"
STRONG_PRIOR: Final = "weak likelihood / strong prior"
NOTHING: Final = "-"

# Verdicts on all items of a quantity, for one component.
UNRELIABLE: Final = "unreliable"
TOO_FEW: Final = "too few draws"
MOST: Final = "moves most"
SOME: Final = "moves some"
SOME_SHARE: Final = 0.1


class ComponentRow(NamedTuple):
    """Sensitivity of one quantity to one component, over all items.

    Attributes:
        quantity: ``w``, ``s``, ``r`` or ``delta``.
        component: The part of the joint density that was power-scaled.
        objective: Name of one objective, or None for all items.
        median: Median index of reliable items; None without any.
        q90: 90% quantile of the index of reliable items.
        flagged: Share of reliable items whose index reaches the threshold.
        noise: See :class:`~vrm_pyro.diagnostics.sensitivity.indices.Indices`.
        unreliable: Share of all items whose k-hat is above the limit for this number of draws.
        verdict: In words.
    """

    quantity: str
    component: str
    objective: str | None
    median: float | None
    q90: float | None
    flagged: float | None
    noise: float | None
    unreliable: float
    verdict: str


class DiagnosisRow(NamedTuple):
    """Shares of the diagnoses of one quantity, over items that are reliable for both parts.

    Attributes:
        quantity: ``w``, ``s``, ``r`` or ``delta``.
        objective: Name of one objective, or None for all items.
        items: Number of these items.
        conflict: Share of ``prior-data conflict``; None without any item.
        strong_prior: Share of ``weak likelihood / strong prior``.
        nothing: Share of ``-``.
    """

    quantity: str
    objective: str | None
    items: int
    conflict: float | None
    strong_prior: float | None
    nothing: float | None


def diagnose(prior: float, likelihood: float, threshold: float = THRESHOLD) -> str:
    """Return ArviZ's diagnosis of one quantity from its two indices.

    Sensitive to both: prior and data conflict, or are equally informative. Sensitive to the
    prior only: the likelihood is weak.
    """
    if not prior >= threshold:
        return NOTHING
    return CONFLICT if likelihood >= threshold else STRONG_PRIOR


def reliable(found: Indices) -> xr.Dataset:
    """Return which indices are reliable: finite, with k-hat at most the limit for the draws."""
    good = (found.khat <= khat_limit(found.num_draws)).values
    kept = {}
    for name, array in found.index.data_vars.items():
        mask = good[:, found.prompt[str(name)]]
        mask = mask.reshape(*mask.shape, *[1] * (array.ndim - 2))
        kept[name] = np.isfinite(array) & mask
    return xr.Dataset(kept)


def component_rows(found: Indices, threshold: float = THRESHOLD) -> list[ComponentRow]:
    """Return a row for each quantity and component: over all items, then for each objective."""
    kept = reliable(found)
    rows = []
    for name, array in found.index.data_vars.items():
        for component in found.index[COMPONENT_DIM].values:
            noise = float(found.noise[name].sel({COMPONENT_DIM: component}))
            where = {COMPONENT_DIM: component}
            for objective, chosen in _objectives(array):
                index = array.sel(where | chosen).values.ravel()
                good = kept[name].sel(where | chosen).values.ravel()
                rows.append(
                    _component_row(
                        (str(name), str(component), objective), index, good, noise, threshold
                    )
                )
    return rows


def diagnosis_rows(found: Indices, threshold: float = THRESHOLD) -> list[DiagnosisRow]:
    """Return a row for each quantity: over all items, then for each objective."""
    kept, labels = reliable(found), diagnoses(found, threshold)
    rows = []
    for name, array in labels.data_vars.items():
        both = kept[name].sel({COMPONENT_DIM: [PRIOR, LIKELIHOOD]}).all(COMPONENT_DIM)
        for objective, chosen in _objectives(array):
            here = array.sel(chosen).values[both.sel(chosen).values]
            shares = (_mean(here == label) for label in (CONFLICT, STRONG_PRIOR, NOTHING))
            rows.append(DiagnosisRow(str(name), objective, len(here), *shares))
    return rows


def diagnoses(found: Indices, threshold: float = THRESHOLD) -> xr.Dataset:
    """Return the diagnosis of every item, in words, reliable or not."""
    prior, likelihood = (
        found.index.sel({COMPONENT_DIM: name}, drop=True) for name in (PRIOR, LIKELIHOOD)
    )
    return xr.Dataset(
        {
            name: xr.apply_ufunc(
                diagnose, prior[name], likelihood[name], threshold, vectorize=True
            )
            for name in found.index.data_vars
        }
    )


def _component_row(
    names: tuple[str, str, str | None],
    index: NDArray[np.float64],
    good: NDArray[np.bool_],
    noise: float,
    threshold: float,
) -> ComponentRow:
    unreliable = float((~good).mean())
    here = index[good]
    if len(here) == 0:
        return ComponentRow(*names, None, None, None, _finite(noise), unreliable, UNRELIABLE)
    flagged = float((here >= threshold).mean())
    return ComponentRow(
        *names,
        float(np.median(here)),
        float(np.quantile(here, 0.9)),
        flagged,
        _finite(noise),
        unreliable,
        _verdict(here, unreliable, noise, threshold),
    )


def _verdict(index: NDArray[np.float64], unreliable: float, noise: float, threshold: float) -> str:
    if unreliable > 0.5:
        return UNRELIABLE
    # Without sensitivity, a tenth of the items exceeds the noise, so their median does not.
    if (index >= max(threshold, noise)).mean() >= 0.5:
        return MOST
    if noise >= threshold:
        return TOO_FEW
    return SOME if (index >= threshold).mean() >= SOME_SHARE else NOTHING


def draws_needed(found: Indices, threshold: float = THRESHOLD) -> int | None:
    """Return how many draws would keep the noise of every row below 3/4 of the threshold.

    Noise falls with the square root of the number of draws. Rounded up to thousands; None if
    there are enough draws for a verdict on every row.
    """
    rows = component_rows(found, threshold)
    if all(row.verdict != TOO_FEW for row in rows):
        return None
    noise = max(row.noise for row in rows if row.noise is not None)
    return 1000 * math.ceil(found.num_draws * (noise / (0.75 * threshold)) ** 2 / 1000)


def _objectives(array: xr.DataArray) -> list[tuple[str | None, dict[str, str]]]:
    whole: list[tuple[str | None, dict[str, str]]] = [(None, {})]
    if OBJECTIVE_DIM not in array.dims:
        return whole
    names = array[OBJECTIVE_DIM].values
    return whole + [(str(name), {OBJECTIVE_DIM: name}) for name in names]


def _mean(mask: NDArray[np.bool_]) -> float | None:
    return float(mask.mean()) if len(mask) else None


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None
