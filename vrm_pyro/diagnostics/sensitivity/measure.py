"""Sensitivity of a posterior file to its priors and outcomes, for each prompt (spec 4.9)."""

import math
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from html import escape
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.sparse import csr_array
from tqdm import tqdm

from vrm_pyro.diagnostics.metrics.power_scaling import (
    Floats,
    khat_limit,
    khat_of_power,
    power_scaling_index,
    smooth,
)
from vrm_pyro.diagnostics.sensitivity.indices import (
    COMPONENT_DIM,
    FEATURES_PRIOR,
    LIKELIHOOD,
    PREFERENCES,
    PRIOR,
    RATINGS,
    WEIGHTS_PRIOR,
    Indices,
)
from vrm_pyro.diagnostics.sensitivity.posterior_groups import check_tree
from vrm_pyro.diagnostics.sensitivity.rendering import table
from vrm_pyro.errors import InputError
from vrm_pyro.names import DELTA, OBJECTIVE_DIM, PROMPT_DIM, RESPONSE_DIM, REWARD, SCORES, WEIGHTS

# Most draws times quantities in one block.
BLOCK_SIZE: Final = 1_000_000
# Most items of each quantity for the noise estimate.
NOISE_ITEMS: Final = 300
NOISE_QUANTILE: Final = 0.9


class Sensitivity(Indices):
    """The indices that :func:`sensitivity` returns; it prints as the table of ``psense``.

    ::

        found = vrm_pyro.sensitivity("runs/rated/posterior.nc")
        print(found)
        found.index["w"].sel(component="prior")  # by prompt and objective
    """

    def __repr__(self) -> str:
        """Return sizes and, by quantity, the median index of prior and likelihood."""
        where = {COMPONENT_DIM: [PRIOR, LIKELIHOOD]}
        medians = {
            str(name): np.nanmedian(array.sel(where).values.reshape(2, -1), axis=1)
            for name, array in self.index.data_vars.items()
        }
        found = ", ".join(f"{name} {a:.3f} / {b:.3f}" for name, (a, b) in medians.items())
        return (
            f"Sensitivity({self.khat.sizes[PROMPT_DIM]} prompts, {self.num_draws} draws; "
            f"median index, prior / likelihood: {found})"
        )

    def __str__(self) -> str:
        """Return the table: components, then diagnoses, at the usual threshold."""
        return table(self)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def sensitivity(
    posterior: str | os.PathLike[str] | xr.DataTree, *, seed: int = 0, progress: bool = False
) -> Sensitivity:
    """Power-scale priors and likelihood of every prompt (spec 4.9).

    Posteriors of prompts (w, and the z of their responses) are independent, so each prompt has
    separate importance weights. The draws come from the guide; Pareto-smoothed weights of
    ``log_weight`` make them represent the exact posterior. Raising a part p of the joint density
    to alpha multiplies these weights by p^(alpha - 1). The parts:

    * ``prior``: p(w) and p(z) of all responses; ``weights prior`` and ``features prior``: one of
      them;
    * ``likelihood``: all outcomes of the prompt; ``ratings`` (with power lambda) and
      ``preferences``: one kind of outcome, if the file has both.

    Args:
        posterior: A result of :func:`vrm_pyro.prediction.posterior.to_xarray.to_datatree`, in
            memory or opened lazily; or a file that ``write_posterior`` wrote.
        seed: Seed of the shuffling for ``noise``.
        progress: Whether to show a bar on stderr.

    Raises:
        InputError: If the file does not exist, a group or variable is missing or holds values
            that it cannot have, or there are fewer than 100 draws.
    """
    if isinstance(posterior, xr.DataTree):
        return _sensitivity(posterior, seed, progress)
    with open_posterior(posterior) as tree:
        try:
            return _sensitivity(tree, seed, progress)
        except InputError as error:
            raise InputError(f"{os.fspath(posterior)}: {error}") from error
        except (RuntimeError, OSError) as error:  # of the netCDF library
            raise InputError(
                f"{os.fspath(posterior)}: cannot be read ({error}). Draw it again."
            ) from error


