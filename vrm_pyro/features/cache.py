"""Disk cache of states, keyed by texts and backbone.

An entry is a folder of four arrays. It is written atomically, so any number of processes may
read and write at the same time. A hit returns the same bits as computing again: the key covers
the texts in order and everything that determines the batches. No text is stored.
"""

import hashlib
import json
import logging
import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.turns import answer_mark
from vrm_pyro.errors import InputError
from vrm_pyro.features.shards import array_problem
from vrm_pyro.features.tokens import COLUMNS

FOLDER_VARIABLE = "VRM_PYRO_CACHE"
"""Environment variable that names the folder of the cache."""

LIMIT_VARIABLE = "VRM_PYRO_CACHE_GB"
"""Environment variable with the maximum size of the cache in GB; 0 turns it off."""

LIMIT_GB = 2.0
"""Maximum size of the cache if the variable is not set."""

FILE = "entry.json"
_FORMAT = "vrm-pyro states 2"
# A half-written entry older than this many seconds is from a killed process.
_ABANDONED = 24 * 3600.0

log = logging.getLogger(__name__)


class Encoded(NamedTuple):
    """States of the texts of a table, with their token counts and truncation flags.

    Args:
        prompts: States, float32, shape (P, hidden).
        responses: States, float32, shape (R, hidden).
        prompt_facts: :func:`~vrm_pyro.features.tokens.token_facts` of the prompts, shape (P, 5).
        response_facts: The same of the responses, shape (R, 5).
    """

    prompts: NDArray[np.float32]
    responses: NDArray[np.float32]
    prompt_facts: NDArray[np.int64]
    response_facts: NDArray[np.int64]

    def of(self, kind: str) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return states and facts of ``prompts`` or of ``responses``."""
        if kind == "prompts":
            return self.prompts, self.prompt_facts
        return self.responses, self.response_facts


def cache_folder() -> Path:
    """Return the cache's folder: ``VRM_PYRO_CACHE``, else ``~/.cache/vrm_pyro/states``."""
    named = os.environ.get(FOLDER_VARIABLE)
    return Path(named).expanduser() if named else Path.home() / ".cache" / "vrm_pyro" / "states"


def cache_limit() -> int:
    """Return the cache's maximum size in bytes: ``VRM_PYRO_CACHE_GB`` in GB, else 2 GB.

    Raises:
        InputError: If the variable is no number, or negative.
    """
    text = os.environ.get(LIMIT_VARIABLE) or LIMIT_GB
    try:
        limit = float(text)
        if not 0 <= limit < float("inf"):
            raise ValueError
    except ValueError as error:
        raise InputError(
            f"{LIMIT_VARIABLE} is {text!r}, but must be a number of GB, such as 2; 0 keeps "
            "nothing."
        ) from error
    return int(limit * 1e9)


class Texts(NamedTuple):
    """Texts to encode: those of a table, or of one shard of a store.

    Args:
        prompts: Prompts to encode without a response.
        owners: Prompts of the responses.
        responses: Responses to encode after their prompt.
        response_prompt: Index into ``owners`` of the prompt of each response, shape (R,).
    """

    prompts: Sequence[Any]
    owners: Sequence[Any]
    responses: Sequence[str]
    response_prompt: NDArray[np.int64]

    @classmethod
    def of(cls, table: PreferenceTable) -> "Texts":
        """Return all texts of a table."""
        return cls(table.prompts, table.prompts, table.responses, table.response_prompt)


def cached(
    texts: Texts, backbone: Backbone, compute: Callable[[], Encoded]
) -> tuple[Encoded, bool]:
    """Return the states of texts from the cache; on a miss, compute and store them.

    A damaged entry is computed again, with a line in the log. If the cache cannot be written,
    the states are still returned, with a warning.

    Args:
        texts: The texts.
        backbone: The backbone that reads them.
        compute: Computes the states.

    Returns:
        The states, and whether they were found.
    """
    key = _key(texts, backbone)
    name = hashlib.sha256(_text(key).encode()).hexdigest()[:32]
    entry, limit = cache_folder() / name, cache_limit()
    found = _find(entry, key, texts, backbone.hidden_size)
    if found is not None:
        log.info("%s: states of these texts were computed before (--no_cache ignores it)", entry)
        return found, True
    computed = compute()
    size = sum(array.nbytes for array in computed)
    if size > limit:
        log.info("%.1f GB of states are not kept: %s is less", size / 1e9, LIMIT_VARIABLE)
    else:
        _keep(entry, key, computed)
        _evict(entry, limit)
    return computed, False


