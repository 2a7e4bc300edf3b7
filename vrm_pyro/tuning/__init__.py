"""Training the backbone together with the heads."""

from vrm_pyro.tuning.batches import TokenBatches
from vrm_pyro.tuning.config import TuningConfig, check_tuning
from vrm_pyro.tuning.module import TextModule, frozen_names
from vrm_pyro.tuning.texts import TextDataset, TextStates, read_texts
from vrm_pyro.tuning.tuner import ADAPTER_FOLDER, BACKBONE_FOLDER, Tuner

__all__ = [
    "ADAPTER_FOLDER",
    "BACKBONE_FOLDER",
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
