"""``vrm-pyro score``: reward, spread, weights and scores of every response."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    add_model_options,
    add_output_option,
    check_outputs,
    read_model,
    rows_of,
)
from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.cli.sharing import add_share_options, share_of
from vrm_pyro.processes import part

SHARD_ROWS = 10_000


def build_parser() -> ArgumentParser:
    """Return the options of ``score``."""
    parser = new_parser(
        "score",
        "Write one line for each response of each row: reward_mean, reward_sd, weights and "
        "scores by objective, and p_chosen for comparisons. Labels and ratings are not read. "
        "Compare rewards only between responses to the same prompt; --per prompt does. A stopped "
        "run resumes where it stopped; finished shards are kept in OUT.parts until then.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSONL file to write, or Parquet if its name ends in .parquet")
    parser.add_argument(
        "--per",
        type=str,
        default="response",
        metavar="response|prompt",
        help="What has a line. By prompt, the responses of all its rows stand side by side: "
        "reward_mean, reward_sd, p_best, lower_bound and rank of each.",
    )
    parser.add_argument(
        "--k",
        type=float,
        default=1.0,
        help="Standard deviations that lower_bound of a line by prompt subtracts.",
    )
    parser.add_argument(
        "--shard_rows",
        type=int,
        default=SHARD_ROWS,
        help="Rows whose states are held in memory at once; by prompt, whole ones.",
    )
    add_share_options(parser)
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Delete the parts of a stopped run with other settings.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Score and write."""
    options = parse(build_parser(), argv)
    check_outputs(options)
    share = share_of(options)
    from vrm_pyro.prediction.score_file import score_file

    found = score_file(
        read_model(options),
        rows_of(options),
        options.out,
        per=options.per,
        k=options.k,
        shard_rows=options.shard_rows,
        share=share,
        merge=options.merge,
        overwrite=options.overwrite,
        skip_invalid=options.skip_invalid,
        split=options.split,
        device=options.device,
        dtype=options.dtype,
        progress=share.speaks,
        cache=not options.no_cache,
    )
    part()
    if not share.speaks:
        return
    speed = found.throughput
    if speed is not None:
        print(f"{speed.responses} responses in {speed.seconds:.1f} s: {speed.words()}")
    if found.precision == "bfloat16":
        print(
            "the backbone computed in bfloat16: rewards differ by up to .012 from float32; "
            "compare close ones with --dtype float32"
        )
    elif found.precision is not None:
        print(f"the backbone computed in {found.precision}")
    if found.lines is not None:
        print(f"{found.lines} {options.per}s scored: {found.path}")
    elif found.parts is not None:
        folder, done, count = found.parts
        print(f"{done} of {count} parts are done: {folder}")
        print("next, when all processes are: the same command with --merge in place of --shard")
