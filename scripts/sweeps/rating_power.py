"""Sweep of lambda, the power on ratings, in the manner of the paper's Figure 5."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from jsonargparse import ArgumentParser

from sweeps.cells import Cell, Sweep
from sweeps.figures import power_curves
from sweeps.options import read_sweep, sweep_parser
from sweeps.states import SweepStates, read_states
from sweeps.summary import by_group, conclude, measured_on, measures, table
from vrm_pyro.cli.parsing import UsageError
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig

log = logging.getLogger(__name__)

DEFAULT_POWERS = [0.0, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0]


def build_parser() -> ArgumentParser:
    """Return the options of the sweep."""
    parser = sweep_parser(
        "scripts/sweep_lambda.py",
        "Train a model with several values of lambda (model.rating_power), the power on the "
        "rating term: how much ratings count relative to preferences. 0 ignores them. Writes "
        "figure.png (test accuracy, log loss and calibration error against lambda) and "
        "results.json, and prints a table. In the manner of the paper's Figure 5, known here by "
        "its caption alone.",
        (
            "--data.train rows.jsonl --config networks --out runs/lambda",
            "--powers 0 0.1 1 --seeds 5 --out runs/lambda",
            "--config paper   # lambda of the supervision of weights",
        ),
    )
    parser.add_argument(
        "--powers",
        type=float,
        nargs="+",
        default=DEFAULT_POWERS,
        metavar="LAMBDA",
        help="Values of lambda; 0 is supervision none.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Train, draw and print."""
    parser = build_parser()
    settings = read_sweep(parser, argv)
    powers = sorted(set(settings.given.powers))
    _check(powers, settings.model)
    sweep = Sweep(settings, "lambda")
    states = read_states(settings)
    if not states.rated:
        raise InputError(
            "no training row has ratings, so lambda has nothing to act on; give rows with "
            '"chosen_ratings" / "rejected_ratings".'
        )
    cells = [
        Cell(f"{power:g}", with_power(settings.model, power, states), seed, {"power": power})
        for power in powers
        for seed in range(settings.seeds)
    ]
    results = by_group(sweep.run(cells, states))
    reference = f"{powers[0]:g}"
    groups: list[dict[str, Any]] = [
        {
            "power": cells_of[0].cell.facts["power"],
            **measures(cells_of, results[reference], states, settings),
        }
        for cells_of in results.values()
    ]
    words = measured_on(states, settings)
    figure = power_curves(groups, title=f"Ratings' power λ ({words})")
    summary = {"model": settings.run.values["model"], "reference": reference, "groups": groups}
    rows = [(f"{group['power']:g}", group["test"], group["difference"]) for group in groups]
    conclude(sweep, figure, summary, states, table(rows, "lambda", f"lambda {reference}"))


def with_power(model: ModelConfig, power: float, states: SweepStates) -> ModelConfig:
    """Return the model with this lambda; with 0, without ratings but as many objectives."""
    if power > 0:
        return replace(model, rating_power=power)
    return without_ratings(model, states)


def without_ratings(model: ModelConfig, states: SweepStates) -> ModelConfig:
    """Return the model without supervision, with as many objectives as it has with ratings."""
    named = model.objectives or states.rated
    return replace(
        model,
        supervision="none",
        weight_supervision="cross_entropy",
        objectives=[],
        num_objectives=len(named) + model.extra_objectives,
    )


def _check(powers: Sequence[float], model: ModelConfig) -> None:
    for power in powers:
        if not 0 <= power < float("inf"):
            raise UsageError(f"--powers: {power} is no power; give 0 or more.")
    if model.architecture != "vrm" or model.supervision == "none":
        raise UsageError(
            "the model uses no ratings, so lambda has nothing to act on: set model.architecture "
            "to vrm and model.supervision to scores, or to weights in mode vib."
        )
    if model.supervision == "scores" and getattr(model.rating_likelihood, "learn_scale", False):
        log.warning(
            "The scale tau of ratings is learned, and lambda and tau are nearly one parameter: "
            "hold it with --model.rating_likelihood.learn_scale false to see what lambda does."
        )
