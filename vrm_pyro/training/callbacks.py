"""Trainer callbacks: a progress bar, and Pyro's validation in the first steps."""

from typing import Any, Final

import pyro
from transformers import (
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

# Wrong shapes, wrong supports and a violated mean-field condition show in any step. Values that
# become non-finite later are found when they are logged.
VALIDATED_STEPS: Final = 10
_SHOWN: Final = {
    "eval_log_loss": "log loss",
    "eval_rating_log_score": "log score of ratings",
}


class ValidateFirstSteps(TrainerCallback):
    """Switch Pyro's validation off after the first steps; use within ``validation_enabled``.

    Validation is slow: each distribution checks all its parameters in every step.
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
    """transformers' progress bar on stderr, without log entries on stdout."""

    def on_prediction_step(self, *args: Any, **kwargs: Any) -> None:
        """Show no second bar: validation takes a moment."""

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float] | None = None,
        **kwargs: Any,
    ) -> None:
        """Show the validation log loss beside the bar, or the log score of ratings."""
        for name, words in _SHOWN.items():
            if self.training_bar is not None and logs and name in logs:
                self.training_bar.set_postfix_str(f"validation {words} {logs[name]:.4f}")
                return
