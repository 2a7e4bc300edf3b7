"""A learned lapse rate that moves as far as it has to in the few hundred steps of a training."""

from typing import Any

import torch
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

FACTOR = 20.0


class LongerSteps(TrainerCallback):
    """Multiplies every step of the likelihood's parameters.

    Adam moves a parameter by about the learning rate a step, whatever its gradient. A hundred
    steps of .001 take the logit of 2 eps from -2.2 (eps = .05) to -2.1, and eps = .3 is at .4.
    Equal to a learning rate ``factor`` times as large for these parameters alone. It has to be
    passed anew to each training.

    Args:
        factor: By what.
    """

    def __init__(self, factor: float = FACTOR) -> None:
        self.factor = factor
        self.before: list[torch.Tensor] = []

    def on_pre_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Keep where the parameters are."""
        self.before = [p.detach().clone() for p in kwargs["model"].model.likelihood.parameters()]

    def on_optimizer_step(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        **kwargs: Any,
    ) -> None:
        """Lengthen the step that was taken."""
        with torch.no_grad():
            for parameter, before in zip(
                kwargs["model"].model.likelihood.parameters(), self.before, strict=True
            ):
                parameter.copy_(before + self.factor * (parameter - before))
