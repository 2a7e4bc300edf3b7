"""Train the backbone together with the heads."""

from vrm_pyro.training.finetuning.batches import TokenBatches
from vrm_pyro.training.finetuning.config import TuningConfig, check_tuning
from vrm_pyro.training.finetuning.module import TextModule, frozen_names
from vrm_pyro.training.finetuning.texts import TextDataset, TextStates, read_texts
from vrm_pyro.training.finetuning.tuner import Tuner

__all__ = [
    "TextDataset",
    "TextModule",
    "TextStates",
    "TokenBatches",
    "Tuner",
    "TuningConfig",
    "check_tuning",
    "frozen_names",
    "read_texts",
]
