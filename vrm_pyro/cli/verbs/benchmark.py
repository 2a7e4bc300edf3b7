"""``vrm-pyro benchmark``: official score of a published benchmark, and what stands beside it."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    add_cache_option,
    add_loading_options,
    add_model_option,
    add_output_option,
    check_outputs,
    read_models,
)
from vrm_pyro.cli.parsing import new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``benchmark``."""
    parser = new_parser(
        "benchmark",
        "Score a published benchmark of reward models by its official rule: rewardbench, "
        "rewardbench2, rm_bench, judgebench, rmb or ppe. Each completion is scored once. Beside "
        "the official sections and total stands what the model says about the same comparisons: "
        "calibration, accuracy by confidence, spread, weights by section, effect of length.",
        examples=(
            "vrm-pyro benchmark rewardbench2 --model runs/first \\",
            "    --data allenai/reward-bench-2 --against runs/bt --out rb2.json",
            "vrm-pyro benchmark rmb --model runs/first --data 'RMB_dataset/**/*.json' \\",
            "    --out rmb.json --scores rmb_scores.json",
        ),
        more="docs/howto/benchmarks.md says where the rows are published, and gives the rules.",
    )
    parser.add_argument("suite", type=str, help="Name of the benchmark.")
    add_model_option(parser)
    parser.add_argument(
        "--data",
        type=str | list[str],
        required=True,
        metavar="ROWS",
        help="The published rows: a file, a quoted pattern, a Hub id, or a list of these.",
    )
    parser.add_argument(
        "--against",
        type=str | list[str],
        metavar="DIR",
        help="Further models in the same table, as a list if there are several; the first is "
        "compared with each on the same resampled prompts.",
    )
    parser.add_argument(
        "--split",
        type=str,
        metavar="NAME",
        help="Split of a Hub id; the one that the benchmark publishes if omitted.",
    )
    parser.add_argument(
        "--skip_invalid",
        action="store_true",
        help="Leave out and count unusable rows; the score is then not the official one.",
    )
    add_loading_options(parser)
    add_cache_option(parser)
    add_output_option(parser, "JSON file to write")
    parser.add_argument(
        "--scores",
        type=str,
        metavar="FILE",
        help="JSON file of every case's scores to write, in the format of the benchmark's own "
        "results.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Score, write JSON and print a table."""
    options = parse(build_parser(), argv)
    from vrm_pyro.atomic import write_json
    from vrm_pyro.diagnostics.suites import benchmark

    check_outputs(options, ("out", "scores"))
    model, others = read_models(options)
    found = benchmark(
        options.suite,
        model,
        options.data,
        against=others,
        split=options.split,
        skip_invalid=options.skip_invalid,
        device=options.device,
        dtype=options.dtype,
        progress=True,
        cache=not options.no_cache,
    )
    write_json(options.out, found.to_dict())
    if options.scores is not None:
        write_json(options.scores, found.records)
    files = filter(None, (options.out, options.scores))
    print(f"{found}\n\nwritten: {', '.join(files)}")
