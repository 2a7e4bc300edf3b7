"""Train the backbone together with the heads."""

from typing import TYPE_CHECKING

from vrm_pyro.lazy import lazy_names

if TYPE_CHECKING:
    from vrm_pyro.training.finetuning.batches import TokenBatches
    from vrm_pyro.training.finetuning.config import TuningConfig, check_tuned, check_tuning
    from vrm_pyro.training.finetuning.module import TextModule, frozen_names
    from vrm_pyro.training.finetuning.texts import TextDataset, TextStates, read_texts
    from vrm_pyro.training.finetuning.tuner import Tuner

# Settings alone are asked for by --help, which should not load transformers.
_MODULES = {
    name: f"vrm_pyro.training.finetuning.{module}"
    for name, module in {
        "TextDataset": "texts",
        "TextModule": "module",
        "TextStates": "texts",
        "TokenBatches": "batches",
        "Tuner": "tuner",
        "TuningConfig": "config",
        "check_tuned": "config",
        "check_tuning": "config",
        "frozen_names": "module",
        "read_texts": "texts",
    }.items()
}
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

__all__ = [
    "TextDataset",
    "TextModule",
    "TextStates",
    "TokenBatches",
    "Tuner",
    "TuningConfig",
    "check_tuned",
    "check_tuning",
    "frozen_names",
    "read_texts",
]
