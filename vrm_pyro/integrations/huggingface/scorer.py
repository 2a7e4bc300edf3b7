"""Score text with an exported model, as with the run that it was exported from."""

import os
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoTokenizer

from vrm_pyro.backbone import quiet_transformers, wrap_model
from vrm_pyro.data.artefacts import read_json
from vrm_pyro.integrations.huggingface.modeling import VRMForSequenceClassification
from vrm_pyro.models.checkpoint import CONFIG_FILE, build_described
from vrm_pyro.models.description import RESTORE
from vrm_pyro.prediction.scorer import Scorer


def is_export(folder: str | os.PathLike[str]) -> bool:
    """Return whether a folder holds what ``vrm-pyro export`` wrote, not the run of a training."""
    path = Path(folder) / CONFIG_FILE
    if not path.is_file():
        return False
    config = read_json(path, RESTORE)
    return isinstance(config, dict) and "head" in config and "reading" in config


def scorer_of_export(
    folder: str | os.PathLike[str],
    *,
    device: str | torch.device = "auto",
    dtype: str = "auto",
) -> Scorer:
    """Return a scorer of an exported model; its self-test has passed.

    The folder's weights, tokenizer and rewards are those of the export, or loading fails. So the
    hashes of the run's own backbone, from before its template was written anew, are left out.

    Args:
        folder: A folder that ``vrm-pyro export`` wrote.
        device: Where to run; ``auto`` is the GPU when there is one.
        dtype: Precision of the backbone: ``auto``, ``float32`` or ``bfloat16``.

    Raises:
        InputError: If the folder is damaged, or a reward differs from that of the export.
    """
    with quiet_transformers():
        model = VRMForSequenceClassification.from_pretrained(folder)
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    reading = model.reading
    if reading.layout.template != "chat":
        # The export wrote a template for trainers; texts are read without one, as in training.
        tokenizer.chat_template = None
    backbone = wrap_model(
        model.backbone,
        tokenizer,
        name=str(folder),
        source="export",
        pooling=reading.pooling,
        layer=None,
        max_length=reading.layout.max_length,
        dtype=dtype,
        device=device,
    )
    described = build_described(model.config.head, f"{folder}/{CONFIG_FILE}: head")
    kept = ("date", "reasoning", "pooling", "max_length")
    facts = {key: value for key, value in described.backbone.items() if key in kept}
    loaded = replace(described, model=model.head.eval(), backbone={"name": str(folder), **facts})
    return Scorer(loaded, backbone)
