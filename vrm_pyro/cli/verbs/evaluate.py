"""``vrm-pyro evaluate``: how well a model predicts the preferences of some rows."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    add_model_options,
    add_output_option,
    check_outputs,
    read_inputs,
    read_model,
)
from vrm_pyro.cli.parsing import new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``evaluate``."""
    parser = new_parser(
        "evaluate",
        "Measure accuracy, log loss, Brier score and calibration on all rows and by subset, with "
        "standard errors clustered by prompt, next to rules that use text length only.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSON file to write")
    return parser


def run(argv: Sequence[str]) -> None:
    """Evaluate, write one JSON object and print a table."""
    options = parse(build_parser(), argv)
    from vrm_pyro.atomic import write_json
    from vrm_pyro.diagnostics.evaluate import evaluate

    check_outputs(options)
    loaded = read_model(options)
    found = evaluate(loaded, read_inputs(options, loaded, needs_outcomes=True))
    write_json(options.out, found.to_dict())
    print(f"{found}\n\nwritten: {options.out}")
