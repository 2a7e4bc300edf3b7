"""Write the score file of some rows: what ``vrm-pyro score`` does."""

import math
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from vrm_pyro.atomic import check_file
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, data_name, read_data
from vrm_pyro.features.refused import without_refused
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.opening import ModelLike, as_model, as_scorer, read_inputs
from vrm_pyro.prediction.rating_range import log_outside, outside
from vrm_pyro.prediction.scorer.lines import table_lines, write_scores
from vrm_pyro.prediction.scorer.output_rows import OutputRows
from vrm_pyro.prediction.scorer.parquet import prompt_schema, score_schema, write_parquet
from vrm_pyro.prediction.scorer.parts import ScoreParts, parts_key
from vrm_pyro.prediction.scorer.prompt_lines import prompt_lines
from vrm_pyro.prediction.scorer.scorer import Scorer
from vrm_pyro.prediction.scorer.scores import score_source
from vrm_pyro.prediction.scorer.sharded import SHARD_ROWS, Throughput, score_shards
from vrm_pyro.processes import Share, from_main, wait_for_all

PER: Final = ("response", "prompt")
"""What a score file can have a line for."""


@dataclass(frozen=True)
class ScoreFile:
    """A score file, or the parts of it that this process has finished.

    Args:
        path: The file.
        lines: Its number of lines; None while other processes are still at work.
        throughput: How fast texts were read; None where no backbone ran.
        parts: The folder of its parts, and how many of how many this process has finished; None
            where the file needed none.
        precision: What the backbone computed in, ``float32`` or ``bfloat16``; None where none ran.
    """

    path: Path
    lines: int | None = None
    throughput: Throughput | None = None
    parts: tuple[Path, int, int] | None = None
    precision: str | None = None


def score_file(
    model: ModelLike,
    data: DataLike,
    out: str | os.PathLike[str],
    *,
    per: str = "response",
    k: float = 1.0,
    shard_rows: int = SHARD_ROWS,
    share: Share | None = None,
    merge: bool = False,
    overwrite: bool = False,
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    progress: bool = False,
    cache: bool = True,
) -> ScoreFile:
    """Write a line for each response of each row, or for each prompt, as JSONL or Parquet.

    A stopped call is resumed by the same call: finished shards lie in ``OUT.parts`` until then.
    Lines come in the order of the rows, with their ids, for equal responses too. Rows may hold
    several ``responses`` without ``ranks``. Labels and ratings are not read.
    :func:`~vrm_pyro.prediction.scorer.lines.table_lines` says what a line holds;
    :func:`~vrm_pyro.prediction.scorer.prompt_lines.prompt_lines`, what a line of a prompt does.

    Args:
        model: The folder of a run, a run, a loaded model or a scorer.
        data: Rows in any form.
        out: The file; Parquet if its name ends in ``.parquet``.
        per: What has a line: ``response`` or ``prompt``.
        k: Standard deviations that ``lower_bound`` of a line by prompt subtracts.
        shard_rows: Rows whose states are in memory at a time; by prompt, whole ones.
        share: Which part of the work this process does; all of it when omitted.
        merge: Only put together what all processes have done.
        overwrite: Throw away parts that a stopped call with other settings left.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        device: Where the backbone runs.
        dtype: Its precision; that of training when omitted.
        progress: Whether to show a progress bar.
        cache: See :func:`~vrm_pyro.features.memory.encode_table`.

    Raises:
        InputError: If model or rows cannot be read, the file cannot be written, or parts are
            missing or belong to other settings.
    """
    if shard_rows < 1:
        raise InputError(f"--shard_rows is {shard_rows}, but must be at least 1.")
    if per not in PER:
        raise InputError(f"--per is {per!r}, but must be one of {', '.join(PER)}.")
    if not math.isfinite(k):
        raise InputError(f"--k is {k}, but must be a finite number such as 1.0.")
    by_prompt = per == "prompt"
    share = share or Share()
    check_file(out)
    refuse_input_as_output(out, [data, model])
    loaded = as_model(model)
    read = read_data(data, skip_invalid=skip_invalid, split=split, every_row=True)
    if not isinstance(read, PreferenceTable):
        if not share.alone or merge:
            raise InputError(
                f"--data {data_name(data)}: is a feature store, whose states are there already; "
                "it is scored at once. Leave --num_shards, --shard and --merge out."
            )
        inputs = read_inputs(loaded, read)
        scores = score_source(loaded.model, inputs.source)
        names, ranges = loaded.objectives, loaded.rating_ranges
        if scores.scores is not None:
            far = outside(scores.scores, names, ranges)
            log_outside(str(out), far.sum(0), len(far), names, ranges)
        made = table_lines(scores, inputs.table, names, ranges)
        if by_prompt:
            made = prompt_lines(loaded.model, inputs.source, scores, inputs.table, k)
        return ScoreFile(Path(out), _write(made, loaded, out, by_prompt))
    if loaded.directory is None:
        raise InputError("the model lies in no folder. Write it with save_model and load it.")
    scorer = None
    if skip_invalid or not merge:
        given = model if isinstance(model, Scorer) else loaded
        scorer = as_scorer(given, device=device, dtype=dtype)
    if skip_invalid and scorer is not None:
        read = without_refused(read, scorer.backbone)
    rows = OutputRows(read, by_prompt)
    parts = ScoreParts(out, len(rows.shards(shard_rows)))
    kind = f"prompt, lower bound at {k:g} sd" if by_prompt else per
    if merge:
        parts.check(parts_key(loaded.directory, read, shard_rows, None, kind))
        return ScoreFile(Path(out), _merge(parts, loaded, by_prompt))
    assert scorer is not None
    key = parts_key(loaded.directory, read, shard_rows, scorer.backbone, kind)
    share.begin(lambda: parts.claim(key, overwrite))
    shards = range(share.index, parts.count, share.count)
    try:
        speed = score_shards(
            scorer, rows, parts, shards, shard_rows, progress=progress, cache=cache, k=k
        )
    except BaseException:
        if share.alone:  # else another process may be at work there
            parts.remove_if_empty()
        raise
    lines = None
    if share.together:
        wait_for_all()
        lines = from_main(lambda: _merge(parts, loaded, by_prompt))
    elif share.alone:
        lines = _merge(parts, loaded, by_prompt)
    done = (parts.folder, len(shards), parts.count)
    return ScoreFile(Path(out), lines, speed, done, scorer.backbone.precision)


def _merge(parts: ScoreParts, loaded: LoadedModel, by_prompt: bool) -> int:
    missing = parts.missing()
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{parts.folder}: {len(missing)} of {parts.count} parts are missing ({shown}); part i "
            "is that of --shard i modulo --num_shards. Run what is unfinished again; it resumes "
            "where it stopped."
        )
    whole = parts.out.suffix != ".parquet"
    count = parts.merge() if whole else _write(parts.lines(), loaded, parts.out, by_prompt)
    parts.remove()
    return count


def _write(
    lines: Iterable[Mapping[str, Any]],
    loaded: LoadedModel,
    out: str | os.PathLike[str],
    by_prompt: bool,
) -> int:
    if Path(out).suffix == ".parquet":
        return write_parquet(lines, out, prompt_schema() if by_prompt else score_schema(loaded))
    return write_scores(lines, out)
