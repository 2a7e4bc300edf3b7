"""``vrm-pyro score``: what a model says of every response."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.checkpoint import LoadedModel
from vrm_pyro.cli.inputs import (
    add_model_options,
    add_output_option,
    check_store,
    is_store,
    read_model,
    read_rows,
    read_scorer,
    read_store,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.sources import Inputs
from vrm_pyro.errors import InputError
from vrm_pyro.features.shards import shard_ranges
from vrm_pyro.scorer import score_source, table_lines, write_scores
from vrm_pyro.scorer.output_rows import OutputRows
from vrm_pyro.scorer.parquet import score_schema, write_parquet
from vrm_pyro.scorer.parts import ScoreParts, parts_key
from vrm_pyro.scorer.sharded import SHARD_ROWS, score_shards


def build_parser() -> ArgumentParser:
    """Return the options of ``score``."""
    parser = new_parser(
        "score",
        "Write a line for each response of each row: reward_mean, reward_sd, weights and "
        "scores by objective, and p_chosen for comparisons. Labels and ratings are not read. "
        "Compare rewards of responses to the same prompt only. A stopped run goes on where it "
        "was; finished shards lie in OUT.parts until then.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSONL file to write, or Parquet if its name ends in .parquet")
    for name, default, text in (
        ("shard_rows", SHARD_ROWS, "Rows whose states are in memory at a time."),
        ("num_shards", 1, "Number of processes that share the work, each with a --shard."),
    ):
        parser.add_argument(f"--{name}", type=int, default=default, help=text)
    parser.add_argument(
        "--shard",
        type=int | None,
        default=None,
        help="Which of the --num_shards this process is, from 0. All write beside the same --out.",
    )
    parser.add_argument(
        "--merge",
        action="store_true",
        help="Put the parts of all processes together; the backbone is not needed.",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Throw parts away that a stopped run with other settings left.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Score and write."""
    options = parse(build_parser(), argv)
    _check_options(options)
    loaded = read_model(options)
    if is_store(options.data):
        store = read_store(options.data)
        check_store(store, loaded, options.model)
        inputs = Inputs.of(store)
        scores = score_source(loaded.model, inputs.source)
        count = _write(table_lines(scores, inputs.table, loaded.objectives), loaded, options.out)
        print(f"{count} responses scored: {options.out}")
        return
    rows = OutputRows(read_rows(options.data, options.skip_invalid, options.split))
    parts = ScoreParts(options.out, len(shard_ranges(len(rows), options.shard_rows)))
    if options.merge:
        parts.check(parts_key(options.model, rows.table, options.shard_rows, None))
        _merge(parts, loaded)
        return
    scorer = read_scorer(options, loaded)
    parts.claim(
        parts_key(options.model, rows.table, options.shard_rows, scorer.backbone),
        options.overwrite,
    )
    shards = range(options.shard or 0, parts.count, options.num_shards)
    try:
        speed = score_shards(scorer, rows, parts, shards, options.shard_rows, progress=True)
    except BaseException:
        if options.num_shards == 1:  # else another process may be at work there
            parts.remove_if_empty()
        raise
    print(f"{speed.responses} responses in {speed.seconds:.1f} s: {speed.words()}")
    if options.num_shards == 1:
        _merge(parts, loaded)
    else:
        print(f"{len(shards)} of {parts.count} parts are done: {parts.folder}")
        print("next, when all processes are: the same command with --merge in place of --shard")


def _check_options(options: Namespace) -> None:
    for name in ("shard_rows", "num_shards"):
        if options[name] < 1:
            raise UsageError(f"--{name} is {options[name]}, but must be at least 1.")
    if options.shard is not None and not 0 <= options.shard < options.num_shards:
        raise UsageError(
            f"--shard is {options.shard}, but must be from 0 to {options.num_shards - 1}: "
            f"--num_shards is {options.num_shards}."
        )
    if options.merge and options.shard is not None:
        raise UsageError("--merge puts the shards of all processes together; leave --shard out.")
    if options.num_shards > 1 and options.shard is None and not options.merge:
        raise UsageError(
            f"--num_shards is {options.num_shards}: say with --shard which of them this process "
            "is, from 0, or pass --merge when all are done."
        )
    if is_store(options.data) and (options.num_shards > 1 or options.merge):
        raise UsageError(
            f"--data {options.data}: is a feature store, whose states are there already; it is "
            "scored at once. Leave --num_shards, --shard and --merge out."
        )


def _merge(parts: ScoreParts, loaded: LoadedModel) -> None:
    missing = parts.missing()
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{parts.folder}: {len(missing)} of {parts.count} parts are missing ({shown}); part i "
            "is that of --shard i modulo --num_shards. Run what is unfinished again; it goes on "
            "where it was."
        )
    whole = not _is_parquet(parts.out)
    count = parts.merge() if whole else _write(parts.lines(), loaded, parts.out)
    parts.remove()
    print(f"{count} responses scored: {parts.out}")


def _write(lines: Iterable[Mapping[str, Any]], loaded: LoadedModel, out: str | Path) -> int:
    if _is_parquet(out):
        return write_parquet(lines, out, score_schema(loaded))
    return write_scores(lines, out)


def _is_parquet(out: str | Path) -> bool:
    return Path(out).suffix == ".parquet"
