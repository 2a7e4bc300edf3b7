"""``vrm-pyro diagnose``: tests for problems of a model on rows, with advice."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    MOST_DRAWS,
    SEEDS,
    add_model_options,
    add_output_option,
    as_list,
    check_numbers,
    check_outputs,
    read_classes,
    rows_of,
)
from vrm_pyro.cli.parsing import new_parser, parse

NUM_PROMPTS = 200
NUM_DRAWS = 1000


def build_parser() -> ArgumentParser:
    """Return the options of ``diagnose``."""
    parser = new_parser(
        "diagnose",
        "Test a model for problems: predictions (calibration, subsets, length), weights and "
        "features (collapse, identification), the guide (k-hat, gaps, simulated truth), the "
        "prior, and distribution shift from the training rows. Each test has level 1%; one that "
        "does not apply says why. Use rows that were not trained on. "
        "docs/explanation/diagnostics.md lists and explains the diagnostics.",
        examples=[
            "vrm-pyro diagnose --model runs/a --data test.jsonl --out diagnosis.json",
            "vrm-pyro diagnose --model runs/a --data test.jsonl --out d.json --only [loo] "
            "--against [runs/b]",
        ],
    )
    add_model_options(parser)
    add_output_option(parser, "JSON file to write")
    parser.add_argument(
        "--only",
        type=str | list[str],
        metavar="NAMES",
        help="Diagnostics to run: one, or a list such as '[khat, gaps]'; all if omitted.",
    )
    parser.add_argument(
        "--against",
        type=str | list[str],
        metavar="DIRS",
        help="Other models to compare with by log predictive density (loo).",
    )
    parser.add_argument(
        "--reference",
        type=str | list[str],
        metavar="ROWS",
        help="Training rows, for shift; if omitted, subsets are compared with each other.",
    )
    parser.add_argument(
        "--prompts",
        type=int,
        default=NUM_PROMPTS,
        help="Random prompts for the costly diagnostics: draws, simulation, refinement.",
    )
    parser.add_argument(
        "--draws", type=int, default=NUM_DRAWS, help="Draws for each of these prompts."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of all draws.")
    return parser


def run(argv: Sequence[str]) -> None:
    """Diagnose, write, print."""
    options = parse(build_parser(), argv)
    check_outputs(options)
    check_numbers(options, prompts=(1, 10**9), draws=(1, MOST_DRAWS), seed=SEEDS)
    from vrm_pyro.atomic import write_json
    from vrm_pyro.diagnostics.checks import check_names, diagnose
    from vrm_pyro.diagnostics.checks.finding import LEVEL
    from vrm_pyro.models.checkpoint import load_model
    from vrm_pyro.prediction.opening import as_model

    names = check_names(None if options.only is None else as_list(options.only))
    others = as_list(options.against)
    classes = read_classes(options, options.model, *others)
    against = {name: load_model(name, classes) for name in others}
    found = diagnose(
        as_model(options.model, classes=classes, backbone=options.backbone),
        rows_of(options),
        names,
        against=against,
        reference=options.reference,
        num_prompts=options.prompts,
        num_draws=options.draws,
        seed=options.seed,
        skip_invalid=options.skip_invalid,
        split=options.split,
        device=options.device,
        dtype=options.dtype,
        cache=not options.no_cache,
        progress=True,
    )
    content = {
        "model": str(options.model),
        "level": LEVEL,
        "num_prompts": found.num_prompts,
        "num_prompts_of_costly": found.num_some,
        "draws": options.draws,
        "seed": options.seed,
        "alarms": found.alarms,
        "findings": found.to_json(),
    }
    write_json(options.out, content, indent=1)
    print(f"{found}\n{options.out}")
