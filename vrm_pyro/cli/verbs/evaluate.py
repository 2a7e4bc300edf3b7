"""``vrm-pyro evaluate``: how well a model predicts the preferences of some rows."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import add_model_options, add_output_option, read_inputs, read_model
from vrm_pyro.cli.parsing import new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``evaluate``."""
    parser = new_parser(
        "evaluate",
        "Measure accuracy, log loss, Brier score and calibration, each with a standard error by "
        "prompt, in all rows and by subset, beside what text length alone predicts.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSON file to write")
    return parser


def run(argv: Sequence[str]) -> None:
    """Evaluate and write one JSON object."""
    options = parse(build_parser(), argv)
    from vrm_pyro.atomic import write_json
    from vrm_pyro.training.run.results import evaluate_inputs

    loaded = read_model(options)
    metrics = evaluate_inputs(loaded, read_inputs(options, loaded))
    write_json(options.out, metrics)
    error = metrics["accuracy_se"]
    spread = "" if error is None else f" +- {error:.3f}"
    print(
        f"accuracy {metrics['accuracy']:.3f}{spread}, log loss {metrics['log_loss']:.3f} on "
        f"{metrics['n_pairs']} pairs of {metrics['n_prompts']} prompts: {options.out}"
    )
