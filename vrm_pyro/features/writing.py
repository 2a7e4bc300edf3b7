"""Write a feature store shard by shard, so that a killed run can be resumed."""

import json
import logging
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vrm_pyro.atomic import claim_directory, write_file
from vrm_pyro.backbone import Backbone
from vrm_pyro.backbone.transformer import own_class
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import OPTIONAL_COLUMNS, optional_column
from vrm_pyro.errors import InputError
from vrm_pyro.features.cache import Encoded, Texts, cached
from vrm_pyro.features.meta import (
    FILE,
    FORMAT,
    KEY_PARTS,
    OPTIONAL,
    OPTIONAL_KEY_PARTS,
    VERSION,
    WRITING_PARTS,
    compare,
    read_meta,
)
from vrm_pyro.features.reading import DataLike, read_data, rows_of
from vrm_pyro.features.refused import naming_refused
from vrm_pyro.features.shards import array_problem, save_array, shard_path, shard_ranges
from vrm_pyro.features.store import (
    KINDS,
    FeatureStore,
    array_shapes,
    open_store,
    shard_problem,
    store_problem,
)
from vrm_pyro.features.texts import FILES, write_texts
from vrm_pyro.features.tokens import COLUMNS, settle, token_facts

SHARD_ROWS = 2048
"""Rows in a shard: about half a minute for a small encoder on two cores."""

STORED_DTYPES = ("float32", "float16")

log = logging.getLogger(__name__)


def write_store(
    data: DataLike,
    backbone: Backbone,
    out_dir: str | os.PathLike[str],
    *,
    max_length: int | None = None,
    resume: bool = True,
    overwrite: bool = False,
    progress: bool = True,
    shard_rows: int = SHARD_ROWS,
    dtype: str = "float32",
    merge: bool = False,
    cache: bool = False,
) -> FeatureStore:
    """Compute the states of all texts in rows and write them to a folder.

    To resume a killed run, call this again with the same arguments. Finished shards are kept,
    damaged ones are computed again. The result has the same bits as an uninterrupted run on this
    machine: shards are written atomically, and each depends on its rows only. A finished store
    with the same content is opened at once.

    Args:
        data: Rows in any form, see :data:`~vrm_pyro.features.reading.DataLike`.
        backbone: The backbone that reads the texts.
        out_dir: Folder to write; created if missing.
        max_length: Most tokens in a sequence, if other than the backbone's.
        resume: Whether to resume an existing store. If False, an existing store is an error, or
            replaced under ``overwrite``.
        overwrite: Whether to replace a store with other content.
        progress: Whether to show a progress bar with sequences per second.
        shard_rows: Rows in a shard. Larger shards need less padding, but a kill loses more work.
        dtype: ``float32`` or ``float16``, the stored type. Reading gives float32.
        merge: Compute nothing; only merge the results of :func:`write_shards`. Missing shards
            are an error.
        cache: Whether to use the disk cache, see :mod:`vrm_pyro.features.cache`. It does not
            change the numbers.

    Raises:
        InputError: If the folder holds other content, if states are not finite, or if no pair or
            rating is left.
    """
    table = rows_of(read_data(data))
    if max_length is not None and max_length != backbone.max_length:
        backbone = backbone.with_max_length(max_length)
    folder = Path(out_dir)
    plan = _plan(table, backbone, shard_rows, dtype)
    if merge and not (folder / FILE).is_file():
        raise InputError(f"{folder}: holds no shards to merge. Compute them with --shard first.")
    if (
        _begin(folder, plan, resume, overwrite)
        and store_problem(folder, read_meta(folder)) is None
    ):
        log.info("%s: the store is finished already", folder)
        return open_store(folder)
    work = list(_missing_shards(folder, plan))
    if merge and work:
        raise InputError(
            f"{folder}: {len(work)} shards are missing. Run the command with each --shard to its "
            "end before --merge."
        )
    _compute(table, backbone, folder, plan, work, progress, cache)
    return _finish(folder, table, plan)


