"""Pool token states into one state per sequence; reads only the attention mask."""

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from vrm_pyro.errors import InputError

LAST_MEAN = "last+mean"
"""The last token's state and the mean over all, one after the other: twice the size."""

POOLINGS = ("mean", "response_mean", "last", LAST_MEAN)
"""``mean`` over all real tokens, ``response_mean`` over the response, ``last`` real token, or
:data:`LAST_MEAN`."""

DEFAULT_ENCODER_POOLING = "mean"
"""What ``auto`` means for a backbone that reads in both directions."""

DEFAULT_DECODER_POOLING = LAST_MEAN
"""What ``auto`` means for a backbone with causal attention."""


def choose_pooling(pooling: str, is_decoder: bool) -> str:
    """Return the pooling for a setting, with ``auto`` resolved.

    >>> choose_pooling("auto", is_decoder=True), choose_pooling("auto", is_decoder=False)
    ('last+mean', 'mean')

    Raises:
        InputError: If there is no such pooling.
    """
    if pooling == "auto":
        return DEFAULT_DECODER_POOLING if is_decoder else DEFAULT_ENCODER_POOLING
    if pooling not in POOLINGS:
        raise InputError(
            f"pooling is {pooling!r}, but must be one of auto, {', '.join(POOLINGS)}."
        )
    return pooling


def state_size(pooling: str, hidden_size: int) -> int:
    """Return the length of a state of a model with a hidden size.

    >>> state_size("last", 576), state_size("last+mean", 576)
    (576, 1152)
    """
    return 2 * hidden_size if pooling == LAST_MEAN else hidden_size


def last_position(mask: Shaped[Tensor, "rows tokens"]) -> Int[Tensor, " rows"]:
    """Return the rightmost position whose mask is 1, shape (rows,), for a mask (rows, tokens).

    Not ``mask.sum() - 1``: that is another token under left padding or with a hole in the mask.
    Not the first padding token: padding may share its id with the end-of-text token.

    >>> last_position(torch.tensor([[1, 1, 0], [0, 1, 1]])).tolist()
    [1, 2]
    """
    return mask.shape[1] - 1 - mask.flip(1).to(torch.int32).argmax(dim=1)


def positions(mask: Shaped[Tensor, "rows tokens"]) -> Int[Tensor, "rows tokens"]:
    """Return position ids that count real tokens only, shape (rows, tokens).

    With them a model sees the same sequence on whichever side, and wherever, it is padded.

    >>> positions(torch.tensor([[0, 1, 0, 1]])).tolist()
    [[0, 0, 0, 1]]
    """
    return (mask.long().cumsum(dim=1) - 1).clamp(min=0)


def masked_mean(
    states: Float[Tensor, "rows tokens hidden"], mask: Shaped[Tensor, "rows tokens"]
) -> Float[Tensor, "rows hidden"]:
    """Return the mean over tokens whose mask is 1, shape (rows, hidden).

    >>> masked_mean(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]])).tolist()
    [[2.0]]
    """
    keep = mask.bool().unsqueeze(-1)
    # where, not a product: a padded position may hold NaN, and 0 * NaN is NaN.
    total = torch.where(keep, states, 0.0).sum(dim=1)
    return total / keep.sum(dim=1).clamp(min=1)


def pool(
    states: Float[Tensor, "rows tokens hidden"],
    mask: Shaped[Tensor, "rows tokens"],
    pooling: str,
    response_mask: Shaped[Tensor, "rows tokens"] | None = None,
) -> Float[Tensor, "rows state"]:
    """Return one state per sequence, shape (rows, hidden); (rows, 2 hidden) for ``last+mean``.

    Args:
        states: Token states, shape (rows, tokens, hidden).
        mask: 1 for real tokens, shape (rows, tokens); padding and holes may be anywhere.
        pooling: One of :data:`POOLINGS`.
        response_mask: 1 for the tokens of the response text; read by ``response_mean`` alone. A
            row without any is pooled over all its real tokens: a prompt, or a response whose
            text has no token.

    >>> states = torch.tensor([[[1.0], [2.0], [6.0]]])
    >>> mask, response = torch.ones(1, 3), torch.tensor([[0, 1, 1]])
    >>> [pool(states, mask, way, response).tolist() for way in POOLINGS]
    [[[3.0]], [[4.0]], [[6.0]], [[6.0, 3.0]]]
    """
    if pooling == LAST_MEAN:
        return torch.cat([pool(states, mask, "last"), masked_mean(states, mask)], dim=-1)
    if pooling == "last":
        rows = torch.arange(states.shape[0], device=states.device)
        return states[rows, last_position(mask)]
    if pooling == "response_mean" and response_mask is not None:
        own = response_mask.bool() & mask.bool()
        mask = torch.where(own.any(dim=1, keepdim=True), own, mask.bool())
    return masked_mean(states, mask)
