"""Write the results of a run: ``config.json`` comes last and marks the run as finished."""

import math
import os
import secrets
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vrm_pyro.atomic import write_json
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import CONFIG_FILE, save_model
from vrm_pyro.models.settings.compatibility import what_it_bounds
from vrm_pyro.prediction.posterior.file import write_posterior
from vrm_pyro.training.run.artefacts import LOG_FILE, METRICS_FILE
from vrm_pyro.training.train import TrainResult

POSTERIOR_FILE = "posterior.nc"

# Enough draws for most verdicts of psense, and few prompts: the file stays small.
POSTERIOR_PROMPTS = 40

Save = Callable[[Path], None]


def write_results(
    directory: Path,
    result: TrainResult,
    validation: Inputs,
    savers: Sequence[Save],
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all files of a finished run, and return its metrics.

    Files are written atomically. Until ``config.json`` exists, the run counts as stopped and is
    resumed from its last checkpoint.

    Args:
        directory: Folder of the run.
        result: Result of training.
        validation: Validation rows with their states.
        savers: Functions that write the backbone's tokenizer and trained weights into a folder.
        facts: Facts about the training rows, for ``metrics.json``.
    """
    loaded = result.loaded
    metrics = evaluate(loaded, validation).to_dict()
    metrics["training"] = training_facts(result) | dict(facts)
    for leftover in directory.glob(".results.*.partial"):  # of a process that was killed here
        shutil.rmtree(leftover)
    partial = directory / f".results.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    try:
        for save in savers:
            save(partial)
        write_json(partial / METRICS_FILE, metrics)
        write_json(partial / LOG_FILE, [_finite(entry) for entry in result.log_history])
        if loaded.config.has_latents:
            some = np.arange(min(POSTERIOR_PROMPTS, validation.table.num_prompts))
            write_posterior(loaded, validation.select(some), partial / POSTERIOR_FILE)
        save_model(loaded, partial)
        names = sorted(path.name for path in partial.iterdir())
        for name in sorted(names, key=lambda name: name == CONFIG_FILE):
            if (directory / name).is_dir():  # of a process that was killed here
                shutil.rmtree(directory / name)
            os.replace(partial / name, directory / name)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return metrics


def training_facts(result: TrainResult) -> dict[str, Any]:
    """Return the training statistics of ``metrics.json``."""
    config = result.loaded.config
    named = {name.removeprefix("eval_"): value for name, value in result.metrics.items()}
    facts: dict[str, Any] = {
        "architecture": config.architecture,
        "validation_log_loss": named.get("log_loss"),
        "validation_rating_log_score": named.get("rating_log_score"),
        "steps": named["steps"],
        "best_step": named["best_step"],
        "epochs": named.get("epoch"),
        "seconds": round(named["train_runtime"], 1),
    }
    if config.has_latents:
        facts |= {
            "mode": config.mode,
            "objective": config.objective,
            "bound": what_it_bounds(config, result.loaded.rated),
            "objectives": list(result.loaded.objectives),
            "ratings_used": result.loaded.rated,
        }
    if "scales" in result.metrics:
        scales = result.metrics["scales"]
        facts["scales"] = [_finite(f) for f in (scales if isinstance(scales, list) else [scales])]
    return facts


def _finite(entry: Mapping[str, Any]) -> dict[str, Any]:
    """Return null for NaN, which JSON lacks: a gradient norm that was not finite."""
    return {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in entry.items()
    }
