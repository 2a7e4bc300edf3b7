"""Training that is asked to stop saves a checkpoint first."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from vrm_pyro.processes import is_main, world_size

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Stopped(KeyboardInterrupt):
    """Training was asked to stop, and has saved where it was.

    Args:
        number: The signal.
        checkpoint: What was saved.
    """

    def __init__(self, number: int, checkpoint: Path) -> None:
        self.number, self.checkpoint = number, checkpoint
        super().__init__(f"stopped by {signal.Signals(number).name}; {checkpoint} is saved.")

    def advise(self, how: str) -> "Stopped":
        """Return the same with words on how to go on."""
        self.args = (f"{self.args[0]} {how}",)
        return self


class StopRequest(TrainerCallback):
    """Listens for SIGINT and SIGTERM while training runs, and stops it after a step.

    The checkpoint is one that an uninterrupted run passes through as well: at the end of an epoch
    it is saved after the evaluation that belongs there.
    """

    def __init__(self) -> None:
        #: The signal that came, 0 before.
        self.number = 0
        #: The same, once all processes know of it: they have to stop after the same step.
        self.agreed = 0
        self._saving = False

    @contextmanager
    def listen(self, args: TrainingArguments) -> Iterator[None]:
        """Take the two signals for a block, where checkpoints are wanted."""
        in_main_thread = threading.current_thread() is threading.main_thread()
        if not in_main_thread or args.save_strategy == "no":
            yield
            return
        before = {number: signal.signal(number, self._note) for number in SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if number == self.number == signal.SIGINT:
            raise KeyboardInterrupt
        if not self.number and is_main():
            again = " Once more stops at once." if number == signal.SIGINT else ""
            # Not print: the signal may have come in the middle of another one.
            os.write(2, f"\nsaving a checkpoint after this step.{again}\n".encode())
        self.number = self.number or number

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save after a step within an epoch."""
        ends_epoch = state.epoch is not None and float(state.epoch).is_integer()
        if not ends_epoch and state.global_step < state.max_steps:
            self._stop(control)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Save after an epoch."""
        self._stop(control)

    def _stop(self, control: TrainerControl) -> None:
        if self.agreed if world_size() > 1 else self.number:
            self._saving = control.should_save = True

    def on_save(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave training.

        Raises:
            Stopped: When this checkpoint was saved because training is to stop.
        """
        if self._saving:
            folder = Path(str(args.output_dir)) / f"checkpoint-{state.global_step}"
            raise Stopped(self.agreed or self.number, folder)