def _key(texts: Texts, backbone: Backbone) -> dict[str, Any]:
    """Return everything that determines the states of texts, to the last bit."""
    digest = hashlib.sha256()
    for part in texts[:3]:
        encoded = json.dumps(list(part), ensure_ascii=False, sort_keys=True).encode()
        digest.update(len(encoded).to_bytes(8, "little") + encoded)
    digest.update(answer_mark(texts.responses))
    digest.update(np.ascontiguousarray(texts.response_prompt, dtype="<i8").tobytes())
    return {
        "format": _FORMAT,
        "texts": digest.hexdigest(),
        **backbone.key(),
        "precision": backbone.precision,
        "token_budget": backbone.token_budget,
        "device": backbone.device.type,
        "torch": torch.__version__,
    }


def _find(entry: Path, key: dict[str, Any], texts: Texts, hidden_size: int) -> Encoded | None:
    """Open an entry and mark it as used; None if it is missing or damaged."""
    if not (entry / FILE).is_file():
        return None
    prompts, responses = len(texts.prompts), len(texts.responses)
    shapes = [
        (rows, columns) for columns in (hidden_size, COLUMNS) for rows in (prompts, responses)
    ]
    dtypes = (np.float32, np.float32, np.int64, np.int64)
    try:
        problem = None
        if (entry / FILE).read_text(encoding="utf-8") != _text(key):
            problem = f"{FILE} belongs to other states"
        for name, shape, dtype in zip(Encoded._fields, shapes, dtypes, strict=True):
            found = array_problem(entry / f"{name}.npy", shape, dtype)
            problem = problem or (found and f"{name}.npy {found}")
        if problem is None:
            paths = [entry / f"{name}.npy" for name in Encoded._fields]
            arrays = [np.load(path, allow_pickle=False) for path in paths]
            os.utime(entry / FILE)
            return Encoded(*arrays)
    except (OSError, ValueError) as error:  # another process may have removed it meanwhile
        problem = str(error)
    log.warning("%s: %s; the states are computed again", entry, problem)
    _remove(entry)
    return None


def _keep(entry: Path, key: dict[str, Any], computed: Encoded) -> None:
    try:
        with write_directory(entry) as partial:
            for name in Encoded._fields:
                np.save(partial / f"{name}.npy", getattr(computed, name), allow_pickle=False)
            (partial / FILE).write_text(_text(key), encoding="utf-8")
    except (OSError, InputError) as error:
        if (entry / FILE).is_file():
            return  # another process computed the same states and was first
        log.warning(
            "states are not kept for other commands: %s Set %s to a folder where you may write, "
            "or pass --no_cache.",
            error,
            FOLDER_VARIABLE,
        )


def _evict(kept: Path, limit: int) -> None:
    """Remove the least recently used entries until the rest fit."""
    entries = []
    for entry in kept.parent.iterdir() if kept.parent.is_dir() else ():
        try:
            if (entry / FILE).is_file():
                size = sum(file.stat().st_size for file in entry.iterdir())
                entries.append(((entry / FILE).stat().st_mtime, size, entry))
            elif ".partial" in entry.name and time.time() - entry.stat().st_mtime > _ABANDONED:
                _remove(entry)
        except OSError:
            continue  # another process removed it
    total = sum(size for _, size, _ in entries)
    for _, size, entry in sorted(entries):
        if total <= limit:
            break
        if entry != kept:
            _remove(entry)
            total -= size


def _remove(entry: Path) -> None:
    """Remove an entry atomically, so that no process reads half of it."""
    retired = entry.with_name(f".{entry.name.lstrip('.')}.{os.getpid()}.partial")
    try:
        entry.rename(retired)
    except OSError:
        return  # another process removed it
    shutil.rmtree(retired, ignore_errors=True)


def _text(key: dict[str, Any]) -> str:
    return json.dumps(key, indent=1, sort_keys=True)
