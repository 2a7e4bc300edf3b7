"""Check that torch and transformers know the optimizer and the schedule of a run."""

from typing import Any

import torch
from torch import nn
from transformers import Trainer, get_scheduler

from vrm_pyro.errors import InputError
from vrm_pyro.training.arguments import TrainArguments

_STEPS = 100


def check_optimization(arguments: TrainArguments) -> None:
    """Build optimizer and schedule once, for one parameter, before any rows are read.

    Raises:
        InputError: If a package is not installed, or a setting does not fit.
    """
    parameter = nn.Parameter(torch.zeros(1))
    more: Any = arguments.lr_scheduler_kwargs or {}
    try:
        kind, options = Trainer.get_optimizer_cls_and_kwargs(arguments)
        optimizer = kind([parameter], **options)
    except Exception as error:  # each package fails in its own way
        why = " ".join(str(error).split())
        raise InputError(
            f"train.optim is {str(arguments.optim)!r}, which does not work here with the settings "
            f"of train (optim_args, adam_beta1, ...): {why}"
        ) from error
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
