"""Render sensitivity as a table, as JSON values, and as panels of a figure."""

from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import ArrayLike

from vrm_pyro.diagnostics.metrics.power_scaling import ALPHAS, khat_limit
from vrm_pyro.diagnostics.sensitivity.indices import (
    COMPONENT_DIM,
    LIKELIHOOD,
    PRIOR,
    Indices,
)
from vrm_pyro.diagnostics.sensitivity.summary import (
    CONFLICT,
    NOTHING,
    STRONG_PRIOR,
    THRESHOLD,
    UNRELIABLE,
    component_rows,
    diagnosis_rows,
    draws_needed,
    reliable,
)
from vrm_pyro.names import DELTA, OBJECTIVE_DIM, PROMPT_DIM, REWARD, SCORES, WEIGHTS

TITLES: Final = {
    WEIGHTS: "weights w",
    SCORES: "scores s",
    REWARD: "reward r",
    DELTA: "difference Δ",
}


def table(found: Indices, threshold: float = THRESHOLD) -> str:
    """Return the table that ``psense`` prints: components, then diagnoses.

    ::

        from vrm_pyro.diagnostics import sensitivity

        found = vrm_pyro.sensitivity("runs/rated/posterior.nc")
        print(sensitivity.table(found, threshold=0.1))
        plots.sensitivity_intervals(sensitivity.panels(found))

    Args:
        found: What :func:`vrm_pyro.sensitivity` returned.
        threshold: From which index on an item is flagged.
    """
    components, diagnoses = component_rows(found, threshold), diagnosis_rows(found, threshold)
    limit = khat_limit(found.num_draws)
    lines = [
        f"power-scaling of {found.khat.sizes[PROMPT_DIM]} prompts, {found.num_draws} draws; "
        f"sensitive from {threshold:g}, unreliable where k-hat is above {limit:.2f}",
        "",
        f"{'':<6} {'component':<15}{'median':>8}{'q90':>8}{'noise':>8}{'flagged':>9}"
        f"{'unreliable':>12}  verdict",
    ]
    last = None
    for row in components:
        if row.objective is not None:
            continue
        shown = "" if row.quantity == last else row.quantity
        last = row.quantity
        lines.append(
            f"{shown:<6} {row.component:<15}{_number(row.median):>8}{_number(row.q90):>8}"
            f"{_number(row.noise):>8}{_share(row.flagged):>9}{_share(row.unreliable):>12}"
            f"  {row.verdict}"
        )
    lines += ["", f"{'':<6} {CONFLICT:>20}{STRONG_PRIOR:>32}{NOTHING:>7}{'items':>8}"]
    lines += [
        f"{row.quantity:<6} {_share(row.conflict):>20}{_share(row.strong_prior):>32}"
        f"{_share(row.nothing):>7}{row.items:>8}"
        for row in diagnoses
        if row.objective is None
    ]
    lines += ["", f"{CONFLICT}: the two disagree, or know about equally much."]
    if any(row.verdict == UNRELIABLE for row in components):
        lines.append(
            "unreliable: the guide's draws do not cover the posterior of many prompts; draw "
            "more, or train the guide longer."
        )
    needed = draws_needed(found, threshold)
    if needed is not None:
        lines += [
            f"With {found.num_draws} draws, noise alone reaches the threshold in some rows: draw "
            f"the posterior again with --draws {needed}.",
        ]
    return "\n".join(lines)


def report(found: Indices, posterior: str, threshold: float = THRESHOLD) -> dict[str, Any]:
    """Return the content of the JSON file; null for unknown values.

    Args:
        found: What :func:`vrm_pyro.sensitivity` returned.
        posterior: What the file calls the posterior.
        threshold: From which index on an item is flagged.
    """
    names = [str(name) for name in found.index[COMPONENT_DIM].values]
    items: dict[str, Any] = {}
    for quantity, array in found.index.data_vars.items():
        dims = [str(dim) for dim in array.dims[1:]]
        items[str(quantity)] = {
            "dims": dims,
            **{dim: array[dim].values.tolist() for dim in dims if dim in array.coords},
            "prompt_position": found.prompt[str(quantity)].tolist(),
            "index": dict(zip(names, _plain(array.values), strict=True)),
        }
    return {
        "posterior": posterior,
        "num_draws": found.num_draws,
        "num_prompts": found.khat.sizes[PROMPT_DIM],
        "powers": list(ALPHAS),
        "threshold": threshold,
        "khat_limit": khat_limit(found.num_draws),
        "components": [row._asdict() for row in component_rows(found, threshold)],
        "diagnoses": [row._asdict() for row in diagnosis_rows(found, threshold)],
        "khat": dict(zip(names, _plain(found.khat.values), strict=True)),
        "items": items,
    }


def panels(found: Indices) -> dict[str, dict[str, dict[str, ArrayLike]]]:
    """Return the panels of the figure: reliable indices of prior and likelihood, by objective.

    For :func:`vrm_pyro.report.plots.sensitivity_intervals`.
    """
    kept = found.index.where(reliable(found))
    made: dict[str, dict[str, dict[str, ArrayLike]]] = {}
    for name, array in kept.data_vars.items():
        title = TITLES[str(name)]
        if OBJECTIVE_DIM in array.dims:
            made[title] = {
                str(objective): _series(array.sel({OBJECTIVE_DIM: objective}))
                for objective in array[OBJECTIVE_DIM].values
            }
        else:
            made.setdefault("rewards", {})[title] = _series(array)
    return made


def _series(array: xr.DataArray) -> dict[str, ArrayLike]:
    return {name: array.sel({COMPONENT_DIM: name}).values for name in (PRIOR, LIKELIHOOD)}


def _plain(values: Any) -> Any:
    """Return nested lists of numbers, null for numbers that are not finite."""
    return np.where(np.isfinite(values), values, np.array(None)).tolist()


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0%}"
