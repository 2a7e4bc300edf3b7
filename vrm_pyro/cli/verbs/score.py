"""``vrm-pyro score``: what a model says of every response."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.options import (
    add_model_options,
    add_output_option,
    check_out,
    read_model,
    read_scorer,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.sharing import Share, add_share_options
from vrm_pyro.errors import InputError
from vrm_pyro.processes import from_main, part, wait_for_all

if TYPE_CHECKING:
    from vrm_pyro.models.checkpoint import LoadedModel
    from vrm_pyro.prediction.scorer.parts import ScoreParts

SHARD_ROWS = 10_000


def build_parser() -> ArgumentParser:
    """Return the options of ``score``."""
    parser = new_parser(
        "score",
        "Write a line for each response of each row: reward_mean, reward_sd, weights and "
        "scores by objective, and p_chosen for comparisons. Labels and ratings are not read. "
        "Compare rewards of responses to the same prompt only. A stopped run resumes where it "
        "stopped; finished shards lie in OUT.parts until then.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSONL file to write, or Parquet if its name ends in .parquet")
    parser.add_argument(
        "--shard_rows",
        type=int,
        default=SHARD_ROWS,
        help="Rows whose states are in memory at a time.",
    )
    add_share_options(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Throw parts away that a stopped run with other settings left.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Score and write."""
    from vrm_pyro.atomic import check_file
    from vrm_pyro.features.inputs import Inputs
    from vrm_pyro.features.reading import is_store, read_rows, read_store
    from vrm_pyro.features.shards import shard_ranges
    from vrm_pyro.prediction.opening import check_store
    from vrm_pyro.prediction.scorer import score_source, table_lines
    from vrm_pyro.prediction.scorer.output_rows import OutputRows
    from vrm_pyro.prediction.scorer.parts import ScoreParts, parts_key
    from vrm_pyro.prediction.scorer.sharded import score_shards

    options = parse(build_parser(), argv)
    check_out(options.out)
    share = _check_options(options)
    check_file(options.out)
    loaded = read_model(options)
    if is_store(options.data):
        store = read_store(options.data)
        check_store(store, loaded)
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
    key = parts_key(options.model, rows.table, options.shard_rows, scorer.backbone)
    share.begin(lambda: parts.claim(key, options.overwrite))
    shards = range(share.index, parts.count, share.count)
    try:
        speed = score_shards(
            scorer,
            rows,
            parts,
            shards,
            options.shard_rows,
            progress=share.speaks,
            cache=not options.no_cache,
        )
    except BaseException:
        if share.alone:  # else another process may be at work there
            parts.remove_if_empty()
        raise
    if share.speaks:
        print(f"{speed.responses} responses in {speed.seconds:.1f} s: {speed.words()}")
    if share.together:
        wait_for_all()
        from_main(lambda: _merge(parts, loaded))
        part()
    elif share.alone:
        _merge(parts, loaded)
    else:
        print(f"{len(shards)} of {parts.count} parts are done: {parts.folder}")
        print("next, when all processes are: the same command with --merge in place of --shard")


def _check_options(options: Namespace) -> Share:
    from vrm_pyro.features.reading import is_store

    if options.shard_rows < 1:
        raise UsageError(f"--shard_rows is {options.shard_rows}, but must be at least 1.")
    share = Share.of(options)
    if is_store(options.data) and (not share.alone or options.merge):
        raise UsageError(
            f"--data {options.data}: is a feature store, whose states are there already; it is "
            "scored at once. Leave --num_shards, --shard and --merge out."
        )
    return share


def _merge(parts: "ScoreParts", loaded: "LoadedModel") -> None:
    missing = parts.missing()
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise InputError(
            f"{parts.folder}: {len(missing)} of {parts.count} parts are missing ({shown}); part i "
            "is that of --shard i modulo --num_shards. Run what is unfinished again; it resumes "
            "where it stopped."
        )
    whole = not _is_parquet(parts.out)
    count = parts.merge() if whole else _write(parts.lines(), loaded, parts.out)
    parts.remove()
    print(f"{count} responses scored: {parts.out}")


def _write(lines: Iterable[Mapping[str, Any]], loaded: "LoadedModel", out: str | Path) -> int:
    from vrm_pyro.prediction.scorer import write_scores
    from vrm_pyro.prediction.scorer.parquet import score_schema, write_parquet

    if _is_parquet(out):
        return write_parquet(lines, out, score_schema(loaded))
    return write_scores(lines, out)


def _is_parquet(out: str | Path) -> bool:
    return Path(out).suffix == ".parquet"