def write_shards(
    table: PreferenceTable,
    backbone: Backbone,
    out_dir: str | os.PathLike[str],
    *,
    shard: int,
    num_shards: int,
    progress: bool = True,
    shard_rows: int = SHARD_ROWS,
    dtype: str = "float32",
) -> None:
    """Compute one part of a store, in parallel with other processes or machines.

    This computes every ``num_shards``-th file of the store. On equal machines the files have the
    same bits as those of a single process. When all parts are done, :func:`write_store` with
    ``merge`` completes the store. To resume a killed part, call this again.

    Args:
        table: The rows.
        backbone: The backbone that reads the texts.
        out_dir: Folder to write, the same for all parts.
        shard: Which part this is, from 0.
        num_shards: Number of parts.
        progress: Whether to show a progress bar.
        shard_rows: See :func:`write_store`.
        dtype: See :func:`write_store`.

    Raises:
        InputError: As :func:`write_store`.
    """
    folder = Path(out_dir)
    plan = _plan(table, backbone, shard_rows, dtype)
    try:
        finished = _begin(folder, plan, True, False)
    except InputError:
        # Another part may have created the folder since the check.
        if not (folder / FILE).is_file():
            raise
        finished = _begin(folder, plan, True, False)
    if not finished:
        own = [work for work in _missing_shards(folder, plan) if work[1] % num_shards == shard]
        _compute(table, backbone, folder, plan, own, progress)


def _compute(
    table: PreferenceTable,
    backbone: Backbone,
    folder: Path,
    plan: dict[str, Any],
    work: list[tuple[str, int, int, int]],
    progress: bool,
    cache: bool = False,
) -> None:
    total = sum(end - first for _, _, first, end in work)
    dtype = plan["writing"]["dtype"]
    kept = plan["num_prompts"] + plan["num_responses"] - total
    if kept:
        log.info("%s: %d sequences are done already, %d left", folder, kept, total)
    bars = tqdm(total=total, unit="seq", desc="features", disable=not progress)
    with naming_refused(table, backbone), bars as bar:
        for kind, index, first, end in work:
            texts = _texts(table, kind, np.arange(first, end))

            def compute(texts: Texts = texts) -> Encoded:
                return _encode(texts, backbone, bar.update)

            encoded, found = cached(texts, backbone, compute) if cache else (compute(), False)
            bar.update(end - first if found else 0)
            states, facts = encoded.of(kind)
            block = _checked(states, dtype, f"{kind} {first} to {end - 1}")
            save_array(_facts_path(folder, kind, index), facts)
            # Written last: a shard counts as done once its states exist.
            save_array(shard_path(folder, kind, index), block)


def _plan(
    table: PreferenceTable, backbone: Backbone, shard_rows: int, dtype: str
) -> dict[str, Any]:
    if dtype not in STORED_DTYPES:
        raise InputError(f"dtype is {dtype!r}, but must be one of {', '.join(STORED_DTYPES)}.")
    if shard_rows < 1:
        raise InputError(f"shard_rows is {shard_rows}, but must be at least 1.")
    if table.num_responses == 0:
        raise InputError("the table has no response, so there is nothing to encode.")
    optional = [name for name in OPTIONAL_COLUMNS if optional_column(table, name) is not None]
    return {
        "format": FORMAT,
        "version": VERSION,
        "complete": False,
        "key": {"rows": table.content_hash(), **backbone.key()},
        "writing": {
            "dtype": dtype,
            "shard_rows": shard_rows,
            "token_budget": backbone.token_budget,
            "precision": backbone.precision,
        },
        "backbone": {
            "name": backbone.name,
            "source": backbone.source,
            "is_decoder": backbone.is_decoder,
            **own_class(backbone),
        },
        "hidden_size": backbone.hidden_size,
        "num_prompts": table.num_prompts,
        "num_responses": table.num_responses,
        "num_pairs": table.num_pairs,
        "objectives": list(table.objectives),
        "report": asdict(table.report),
        "sizes": {},
        **({OPTIONAL: optional} if optional else {}),
    }


def _begin(folder: Path, plan: dict[str, Any], resume: bool, overwrite: bool) -> bool:
    """Prepare the folder for writing; return True if it already holds the finished store."""
    if (folder / FILE).is_file() and resume:
        try:
            held = read_meta(folder)
            compare(str(folder), held["key"], plan["key"], KEY_PARTS | OPTIONAL_KEY_PARTS)
            if held["complete"] and store_problem(folder, held) is None:
                return True
            compare(str(folder), held["writing"], plan["writing"], WRITING_PARTS)
        except InputError:
            if not overwrite:
                raise
        else:
            return False
    elif (folder / FILE).is_file() and not overwrite:
        raise InputError(
            f"{folder}: holds a feature store already. Let it be resumed, choose another folder, "
            "or pass --overwrite to replace it."
        )
    claim_directory(folder, marker=FILE, content=_json(plan), overwrite=overwrite)
    return False