@contextmanager
def open_posterior(path: str | os.PathLike[str]) -> Iterator[xr.DataTree]:
    """Open a posterior file without reading its arrays.

    Raises:
        InputError: If the file does not exist, or is not a netCDF file.
    """
    advice = "Give what vrm-pyro posterior wrote."
    if not Path(path).is_file():
        raise InputError(f"{os.fspath(path)}: no such file. {advice}")
    try:
        tree = xr.open_datatree(path, engine="netcdf4")
    except (OSError, ValueError) as error:
        raise InputError(f"{os.fspath(path)}: is not a netCDF file ({error}). {advice}") from error
    with tree:
        yield tree


def _sensitivity(tree: xr.DataTree, seed: int, progress: bool) -> Sensitivity:
    check_tree(tree)
    responses = _positions(tree, "response_prompt")
    posterior = _joint(tree, responses)
    quantities = dict(_quantities(tree, responses))
    rng = np.random.default_rng(seed)
    index: dict[str, Any] = {}
    noise: dict[str, Any] = {}
    total = sum(len(prompt) for _, prompt in quantities.values())
    with tqdm(total=total, desc="psense", unit="item", disable=not progress) as bar:
        for name, (array, prompt) in quantities.items():
            found, high = _measure(array, prompt, posterior, rng, bar)
            index[name] = ((COMPONENT_DIM, *array.dims[2:]), found)
            noise[name] = (COMPONENT_DIM, high)
    components = list(posterior.parts)
    dims = [dim for item_dims, _ in index.values() for dim in item_dims]
    khat_dims = [COMPONENT_DIM, PROMPT_DIM]
    return Sensitivity(
        xr.Dataset(index, _coords(tree, components, dims)),
        xr.DataArray(posterior.khat, _coords(tree, components, khat_dims), khat_dims),
        {name: prompt for name, (_, prompt) in quantities.items()},
        xr.Dataset(noise, {COMPONENT_DIM: components}),
        len(posterior.weights),
    )


class _Joint(NamedTuple):
    """Weights of the draws of every prompt (S, P), its parts, each (S, P), and k (C, P)."""

    weights: Floats
    parts: dict[str, Floats]
    khat: Floats


def _joint(tree: xr.DataTree, responses: NDArray[np.int64]) -> _Joint:
    log_weight = _draws(_array(tree, "sample_stats", "log_weight"))
    parts = _parts(tree, responses)
    base = smooth(log_weight)
    khat = [np.maximum(base.khat, khat_of_power(log_weight, part)) for part in parts.values()]
    return _Joint(base.weights, parts, np.stack(khat))


def _parts(tree: xr.DataTree, responses: NDArray[np.int64]) -> dict[str, Floats]:
    """Return the log density of each part of every prompt, (S, P)."""
    lp_w, lp_z = (_draws(_array(tree, "log_prior", name)) for name in ("lp_w", "lp_z"))
    rows = np.arange(len(responses))
    belongs = csr_array((np.ones(len(rows)), (rows, responses)), shape=(len(rows), lp_w.shape[1]))
    lp_z = lp_z @ belongs
    statistics = tree["sample_stats"].to_dataset()
    parts = {
        PRIOR: lp_w + lp_z,
        WEIGHTS_PRIOR: lp_w,
        FEATURES_PRIOR: lp_z,
        LIKELIHOOD: _draws(statistics["lp_outcomes"]),
    }
    if _one_objective(tree):
        del parts[WEIGHTS_PRIOR]
    kinds = {
        RATINGS: _draws(statistics["lp_ratings"]),
        PREFERENCES: _draws(statistics["lp_preferences"]),
    }
    if all(kind.any() for kind in kinds.values()):
        parts |= kinds
    return parts


