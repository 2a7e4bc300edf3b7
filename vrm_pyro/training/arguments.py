"""Training arguments: transformers' TrainingArguments with other defaults."""

from dataclasses import dataclass

from transformers import (
    TrainingArguments,
)

from vrm_pyro.training.common_arguments import CommonArguments


@dataclass
class TrainArguments(CommonArguments, TrainingArguments):  # type: ignore[misc]
    """transformers' TrainingArguments with defaults for small heads on frozen features.

    A batch is a number of *prompts*, each with all its responses and pairs.

    Args:
        early_stopping_patience: Evaluations without a better validation log loss before training
            stops; 0 never stops early.
    """
