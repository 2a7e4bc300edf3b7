"""Check the groups of a posterior file: what must be there, sizes, indices and values."""

import math
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS
from vrm_pyro.errors import InputError
from vrm_pyro.names import OBJECTIVE_DIM, PROMPT_DIM, RESPONSE_DIM, REWARD, SCORES, WEIGHTS

_DRAWS: Final = ("chain", "draw")
_PAIR: Final = "pair"
#: Most numbers that are looked at together.
_BLOCK: Final = 4_000_000
#: Weights are stored in float32.
_TOLERANCE: Final = 1e-3


class _Variable(NamedTuple):
    dims: tuple[str, ...]
    low: float = -np.finfo(np.float64).max
    high: float = np.finfo(np.float64).max


_LOG: Final = _Variable((*_DRAWS, PROMPT_DIM), low=-np.inf)  # a draw may have density zero
NEEDED: Final[dict[str, dict[str, _Variable]]] = {
    "posterior": {
        WEIGHTS: _Variable((*_DRAWS, PROMPT_DIM, OBJECTIVE_DIM), 0.0, 1 + _TOLERANCE),
        SCORES: _Variable((*_DRAWS, RESPONSE_DIM, OBJECTIVE_DIM)),
        REWARD: _Variable((*_DRAWS, RESPONSE_DIM)),
    },
    "log_prior": {"lp_w": _LOG, "lp_z": _LOG._replace(dims=(*_DRAWS, RESPONSE_DIM))},
    "sample_stats": dict.fromkeys(
        ("log_weight", "lp_outcomes", "lp_ratings", "lp_preferences"), _LOG
    ),
    "constant_data": {"response_prompt": _Variable((RESPONSE_DIM,))},
}
_INDICES: Final = {
    "response_prompt": PROMPT_DIM,
    "pair_first": RESPONSE_DIM,
    "pair_second": RESPONSE_DIM,
    "pair_prompt": PROMPT_DIM,
}


def check_tree(tree: xr.DataTree) -> None:
    """Raise InputError unless a tree holds enough draws of all needed variables, all usable."""
    missing = [
        f"{group}/{name}"
        for group, names in NEEDED.items()
        for name in names
        if group not in tree.children or name not in tree[group].data_vars
    ]
    if missing:
        raise InputError(
            f"the posterior lacks {', '.join(missing)}, which power-scaling needs. Draw it again: "
            "vrm-pyro posterior of this version writes them."
        )
    problem = next(_problems(tree), None)
    if problem is not None:
        raise InputError(f"{problem}. Draw it again.")
    sizes = tree["posterior"].sizes
    num_draws = sizes["chain"] * sizes["draw"]
    if num_draws < MIN_DRAWS:
        raise InputError(
            f"the posterior has {num_draws} draws of every prompt; power-scaling reweights draws "
            f"and needs at least {MIN_DRAWS}, better 1000. Draw it again with --draws 1000."
        )


def _problems(tree: xr.DataTree) -> Iterator[str]:
    """Yield what is wrong; sizes before indices before values."""
    sizes: dict[Any, int] = {}
    for group, names in NEEDED.items():
        for name, wanted in names.items():
            yield from _shape_problem(tree, group, name, wanted.dims, sizes)
    for group, node in tree.children.items():  # those that power-scaling does not read, too
        for dim in (PROMPT_DIM, RESPONSE_DIM, OBJECTIVE_DIM, _PAIR):
            size = node.sizes.get(dim)
            if size is not None and size != sizes.setdefault(dim, size):
                yield f"{group!r} has {size} of {dim!r}, but other groups have {sizes[dim]}"
    constant = tree["constant_data"].data_vars
    pairs = [name for name in _INDICES if name != "response_prompt" and name in constant]
    if pairs and len(pairs) < 3:
        lacking = sorted(set(_INDICES) - set(constant))
        yield f"'constant_data/{lacking[0]}' is missing"
    for name in pairs:
        yield from _shape_problem(tree, "constant_data", name, (_PAIR,), sizes)
    for name in ("response_prompt", *pairs):
        yield from _index_problem(name, constant[name], sizes[_INDICES[name]])
    if pairs:
        owner = constant["response_prompt"].values
        first, second = (owner[constant[n].values] for n in ("pair_first", "pair_second"))
        wrong = (first != second) | (first != constant["pair_prompt"].values)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            yield f"'constant_data/pair_second' of pair {place} belongs to another prompt"
    for group, names in NEEDED.items():
        for name, wanted in names.items():
            if group != "constant_data":
                yield from _value_problem(tree, group, name, wanted)


def _shape_problem(
    tree: xr.DataTree, group: str, name: str, dims: tuple[str, ...], sizes: dict[Any, int]
) -> Iterator[str]:
    array = tree[group].data_vars[name]
    where = f"'{group}/{name}'"
    if array.dims != dims:
        yield f"{where} has dimensions {', '.join(map(str, array.dims))}, not {', '.join(dims)}"
        return
    for dim, size in array.sizes.items():
        if size != sizes.setdefault(dim, size):
            yield f"{where} has {size} of {dim!r}, but other variables have {sizes[dim]}"
    kinds = "iu" if group == "constant_data" else "f"
    if array.dtype.kind not in kinds:
        words = "indices" if "i" in kinds else "floats"
        yield f"{where} holds {array.dtype}, but must hold {words}"


def _index_problem(name: str, array: xr.DataArray, size: int) -> Iterator[str]:
    values = array.values
    wrong = (values < 0) | (values >= size)
    if wrong.any():
        yield (
            f"'constant_data/{name}' holds {values[wrong][0]}, but must be from 0 to {size - 1}"
        )


def _value_problem(tree: xr.DataTree, group: str, name: str, wanted: _Variable) -> Iterator[str]:
    array = tree[group].data_vars[name]
    width = math.prod(array.shape[:2]) * math.prod(array.shape[3:])
    step = max(1, _BLOCK // max(width, 1))
    for start in range(0, array.shape[2], step):
        values: NDArray[Any] = array[:, :, start : start + step].values
        # NaN is neither, so the condition is on what is right.
        right = (values >= wanted.low) & (values <= wanted.high)
        if not right.all():
            yield f"'{group}/{name}' holds {values[~right][0]}, but must hold {_words(wanted)}"
        elif name == WEIGHTS and (abs(values.sum(axis=-1) - 1) > _TOLERANCE).any():
            yield f"'{group}/{name}' must sum to 1 over objectives"


def _words(wanted: _Variable) -> str:
    return "numbers from 0 to 1" if wanted.low == 0 else "finite numbers"
