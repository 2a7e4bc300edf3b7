"""From token states to one state per sequence, by the attention mask alone."""

import torch
from torch import Tensor

from vrm_pyro.errors import InputError

POOLINGS = ("mean", "response_mean", "last")
"""``mean`` of all real tokens, ``response_mean`` of the response's own, ``last`` real token."""

DEFAULT_ENCODER_POOLING = "mean"
"""What ``auto`` means for a backbone that reads in both directions; for decoders it is last."""


def choose_pooling(pooling: str, is_decoder: bool) -> str:
    """Return the pooling that a setting stands for.

    Raises:
        InputError: If there is no such pooling.
    """
    if pooling == "auto":
        return "last" if is_decoder else DEFAULT_ENCODER_POOLING
    if pooling not in POOLINGS:
        raise InputError(
            f"pooling is {pooling!r}, but must be one of auto, {', '.join(POOLINGS)}."
        )
    return pooling


def last_position(mask: Tensor) -> Tensor:
    """Return the rightmost position whose mask is 1, shape (rows,), for a mask (rows, tokens).

    Not ``mask.sum() - 1``: that is another token under left padding or with a hole in the mask.
    Not the first padding token: padding may share its id with the end-of-text token.
    """
    return mask.shape[1] - 1 - mask.flip(1).to(torch.int32).argmax(dim=1)


def positions(mask: Tensor) -> Tensor:
    """Return position ids that count real tokens only, shape (rows, tokens).

    With them a model sees the same sequence on whichever side, and wherever, it is padded.
    """
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def masked_mean(states: Tensor, mask: Tensor) -> Tensor:
    """Return the mean over masked-in tokens, shape (rows, hidden)."""
    keep = mask.bool().unsqueeze(-1)
    # where, not a product: a padded position may hold NaN, and 0 * NaN is NaN.
    total = torch.where(keep, states, 0.0).sum(dim=1)
    return total / keep.sum(dim=1).clamp(min=1)


def pool(
    states: Tensor, mask: Tensor, pooling: str, response_mask: Tensor | None = None
) -> Tensor:
    """Return one state per sequence, shape (rows, hidden).

    Args:
        states: Token states, shape (rows, tokens, hidden).
        mask: 1 for real tokens, shape (rows, tokens); padding and holes may be anywhere.
        pooling: One of :data:`POOLINGS`.
        response_mask: 1 for the tokens of the response text; read by ``response_mean`` alone. A
            row without any is pooled over all its real tokens: a prompt, or a response whose
            text has no token.
    """
    if pooling == "last":
        rows = torch.arange(states.shape[0], device=states.device)
        return states[rows, last_position(mask)]
    if pooling == "response_mean" and response_mask is not None:
        own = response_mask.bool() & mask.bool()
        mask = torch.where(own.any(dim=1, keepdim=True), own, mask.bool())
    return masked_mean(states, mask)
