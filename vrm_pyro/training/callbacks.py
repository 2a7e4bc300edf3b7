"""What the Trainer calls during a run: a bar of steps, and Pyro's validation at the start."""

from typing import Any, Final

import pyro
from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

# What validation finds (shapes, supports, the mean-field condition) shows on any step; a number
# that is no longer finite later on is found when it is logged.
VALIDATED_STEPS: Final = 10


class ValidateFirstSteps(TrainerCallback):
    """Switch Pyro's validation off after the first steps; use within ``validation_enabled``.

    It costs time on every step: each distribution reads all its parameters again.
    """

    def __init__(self) -> None:
        self._begun = 0

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Count the steps of this process: a resumed run is validated at its start, too."""
        if self._begun == VALIDATED_STEPS:
            pyro.enable_validation(False)
        self._begun += 1


class StepBar(ProgressCallback):
    """transformers' bar of steps on stderr, without its copy of every log entry on stdout."""

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """Show no second bar: validation is a moment on kept states."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the validation log loss beside the bar."""
        if self.training_bar is not None and logs and "eval_log_loss" in logs:
            self.training_bar.set_postfix_str(f"validation log loss {logs['eval_log_loss']:.4f}")
