"""Check that torch and transformers know the optimizer and the schedule of a run."""

import inspect
from typing import Any

import torch
from torch import nn
from transformers import Trainer, get_scheduler
from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION

from vrm_pyro.errors import InputError
from vrm_pyro.training.arguments import TrainArguments

_STEPS = 100


def check_optimization(arguments: TrainArguments) -> None:
    """Build optimizer and schedule once, for one parameter, before any rows are read.

    Raises:
        InputError: If a package is not installed, or a setting does not fit.
    """
    parameter = nn.Parameter(torch.zeros(1))
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
        optimizer = kind([parameter], **options)
    except Exception as error:  # each package fails in its own way
        why = " ".join(str(error).split())
        raise InputError(
            f"train.optim is {str(arguments.optim)!r}, which does not work here with the settings "
            f"of train (optim_args, adam_beta1, ...): {why}"
        ) from error
    more: Any = arguments.lr_scheduler_kwargs or {}
    if not isinstance(more, dict):
        raise InputError(f"train.lr_scheduler_kwargs is {more!r}, but must be an object.")
    schedules: Any = TYPE_TO_SCHEDULER_FUNCTION
    known = inspect.signature(schedules[arguments.lr_scheduler_type]).parameters
    for name in more:
        if name not in known:  # some schedules ignore what they do not know
            raise InputError(
                f"train.lr_scheduler_kwargs names {name!r}, which the schedule "
                f"{str(arguments.lr_scheduler_type)!r} does not take; it takes "
                f"{', '.join(known)}."
            )
    try:
        get_scheduler(
            arguments.lr_scheduler_type,
            optimizer,
            num_warmup_steps=arguments.get_warmup_steps(_STEPS),
            num_training_steps=_STEPS,
            scheduler_specific_kwargs=more,
        )
    except Exception as error:
        why = " ".join(str(error).split())
        raise InputError(
            f"train.lr_scheduler_type is {str(arguments.lr_scheduler_type)!r}, which does not "
            f"work with train.lr_scheduler_kwargs {arguments.lr_scheduler_kwargs!r}: {why}"
        ) from error
