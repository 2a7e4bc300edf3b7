"""Open what a server serves: the run of a training or an export, VRM or baseline."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch

from vrm_pyro.integrations.huggingface.scorer import is_export, scorer_of_export
from vrm_pyro.prediction.opening import as_scorer
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.settings import ServeSettings


def open_scorer(
    folder: str | os.PathLike[str],
    *,
    classes: Sequence[type] = (),
    backbone: str | None = None,
    device: str | torch.device = "auto",
    dtype: str | None = None,
) -> Scorer:
    """Return the scorer of a run or of an export.

    Args:
        folder: A folder that ``vrm-pyro train`` or ``vrm-pyro export`` wrote.
        classes: A user's own prior, guide or likelihood classes; a run may have them.
        backbone: Where a run's backbone is now, if it was moved.
        device: Where to run; ``auto`` is the GPU when there is one.
        dtype: Precision of the backbone; that of training when omitted, ``auto`` for an export.

    Raises:
        InputError: If model or backbone is missing, damaged, or they do not fit.
    """
    if is_export(folder):
        found = scorer_of_export(folder, device=device, dtype=dtype or "auto")
        found.loaded.directory = Path(folder)
        return found
    return as_scorer(folder, classes=classes, backbone=backbone, device=device, dtype=dtype)


def served_name(scorer: Scorer, settings: ServeSettings) -> str:
    """Return what clients call a model: as the settings say, else as its folder is called."""
    directory = scorer.loaded.directory
    return settings.name or (Path(directory).resolve().name if directory else "vrm")
