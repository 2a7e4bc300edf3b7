"""On SIGINT or SIGTERM, finish the current step, save a checkpoint and stop."""

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
    """Save and stop on the first SIGINT or SIGTERM; a second Ctrl-C ends the process at once.

    A second signal of another kind does not: after Ctrl-C, torchrun sends SIGTERM to every
    process that has just received SIGINT.

    A resumed run gives the numbers of an uninterrupted one. So stopping evaluates nothing that
    the uninterrupted run would not evaluate.
    """

    def __init__(self) -> None:
        self._signal = 0

    @contextmanager
    def listening(self) -> Iterator[None]:
        """Catch the signals within the block and raise them at its end.

        Raises:
            KeyboardInterrupt: After SIGINT; the message says how to resume.
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
        """Stop after this step if any process received a signal."""
        if args.world_size > 1:
            asked = torch.tensor(self._signal, device=args.device)
            dist.all_reduce(asked, dist.ReduceOp.MAX)
            self._signal = int(asked)
        if self._signal:
            control.should_training_stop = True
            # After the last step of an epoch, its evaluation and checkpoint are still to come.
            control.should_save |= not self._ends_epoch(args, state)

    def on_epoch_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Skip the evaluation and checkpoint of the epoch's end if the epoch was cut short."""
        if self._signal:
            whole = self._ends_epoch(args, state)
            control.should_save = whole
            control.should_evaluate &= whole

    @staticmethod
    def _ends_epoch(args: TrainingArguments, state: TrainerState) -> bool:
        # The last step of training counts as the end of an epoch, wherever it falls.
        ends = float(state.epoch or 0).is_integer() or state.global_step >= state.max_steps
        return ends and IntervalStrategy.EPOCH in (args.eval_strategy, args.save_strategy)
