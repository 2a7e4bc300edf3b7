"""``vrm-pyro report``: one HTML page about a model on rows."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    MOST_DRAWS,
    SEEDS,
    add_model_options,
    check_numbers,
    check_outputs,
    read_classes,
    read_declared,
    rows_of,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``report``."""
    parser = new_parser(
        "report",
        "Write one HTML page about a model on rows: metrics next to a Bradley-Terry baseline and "
        "length-only rules, calibration, weights by kind of prompt, a map of features, collapse, "
        "k-hat, sensitivity to the prior, certificates, and single pairs with the model's "
        "reasons. The page needs no network and no script.",
        examples=(
            "vrm-pyro report --model runs/first --data test.jsonl --against runs/bt "
            "--out report.html",
            "vrm-pyro report --model runs/first --data runs/features/test --no_text "
            "--out report.html",
        ),
        more="The page shows texts of the rows unless --no_text is given; check who may read it.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help="HTML file to write; an existing file is replaced.",
    )
    parser.add_argument(
        "--against",
        type=str,
        metavar="DIR",
        help="A bradley_terry or gate model trained on the same states, to compare with.",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=10,
        help="Number of mistakes, and of uncertain pairs, to show.",
    )
    parser.add_argument(
        "--no_text", action="store_true", help="Leave the texts of prompts and responses out."
    )
    parser.add_argument(
        "--diagnose",
        type=str,
        metavar="FILE",
        help="JSON file of vrm-pyro diagnose, to show its findings.",
    )
    parser.add_argument(
        "--draws", type=int, default=1000, help="Draws for each prompt, for k-hat and sensitivity."
    )
    parser.add_argument("--khat_prompts", type=int, default=200, help="Random prompts for k-hat.")
    parser.add_argument(
        "--psense_prompts",
        type=int,
        default=40,
        help="Random prompts for the sensitivity to the prior; 0 leaves it out.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="Seed of draws and samples of prompts."
    )
    parser.add_argument(
        "--backbone_saw_these_labels",
        type=str | bool,  # YAML reads a bare no as false
        default="unknown",
        metavar="{no,yes,unknown}",
        help="As in certify: yes withholds the certificates, unknown shows them with a warning.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Write the page and print its name."""
    options = parse(build_parser(), argv)
    check_outputs(options)
    declared = read_declared(options.backbone_saw_these_labels)
    from vrm_pyro.models.checkpoint import load_model
    from vrm_pyro.prediction.opening import as_model
    from vrm_pyro.report.page.settings import LEAST
    from vrm_pyro.report.page.write import write_report

    check_numbers(options, draws=(LEAST["draws"], MOST_DRAWS), seed=SEEDS)
    for name, least in LEAST.items():
        if getattr(options, name) < least:
            raise UsageError(
                f"--{name} is {getattr(options, name)}, but must be at least {least}."
            )
    others = [] if options.against is None else [options.against]
    classes = read_classes(options, options.model, *others)
    loaded = as_model(options.model, classes=classes, backbone=options.backbone)
    if not loaded.members:
        raise UsageError(
            f"{options.model}: is a {loaded.architecture} model, which has no latent variables to "
            "report on. Give it with --against, and a model of architecture vrm with --model."
        )
    report = write_report(
        loaded,
        rows_of(options),
        options.out,
        against=None if options.against is None else load_model(options.against, classes),
        diagnosis=options.diagnose,
        worst=options.worst,
        texts=not options.no_text,
        num_draws=options.draws,
        khat_prompts=options.khat_prompts,
        psense_prompts=options.psense_prompts,
        seed=options.seed,
        backbone_saw_these_labels=declared,
        skip_invalid=options.skip_invalid,
        split=options.split,
        device=options.device,
        dtype=options.dtype,
        cache=not options.no_cache,
        progress=True,
    )
    print(report.path)