def _missing_shards(folder: Path, plan: dict[str, Any]) -> Iterator[tuple[str, int, int, int]]:
    for kind in KINDS:
        ranges = shard_ranges(plan[f"num_{kind}"], plan["writing"]["shard_rows"])
        for index, (first, end) in enumerate(ranges):
            problem = shard_problem(folder, plan, kind, index)
            facts = _facts_path(folder, kind, index)
            problem = problem or array_problem(facts, (end - first, COLUMNS), np.int64)
            if problem is None:
                continue
            if problem != "is missing":
                path = shard_path(folder, kind, index)
                log.warning("%s: %s; it is computed again", path, problem)
            yield kind, index, first, end


def _texts(table: PreferenceTable, kind: str, rows: NDArray[np.int64]) -> Texts:
    """Return the texts of one shard."""
    if kind == "prompts":
        return Texts([table.prompts[i] for i in rows], [], [], rows[:0])
    owners, position = np.unique(table.response_prompt[rows], return_inverse=True)
    responses = [table.responses[i] for i in rows]
    return Texts([], [table.prompts[i] for i in owners], responses, position)


def _encode(texts: Texts, backbone: Backbone, progress: Callable[[int], None]) -> Encoded:
    """Compute the states of one shard."""
    prompts = backbone.sequences(texts.prompts)
    responses = backbone.sequences(texts.owners, texts.responses, texts.response_prompt)
    none = np.zeros((0, backbone.hidden_size), np.float32)
    return Encoded(
        backbone.states(prompts, progress=progress) if prompts else none,
        backbone.states(responses, progress=progress) if responses else none,
        token_facts(prompts),
        token_facts(responses),
    )


def _checked(states: NDArray[np.float32], dtype: str, what: str) -> NDArray[Any]:
    with np.errstate(over="ignore"):  # an overflow is reported just below
        block = states.astype(dtype)
    if np.isfinite(block).all():
        return block
    if np.isfinite(states).all():
        raise InputError(
            f"{what}: states reach {np.abs(states).max():.3g}, beyond float16. Store them with "
            "dtype float32."
        )
    raise InputError(
        f"{what}: the backbone gave states that are not finite. Try --model.dtype float32; if "
        "that does not help, its weights are damaged."
    )


def _finish(folder: Path, table: PreferenceTable, plan: dict[str, Any]) -> FeatureStore:
    facts = {
        kind: np.concatenate(
            [
                np.load(_facts_path(folder, kind, i), allow_pickle=False)
                for i in range(
                    len(shard_ranges(plan[f"num_{kind}"], plan["writing"]["shard_rows"]))
                )
            ]
        )
        for kind in KINDS
    }
    settled, table_pairs = settle(table, facts["prompts"], facts["responses"])
    meta = {
        **plan,
        "complete": True,
        "num_pairs": settled.num_pairs,
        "report": asdict(settled.report),
    }
    arrays = {
        "table_pairs": table_pairs,
        "prompt_tokens": facts["prompts"][:, 0],
        "response_tokens": facts["responses"][:, 0],
    }
    for name, (_, dtype) in array_shapes(meta).items():
        array = arrays.get(name, getattr(settled, name, None))
        save_array(folder / f"{name}.npy", np.ascontiguousarray(array, dtype=dtype))
    write_texts(folder, settled)
    meta["sizes"] = {name: os.path.getsize(folder / name) for name in FILES}
    with write_file(folder / FILE) as partial:
        partial.write_text(_json(meta), encoding="utf-8")
    for leftover in folder.glob(".*.partial*"):  # left by runs that were killed while writing
        leftover.unlink()
    log.info("%s: %s", folder, settled.report.summary())
    return open_store(folder)


def _facts_path(folder: Path, kind: str, index: int) -> Path:
    return folder / f"{kind}-{index:05d}.tokens.npy"


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=1, sort_keys=True, ensure_ascii=False)
