"""All trials with tampered and malformed input, by group, and the workspace they start from."""

import shutil
from collections.abc import Callable
from pathlib import Path

from helpers import (
    tampered_draws,
    tampered_models,
    tampered_options,
    tampered_runs,
    tampered_stores,
)
from helpers.tampering import Trial
from helpers.workspace import succeed

GROUPS: dict[str, Callable[[Path], list[Trial]]] = {
    "description": lambda place: tampered_models.description_trials(place, 110),
    "weights": lambda place: tampered_models.weight_trials(place, 40),
    "metrics": lambda place: tampered_models.metric_trials(place, 30),
    "findings": lambda place: tampered_models.finding_trials(place, 20),
    "store": lambda place: tampered_stores.description_trials(place, 70),
    "arrays": lambda place: tampered_stores.array_trials(place, 80),
    "manifest": lambda place: tampered_runs.manifest_trials(place, 30),
    "trainer state": lambda place: tampered_runs.state_trials(place, 60),
    "checkpoint": lambda place: tampered_runs.checkpoint_trials(),
    "settings": lambda place: tampered_runs.settings_trials(),
    "score parts": lambda place: tampered_runs.part_trials(12),
    "options of train": lambda place: tampered_options.train_trials(),
    "options": lambda place: tampered_options.command_trials(),
    "spaces": lambda place: tampered_options.space_trials(),
    "posterior": lambda place: tampered_draws.posterior_trials(90),
    "export": lambda place: tampered_draws.export_trials(place, 60),
    "texts": lambda place: tampered_stores.text_trials(30),
}


def make_tampered_workspace(place: Path, folder: Path) -> None:
    """Add to a copy of a workspace what the trials need more: draws, findings, an export."""
    shutil.copytree(place, folder, dirs_exist_ok=True)
    model = ("--model", place / "model", "--data", place / "test.jsonl")
    succeed("posterior", *model, "--draws", 120, "--out", folder / "p.nc")
    some = ("--prompts", 4, "--draws", 100)
    succeed("diagnose", *model, *some, "--out", folder / "d.json", warnings_are="ignore")
    succeed(
        "export", "--model", place / "model", "--out", folder / "export", warnings_are="ignore"
    )
