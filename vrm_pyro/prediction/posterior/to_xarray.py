"""Draws as an xarray DataTree in ArviZ's groups, and the file that holds one."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

import vrm_pyro
from vrm_pyro.atomic import write_file
from vrm_pyro.errors import InputError
from vrm_pyro.names import (
    FEATURE_DIM,
    FEATURES,
    OBJECTIVE_DIM,
    PAIR_DIM,
    PROMPT_DIM,
    QUANTILE_DIM,
    RESPONSE_DIM,
    WEIGHTS,
)
from vrm_pyro.prediction.posterior.draws import Draws
from vrm_pyro.prediction.posterior.labels import Names
from vrm_pyro.prediction.posterior.variables import QUANTILES, VARIABLES, Variable

CHAIN: Final = "chain"
DRAW: Final = "draw"
ENGINE: Final = "netcdf4"

# Notes on the groups: ArviZ's names mean something else for MCMC of global parameters.
_SUMMARY: Final = "Summaries of draws, not draws: mean, standard deviation, quantiles. Of group "
NOTES: Final[dict[str, str]] = {
    "posterior_summary": f"{_SUMMARY}posterior of a tree of draws.",
    "posterior_predictive_summary": f"{_SUMMARY}posterior_predictive of a tree of draws.",
    "prior_summary": f"{_SUMMARY}prior of a tree of draws.",
    "prior_predictive_summary": f"{_SUMMARY}prior_predictive of a tree of draws.",
    "posterior": "Independent draws of q(w, z | texts, outcomes), one set of latents per row: "
    "effective sample size and R-hat say nothing about them. Scores s are in model units; the "
    "expected raw rating is rating_loc + rating_scale * (s + rating_offset), all attributes of "
    "the root, where the model was trained on ratings.",
    "posterior_predictive": "Outcomes drawn given latents that have seen the outcomes: a check "
    "of fit. For calibration on held-out rows use the group named by predictive_group.",
    "prior": "Draws of the generative p(w, z | texts): what the texts alone say in mode "
    "conditional, the fixed prior in mode vib.",
    "prior_predictive": "Outcomes drawn given the latents of group prior.",
    "log_likelihood": "Log evidence of all outcomes of a prompt, w and z integrated out. The "
    "parameters are a point estimate, so every draw is the same and the expected log predictive "
    "density by leave-one-out is the sum: loo() needs log_weights = -log(draws) and pareto_k = 0.",
    "sample_stats": "Diagnostics of the guide. log_weight are log importance ratios: negate them "
    "for arviz_stats.psislw, which takes log likelihoods.",
}


def to_datatree(
    draws: Draws,
    names: Names | None = None,
    *,
    attrs: Mapping[str, Any] | None = None,
    constant_attrs: Mapping[str, Any] | None = None,
) -> xr.DataTree:
    """Return draws as a DataTree that ArviZ reads: one chain, ``draw`` for the draws.

    ::

        tree = vrm_pyro.to_datatree(vrm_pyro.draw_posterior("runs/rated", "test.jsonl"))
        tree["posterior"]["w"].mean(("chain", "draw"))

    Args:
        draws: What :func:`vrm_pyro.draw_posterior` returned.
        names: Names along the dimensions; those of the draws when omitted.
        attrs: Facts of the run for the root: text, numbers or flat lists of them; those of the
            draws when omitted.
        constant_attrs: Facts for ``constant_data``, such as how well the data identify the
            weights (spec 2.8).

    Raises:
        ValueError: If a list of names does not fit the draws, or there are none at all.
    """
    names = draws.names if names is None else names
    attrs = draws.facts if attrs is None else attrs
    if names is None:
        raise ValueError("to_datatree: draws of a module have no names; give names=Names(...).")
    coords = _coords(draws, names)
    num_repeats = 1 if draws.summarized else draws.num_draws
    datasets: dict[str, xr.Dataset] = {}
    for group, known in VARIABLES.items():
        held = draws.groups.get(group)
        if held:
            variables = {
                name: _array(group, array, known[name], num_repeats)
                for name, array in held.items()
            }
            used = {dim for v in variables.values() for dim in v.dims}
            local = {dim: coords[str(dim)] for dim in used}
            note = {"note": NOTES[group]} if group in NOTES else {}
            datasets[group] = xr.Dataset(variables, local, note)
    constant = datasets["constant_data"]
    for dim, subset in (
        (PAIR_DIM, names.pair_subset),
        (PROMPT_DIM, names.prompt_subset),
    ):
        if subset is not None and (dim == PROMPT_DIM or dim in constant.dims):
            values = np.array([s or "" for s in subset], dtype=object)
            array = xr.DataArray(values, {dim: coords[dim]}, (dim,))
            constant[f"{dim}_subset"] = array.assign_attrs(meaning=f"kind of {dim}, or empty")
    constant.attrs |= _plain(constant_attrs or {})
    tree = xr.DataTree.from_dict(datasets)
    tree.attrs = {
        "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "creation_library": "vrm_pyro",
        "creation_library_version": vrm_pyro.__version__,
        "inference_library": "pyro",
        "predictive_group": draws.predictive_group,
        **draws.rating_unit,
        **_plain(attrs),
    }
    return tree


def write_netcdf(tree: xr.DataTree, path: str | os.PathLike[str]) -> None:
    """Write a tree to a netCDF-4 file, whole or not at all.

    Arrays mapped to files are copied through without being read into memory at once. They lie
    in one piece: chunks of HDF5 would keep a part of them in its cache and gain nothing.

    Raises:
        InputError: If the file cannot be written there.
    """
    check_name(path)
    # No fill value: NaN is stored as it is, and xarray then does not rewrite the arrays.
    encoding = {
        f"/{group}": {str(v): {"_FillValue": None} for v in tree[group].data_vars}
        for group in tree.children
    }
    with write_file(path) as partial:
        tree.to_netcdf(partial, engine=ENGINE, encoding=encoding)


def check_name(path: str | os.PathLike[str]) -> None:
    """Raise InputError unless a file is named as a netCDF file."""
    if not os.fspath(path).endswith(".nc"):
        raise InputError(f"{path}: the posterior is a netCDF file; give a name that ends in .nc.")


def _array(group: str, array: NDArray[Any], variable: Variable, num_draws: int) -> xr.Variable:
    dims, attrs = variable.dims, {"meaning": variable.meaning}
    if variable.sampled:
        return xr.Variable((CHAIN, DRAW, *dims), array[None], attrs)
    if group == "log_likelihood":
        # ArviZ looks for chain and draw here; the view takes no memory.
        repeated = np.broadcast_to(array, (1, num_draws, *array.shape))
        return xr.Variable((CHAIN, DRAW, *dims), repeated, attrs)
    return xr.Variable(dims, array, attrs)


def _coords(draws: Draws, names: Names) -> dict[str, Any]:
    if draws.summarized:
        posterior = draws.groups["posterior_summary"]
        shapes = [posterior[f"{name}_mean"].shape for name in (WEIGHTS, FEATURES)]
    else:
        posterior = draws.groups["posterior"]
        shapes = [posterior[name].shape[1:] for name in (WEIGHTS, FEATURES)]
    (num_prompts, num_objectives), (num_responses, num_features) = shapes
    num_pairs = len(draws.groups["constant_data"].get("pair_first", ()))
    if len(names.objectives) != num_objectives:
        raise ValueError(
            f"{len(names.objectives)} objective names for {num_objectives} objectives."
        )
    if names.pair_subset is not None and len(names.pair_subset) != num_pairs:
        raise ValueError(f"{len(names.pair_subset)} subsets for {num_pairs} pairs.")
    if names.prompt_subset is not None and len(names.prompt_subset) != num_prompts:
        raise ValueError(f"{len(names.prompt_subset)} subsets for {num_prompts} prompts.")
    return {
        CHAIN: np.arange(1),
        DRAW: np.arange(1 if draws.summarized else draws.num_draws),
        QUANTILE_DIM: np.array(QUANTILES),
        OBJECTIVE_DIM: np.array(list(names.objectives), dtype=object),
        FEATURE_DIM: np.arange(num_features),
        PROMPT_DIM: _labels("prompt", names.prompt, num_prompts),
        RESPONSE_DIM: _labels("response", names.response, num_responses),
        PAIR_DIM: _labels("pair", names.pair, num_pairs),
    }


def _labels(kind: str, names: Sequence[str | None] | None, size: int) -> NDArray[Any]:
    """Return names where all are there and differ; positions otherwise."""
    if names is None:
        return np.arange(size)
    if len(names) != size:
        raise ValueError(f"{len(names)} names for {size} items of dimension {kind}.")
    if any(name is None for name in names) or len(set(names)) < size:
        return np.arange(size)
    return np.array(list(names), dtype=object)


def _plain(attrs: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as netCDF stores them: no booleans, no None, no nesting."""
    plain: dict[str, Any] = {}
    for name, value in attrs.items():
        if value is None:
            continue
        if isinstance(value, bool | np.bool_):
            value = int(value)
        elif isinstance(value, tuple | list):
            value = list(value)
        plain[name] = value
    return plain
