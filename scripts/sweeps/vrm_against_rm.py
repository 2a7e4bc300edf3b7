"""Compare VRM and a scalar reward model over steps and data, in the manner of Figure 4."""

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser

from sweeps.cells import Cell, Result, Sweep
from sweeps.figures import learning_curves
from sweeps.options import (
    BASELINE_SETTINGS,
    SweepSettings,
    as_options,
    other_model,
    read_sweep,
    sweep_parser,
    use_backbone_of,
)
from sweeps.rating_power import without_ratings
from sweeps.states import SweepStates, read_states
from sweeps.summary import by_group, conclude, measured_on, measures, table
from vrm_pyro.cli.parsing import UsageError
from vrm_pyro.cli.settings import read_settings
from vrm_pyro.models.settings.config import ModelConfig, uses_ratings
from vrm_pyro.report.plots.curves import series_of

DEFAULT_SHARES = [0.0625, 0.125, 0.25, 0.5, 1.0]
BASELINE = "reward model (Bradley-Terry)"


def build_parser() -> ArgumentParser:
    """Return the options of the comparison."""
    parser = sweep_parser(
        "scripts/curves_vrm_rm.py",
        "Train the VRM and the scalar reward model (architecture bradley_terry) on the same "
        "states, with growing shares of the training rows. The VRM is trained with ratings, "
        "which the reward model cannot use, and without them. All trainings have the same number "
        "of steps, and the step with the best validation log loss counts. Writes figure.png "
        "(validation over steps, test against training pairs) and results.json, and prints "
        "a table. In the manner of the paper's Figure 4, known here by its caption alone.",
        (
            "--data.train rows.jsonl --config networks --out runs/curves",
            "--shares 0.1 0.3 1 --withhold labels   # few labels, all ratings",
        ),
    )
    parser.add_argument(
        "--shares",
        type=float,
        nargs="+",
        default=DEFAULT_SHARES,
        metavar="SHARE",
        help="Shares of the training rows; a larger share includes a smaller one.",
    )
    parser.add_argument(
        "--withhold",
        type=str,
        choices=["prompts", "labels"],
        default="prompts",
        help="What smaller shares withhold: whole prompts, or labels alone (ratings stay).",
    )
    parser.add_argument(
        "--baseline",
        type=str,
        metavar="FILE",
        help="Config of the reward model; bradley_terry if omitted, and the demo's "
        "with simulated texts.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Train, draw and print."""
    parser = build_parser()
    settings = read_sweep(parser, argv)
    shares = sorted(set(settings.given.shares))
    if not all(0 < share <= 1 for share in shares):
        raise UsageError("--shares: every part must be above 0 and at most 1.")
    if settings.model.architecture != "vrm":
        raise UsageError("--config gives a reward model; give a config of architecture vrm.")
    baseline = _baseline(parser, settings)
    sweep = Sweep(settings, "curves")
    states = read_states(settings)
    models = _models(settings.model, baseline, states)
    cells = [
        Cell(
            f"{name}, {share:g}",
            model,
            seed,
            {"model": name, "share": share},
            _steps(settings, states, settings.split_seeds[seed]),
            share,
            settings.given.withhold,
        )
        for name, model in models.items()
        for share in shares
        for seed in range(settings.seeds)
    ]
    results = by_group(sweep.run(cells, states))
    groups: list[dict[str, Any]] = [
        {
            "model": cells_of[0].cell.facts["model"],
            "share": share,
            "num_pairs": float(np.mean([cell.values["num_pairs"] for cell in cells_of])),
            **measures(cells_of, results[f"{BASELINE}, {share:g}"], states, settings),
        }
        for cells_of in results.values()
        for share in [cells_of[0].cell.share]
    ]
    steps = {
        name: {
            metric: _along_steps(results[f"{name}, {shares[-1]:g}"], f"eval_{metric}")
            for metric in ("accuracy", "log_loss")
        }
        for name in models
    }
    words = measured_on(states, settings)
    title = f"VRM and scalar reward model ({words})"
    summary = {
        "withhold": settings.given.withhold,
        "reference": BASELINE,
        "groups": groups,
        "steps": steps,
    }
    rows = [
        (f"{group['model']}, {group['num_pairs']:.0f} pairs", group["test"], group["difference"])
        for share in shares
        for group in groups
        if group["share"] == share
    ]
    shown = table(rows, "model, training pairs", "reward model on as many")
    conclude(sweep, learning_curves(steps, groups, title=title), summary, states, shown)


def _baseline(parser: ArgumentParser, settings: SweepSettings) -> ModelConfig:
    config = settings.given.baseline
    model = other_model(parser, config or "bradley_terry", settings)
    if settings.simulated and not config:
        own = read_settings(parser, as_options({"model": BASELINE_SETTINGS["model"]})).model
        model = replace(model, head_size=own.head_size, head_dropout=own.head_dropout)
    if model.architecture != "bradley_terry":
        raise UsageError(
            f"--baseline {config} gives architecture {model.architecture}, but must give "
            "bradley_terry."
        )
    return model


def _models(
    model: ModelConfig, baseline: ModelConfig, states: SweepStates
) -> dict[str, ModelConfig]:
    """Return the models to compare by name; with ratings there are two VRMs."""
    use_backbone_of(model, baseline)
    models = {"VRM": model}
    if uses_ratings(model, states.rows.facts()):
        models = {
            "VRM with ratings": model,
            "VRM, preferences alone": without_ratings(model, states),
        }
    return models | {BASELINE: baseline}


def _steps(settings: SweepSettings, states: SweepStates, split_seed: int) -> dict[str, Any]:
    """Return training arguments with which every share trains as many steps as all rows.

    With a fixed number of epochs, a small share would be undertrained, which would look like an
    effect of the amount of data.
    """
    arguments = settings.run.arguments
    train = states.split(split_seed).train
    epoch = math.ceil(train.table.num_prompts / arguments.per_device_train_batch_size)
    epoch = math.ceil(epoch / arguments.gradient_accumulation_steps)
    steps = arguments.max_steps
    if steps <= 0:
        steps = math.ceil(epoch * arguments.num_train_epochs)
    every = min(epoch, steps)
    return {
        "max_steps": steps,
        "eval_strategy": "steps",
        "eval_steps": every,
        "save_strategy": "steps",
        "save_steps": every,
        # Curves of all seeds have the same length.
        "early_stopping_patience": 0,
    }


def _along_steps(results: Sequence[Result], key: str) -> list[dict[str, float]]:
    """Return mean, lowest and highest of a validation metric over seeds at each evaluation."""
    curves = [series_of(result.values["log"], key) for result in results]
    points = []
    for rows in zip(
        *curves, strict=False
    ):  # the split of another seed may have one evaluation less
        values = [value for _, value in rows]
        points.append(
            {
                "step": float(np.mean([step for step, _ in rows])),
                "mean": float(np.mean(values)),
                "lowest": min(values),
                "highest": max(values),
            }
        )
    return points