def _quantities(
    tree: xr.DataTree, responses: NDArray[np.int64]
) -> Iterator[tuple[str, tuple[xr.DataArray, NDArray[np.int64]]]]:
    """Yield each quantity (chain, draw, item, ...), with the prompt of each item.

    The weight of one objective is none: it is 1, whatever prior and outcomes say.
    """
    posterior, constant = (tree[name].to_dataset() for name in ("posterior", "constant_data"))
    prompts = np.arange(posterior.sizes[PROMPT_DIM], dtype=np.int64)
    if not _one_objective(tree):
        yield WEIGHTS, (posterior[WEIGHTS], prompts)
    yield SCORES, (posterior[SCORES], responses)
    yield REWARD, (posterior[REWARD], responses)
    if "pair_first" in constant.data_vars:
        reward = posterior[REWARD].load()
        first, second = (
            reward.isel({RESPONSE_DIM: constant[name]}).drop_vars(RESPONSE_DIM)
            for name in ("pair_first", "pair_second")
        )
        yield DELTA, (first - second, _positions(tree, "pair_prompt"))


def _one_objective(tree: xr.DataTree) -> bool:
    return bool(tree["posterior"].sizes[OBJECTIVE_DIM] == 1)


def _measure(
    array: xr.DataArray,
    prompt: NDArray[np.int64],
    posterior: _Joint,
    rng: np.random.Generator,
    bar: Any,
) -> tuple[Floats, Floats]:
    """Return the index of one quantity, (C, n, ...), and its noise, (C,), block by block."""
    num_items, num_draws = len(prompt), len(posterior.weights)
    found = np.full((len(posterior.parts), *array.shape[2:]), np.nan)
    shuffled: list[Floats] = []
    # Unreliable weights would add noise.
    good = np.all(posterior.khat <= khat_limit(num_draws), axis=0)[prompt]
    sampled = good & (np.arange(num_items) % max(1, num_items // NOISE_ITEMS) == 0)
    computed = np.all(np.isfinite(posterior.khat), axis=0)[prompt]
    width = num_draws * math.prod(array.shape[3:])
    for items in _blocks(num_items, max(1, BLOCK_SIZE // width)):
        values, mine = _draws(array[:, :, items]), prompt[items]
        kept = computed[items]
        found[:, items][:, kept] = _index(
            values[:, kept], posterior.weights, posterior.parts, mine[kept]
        )
        some = sampled[items]
        # One permutation of the draws for all parts; the weights are not permuted.
        order = rng.permutation(num_draws)
        mixed = {n: part[:, mine[some]][order] for n, part in posterior.parts.items()}
        weights = posterior.weights[:, mine[some]]
        unrelated = _index(values[:, some], weights, mixed, np.arange(some.sum()))
        shuffled.append(unrelated.reshape(len(mixed), -1))
        bar.update(len(mine))
    everything = np.concatenate(shuffled, axis=1)
    if everything.shape[1] == 0:
        return found, np.full(len(posterior.parts), np.nan)
    return found, np.quantile(everything, NOISE_QUANTILE, axis=1)


def _index(
    values: Floats, weights: Floats, parts: dict[str, Floats], prompt: NDArray[np.int64]
) -> Floats:
    """Return the index, (C, n, ...), of draws (S, n, ...) for items of these prompts."""
    inner = math.prod(values.shape[2:])
    column = np.repeat(prompt, inner)
    found = power_scaling_index(
        values.reshape(len(values), -1),
        weights[:, column],
        {name: part[:, column] for name, part in parts.items()},
    )
    return np.stack(list(found.values())).reshape(len(parts), *values.shape[1:])


def _blocks(size: int, length: int) -> Iterator[slice]:
    for start in range(0, size, length):
        yield slice(start, min(start + length, size))


def _array(tree: xr.DataTree, group: str, name: str) -> xr.DataArray:
    return tree[group].to_dataset()[name]


def _positions(tree: xr.DataTree, name: str) -> NDArray[np.int64]:
    return np.asarray(_array(tree, "constant_data", name).values, np.int64)


def _draws(array: xr.DataArray) -> Floats:
    """Return (chain, draw, ...) as (S, ...) in float64."""
    values = np.asarray(array.values, np.float64)
    return values.reshape(-1, *values.shape[2:])


def _coords(tree: xr.DataTree, components: list[str], dims: Sequence[Any]) -> dict[str, Any]:
    found: dict[str, Any] = {COMPONENT_DIM: components}
    for group in ("posterior", "constant_data"):
        known = tree[group].coords
        found |= {dim: known[dim].values for dim in dims if dim in known and dim not in found}
    return found
