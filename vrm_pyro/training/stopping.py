"""A signal ends training after the step at hand, with a checkpoint to go on from."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any, Final

import torch
import torch.distributed as dist
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer_utils import IntervalStrategy

from vrm_pyro.errors import Terminated

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


class StopOnSignal(TrainerCallback):
    """Saves and stops on the first SIGINT or SIGTERM; a second Ctrl-C ends the process at once.

    A second signal of another kind does not: Ctrl-C under torchrun sends SIGINT to all processes,
    and torchrun SIGTERM to each right after it.

    A resumed run then gives the numbers of one that nobody stopped, so nothing is evaluated that
    would not be evaluated anyway.
    """

    def __init__(self) -> None:
        self._signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals within the block, and raise them at its end.

        Raises:
            KeyboardInterrupt: After SIGINT, with what to do next.
            Terminated: After SIGTERM, likewise.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in SIGNALS}

        def note(number: int, frame: FrameType | None) -> None:
            if self._signal == number == signal.SIGINT:
                raise KeyboardInterrupt
            self._signal = self._signal or number

        for number in SIGNALS:
            signal.signal(number, note)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        if self._signal:
            kind = KeyboardInterrupt if self._signal == signal.SIGINT else Terminated
            raise kind(
                "A checkpoint was saved; go on with the same command and "
                "--train.resume_from_checkpoint true."
            )

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Stop after this step, if any process was asked to."""
        if args.world_size > 1:
            asked = torch.tensor(self._signal, device=args.device)
            dist.all_reduce(asked, dist.ReduceOp.MAX)
            self._signal = int(asked)
        if self._signal:
            control.should_training_stop = True
            # What is due at the end of an epoch is still to come when this was its last step.
            control.should_save |= not self._ends_epoch(args, state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Leave out what is due at the end of an epoch where it was cut short."""
        if self._signal:
            whole = self._ends_epoch(args, state)
            control.should_save = whole
            control.should_evaluate &= whole

    @staticmethod
    def _ends_epoch(args: TrainingArguments, state: TrainerState) -> bool:
        # The last step of all ends an epoch, too, wherever it stands.
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        return ends and IntervalStrategy.EPOCH in (args.eval_strategy, args.save_strategy)
