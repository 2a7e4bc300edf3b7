"""transformers' Trainer with this model's logs and learning rates."""

import math
from typing import Any, Final

from torch.optim import Optimizer
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from vrm_pyro.errors import InputError
from vrm_pyro.training_module import TrainingModule

# Adam moves a parameter by about the learning rate a step, whatever its gradient. A few hundred
# steps of .001 take the logit of 2 eps from -2.2 (eps = .05) to -2.0, and eps = .3 is at .4.
LIKELIHOOD_STEP: Final = 20.0
_LIKELIHOOD: Final = "model.likelihood."


class Progress(TrainerCallback):
    """Tell the module how far training is; restored by a resume through the step count."""

    def __init__(self, module: TrainingModule) -> None:
        self.module = module

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the share of the steps done."""
        self.module.progress = state.global_step / max(state.max_steps, 1)


class ModelTrainer(Trainer):
    """transformers' Trainer that adds the parts of the objective to each training log entry."""

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Return the optimizer; parameters of the likelihood step further and do not decay.

        They are a few scalars on a log or logit scale with priors of their own: weight decay
        would be a second prior, and one towards an arbitrary place.
        """
        assert self.model is not None
        fresh = self.optimizer is None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)
        own = {
            id(value): value
            for name, value in self.model.named_parameters()
            if _LIKELIHOOD in name and value.requires_grad
        }
        if own and fresh:
            for group in optimizer.param_groups:
                group["params"] = [p for p in group["params"] if id(p) not in own]
            group = {"params": list(own.values()), "lr": LIKELIHOOD_STEP * self.args.learning_rate}
            optimizer.add_param_group({**group, "weight_decay": 0.0})
        return optimizer

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the objective since the last entry.

        Raises:
            InputError: If one of them is not finite.
        """
        if "loss" in logs:
            module = self.accelerator.unwrap_model(self.model)
            parts = module.take_log()
            if not all(map(math.isfinite, parts.values())):
                raise diverged(self.args)
            logs = {**logs, **parts}
        super().log(logs, start_time)


def diverged(arguments: TrainingArguments) -> InputError:
    """Return the error for numbers that are no longer finite."""
    return InputError(
        "Training diverged: its numbers are no longer finite. Lower train.learning_rate (it is "
        f"{arguments.learning_rate:g}) or train.max_grad_norm (it is {arguments.max_grad_norm:g})."
    )
