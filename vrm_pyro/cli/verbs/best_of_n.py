"""``vrm-pyro best-of-n``: gold reward of the best of n candidates, by rule of choosing."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    SEEDS,
    add_model_options,
    add_output_option,
    check_numbers,
    check_outputs,
    read_models,
    rows_of,
)
from vrm_pyro.cli.parsing import new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``best-of-n``."""
    parser = new_parser(
        "best-of-n",
        "Measure the gold reward of the best of n candidates for all n at once, by rule of "
        "choosing: mean, lower bound, quantile, P(best), baselines, minimum over an ensemble. "
        "Estimates are unbiased, intervals are over prompts. Also measures what abstaining on "
        "the least sure choices does.",
        examples=(
            "vrm-pyro best-of-n --model runs/rated --data candidates.jsonl --gold overall \\",
            "    --against runs/bt --validation held.jsonl --out bon.json --figure bon.png",
        ),
        more="Rows are single responses with ratings, or several responses with a list of "
        "ratings; --gold names the rating that stands for the truth.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--gold", type=str, required=True, metavar="OBJECTIVE", help="Rating that is the truth."
    )
    parser.add_argument(
        "--against",
        type=str | list[str],
        metavar="DIR",
        help="Further models whose choice is compared, as a list if there are several.",
    )
    parser.add_argument(
        "--validation",
        type=str | list[str],
        metavar="ROWS",
        help="Rows of other prompts, by whose gold reward k is chosen.",
    )
    parser.add_argument(
        "--k",
        type=float,
        default=1.0,
        help="Standard deviations that the lower bound subtracts, without --validation.",
    )
    parser.add_argument("--level", type=float, default=0.1, help="Level of the quantile.")
    parser.add_argument(
        "--max_n",
        type=int,
        metavar="N",
        help="Largest n; prompts with fewer candidates are left out. What half of the prompts "
        "have, if omitted.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of draws and resampling.")
    add_output_option(parser, "JSON file to write")
    parser.add_argument(
        "--figure", type=str, metavar="FILE", help="PNG, PDF or SVG file of the curves to write."
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Measure, write JSON and a figure, and print a table."""
    options = parse(build_parser(), argv)
    from vrm_pyro.atomic import write_file, write_json
    from vrm_pyro.data.rows import ReadAs
    from vrm_pyro.diagnostics.best_of_n import best_of_n

    check_outputs(options, ("out", "figure"))
    check_numbers(options, seed=SEEDS)
    model, others = read_models(options)
    held = options.validation
    found = best_of_n(
        model,
        rows_of(options),
        options.gold,
        against=others,
        validation=held and ReadAs.given(held, options.schema, options.columns),
        k=options.k,
        level=options.level,
        max_n=options.max_n,
        seed=options.seed,
        split=options.split,
        skip_invalid=options.skip_invalid,
        device=options.device,
        dtype=options.dtype,
        progress=True,
        cache=not options.no_cache,
    )
    write_json(options.out, found.to_dict())
    if options.figure is not None:
        from vrm_pyro.report.plots import best_of_n_curves

        with write_file(options.figure) as partial:
            best_of_n_curves(found).savefig(partial)
    files = filter(None, (options.out, options.figure))
    print(f"{found}\n\nwritten: {', '.join(files)}")
