"""Check the values of a feature store: in range, finite, and lengths and indices that agree."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.source import OPTIONAL_COLUMNS

Arrays = dict[str, NDArray[Any]]


def value_problem(folder: Path, meta: dict[str, Any], arrays: Arrays) -> str | None:
    """Return the first value that an array of a store cannot hold, with file and row, or None.

    Args:
        folder: The store.
        meta: Its description.
        arrays: Its arrays by name; their shapes and types are as described.
    """
    prompts, responses = meta["num_prompts"], meta["num_responses"]
    limits: dict[str, tuple[float, float]] = {
        "response_prompt": (0, prompts - 1),
        "pair_first": (0, responses - 1),
        "pair_second": (0, responses - 1),
        "preference": (0, 1),
        "pair_weight": (0, np.finfo(np.float64).max),
        "table_pairs": (0, np.iinfo(np.int64).max),
        "prompt_tokens": (0, np.iinfo(np.int64).max),
        "response_tokens": (0, np.iinfo(np.int64).max),
    }
    for name, (low, high) in limits.items():
        allowed = f"from {low} to {high}" if high < 1e18 else f"finite and at least {low}"
        # NaN is neither, so the condition is on what is right.
        right = (arrays[name] >= low) & (arrays[name] <= high)
        problem = _row(folder, name, arrays[name], right, allowed)
        if problem:
            return problem
    for name, absent in {"ratings": np.nan, **OPTIONAL_COLUMNS}.items():
        if name not in arrays:
            continue
        least = 0 if name == "pair_margin" else -np.inf
        right = (np.isfinite(arrays[name]) & (arrays[name] >= least)) | np.isnan(arrays[name])
        words = f"{'at least 0' if name == 'pair_margin' else 'finite'}, or NaN for none"
        if not np.isnan(absent):
            right, words = arrays[name] >= absent, f"at least {absent:g}"
        problem = _row(folder, name, arrays[name], right, words)
        if problem:
            return problem
    owner = np.asarray(arrays["response_prompt"])
    first, second = np.asarray(arrays["pair_first"]), np.asarray(arrays["pair_second"])
    right = (owner[first] == owner[second]) & (first != second)
    words = "another response to the prompt of pair_first"
    return _row(folder, "pair_second", second, right, words)


def _row(
    folder: Path, name: str, array: NDArray[Any], right: NDArray[np.bool_], allowed: str
) -> str | None:
    if right.all():
        return None
    place = np.unravel_index(np.flatnonzero(~np.asarray(right).reshape(-1))[0], array.shape)
    shown = ", ".join(map(str, place))
    return f"{folder / name}.npy: row {shown} is {array[place]}, but must be {allowed}"
