"""Rows of states in memory-mapped shards."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.atomic import write_file
from vrm_pyro.errors import InputError


def shard_ranges(rows: int, shard_rows: int) -> list[tuple[int, int]]:
    """Return the half-open row range of every shard.

    >>> shard_ranges(5, shard_rows=2)
    [(0, 2), (2, 4), (4, 5)]
    """
    return [(start, min(start + shard_rows, rows)) for start in range(0, rows, shard_rows)]


def shard_path(folder: Path, kind: str, index: int) -> Path:
    """Return the path of a shard."""
    return folder / f"{kind}-{index:05d}.npy"


def save_array(path: Path, array: NDArray[Any]) -> None:
    """Write an array as ``.npy``, atomically."""
    with write_file(path) as partial, open(partial, "wb") as file:
        np.save(file, array, allow_pickle=False)


def map_array(path: Path) -> NDArray[Any]:
    """Memory-map a ``.npy`` file."""
    if array_size(path) == 0:
        return np.load(path, allow_pickle=False)  # an empty file cannot be mapped
    return np.load(path, mmap_mode="r", allow_pickle=False).view(np.ndarray)


def array_size(path: Path) -> int:
    """Return the number of elements in a ``.npy`` file, read from its header."""
    return int(np.prod(_header(path)[0]))


def array_problem(path: Path, shape: tuple[int, ...], dtype: Any) -> str | None:
    """Return what is wrong with a ``.npy`` file, or None; checks header and size."""
    if not path.is_file():
        return "is missing"
    try:
        found_shape, found_dtype, start = _header(path)
    except (ValueError, EOFError) as error:
        return f"is no .npy file ({error})"
    if found_shape != shape or found_dtype != np.dtype(dtype):
        return f"holds {found_dtype} {found_shape}, not {np.dtype(dtype)} {shape}"
    expected = start + int(np.prod(shape)) * np.dtype(dtype).itemsize
    size = os.path.getsize(path)
    if size != expected:
        return f"has {size} bytes, not {expected}: it was cut or changed"
    return None


def _header(path: Path) -> tuple[tuple[int, ...], Any, int]:
    with open(path, "rb") as file:
        version = np.lib.format.read_magic(file)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }
        if version not in read:
            raise ValueError(f"format version {version}")
        shape, _, dtype = read[version](file)
        return shape, dtype, file.tell()


class ShardedArray:
    """A two-dimensional array over several ``.npy`` files, read where it is indexed.

    ``array[rows]`` takes an integer, a slice, or an array of integers, and returns float32 copies
    of these rows; the rest stays on disk. Pickling it, for a worker process, stores the paths.

    Args:
        paths: Files in the order of the rows; all but the last hold ``shard_rows`` rows.
        shape: Rows and columns of the whole.
        shard_rows: Rows in a file.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, paths: Sequence[Path], shape: tuple[int, int], shard_rows: int) -> None:
        self.shape = shape
        self._paths, self._shard_rows = list(paths), shard_rows
        self._maps: dict[int, NDArray[Any]] = {}

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> tuple[Any, ...]:
        return ShardedArray, (self._paths, self.shape, self._shard_rows)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return self[:].astype(dtype or self.dtype, copy=False)

    def __getitem__(self, rows: Any) -> NDArray[np.float32]:
        if isinstance(rows, slice):
            rows = np.arange(*rows.indices(len(self)))
        index = np.asarray(rows)
        if index.dtype == bool:
            index = np.flatnonzero(index)
        if index.size and not (-len(self) <= index.min() and index.max() < len(self)):
            raise IndexError(f"row {index.max()} of an array with {len(self)} rows")
        flat = np.where(index < 0, index + len(self), index).astype(np.int64).reshape(-1)
        out = np.empty((flat.size, self.shape[1]), dtype=np.float32)
        shards = flat // self._shard_rows
        # One read per shard, whatever the order of the rows.
        order = np.argsort(shards, kind="stable")
        touched, starts = np.unique(shards[order], return_index=True)
        for shard, start, end in zip(touched, starts, [*starts[1:], len(order)], strict=False):
            places = order[start:end]
            out[places] = self._map(int(shard))[flat[places] - shard * self._shard_rows]
        return out.reshape(*index.shape, self.shape[1])

    def _map(self, shard: int) -> NDArray[Any]:
        if shard not in self._maps:
            self._maps[shard] = _finite(map_array(self._paths[shard]), self._paths[shard])
        return self._maps[shard]


def _finite(states: NDArray[Any], path: Path) -> NDArray[Any]:
    """Return states, once it is seen that all are finite.

    Raises:
        InputError: If one is not.
    """
    # One sum is several times faster than a mask, and is finite only if all numbers are.
    with np.errstate(over="ignore", invalid="ignore"):
        if np.isfinite(states.sum(dtype=np.float64)):
            return states
    row, column = np.argwhere(~np.isfinite(states))[0]
    raise InputError(
        f"{path}: the state in row {row} holds {states[row, column]}, but must be finite. Write "
        "the store again (--overwrite)."
    )
