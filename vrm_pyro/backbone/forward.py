"""One call of a transformers model, with the inputs that it takes."""

import inspect
from collections.abc import Set as AbstractSet
from typing import Any

import torch
from torch import Tensor, nn


def accepted_inputs(model: nn.Module) -> set[str]:
    """Return the names of what a model's ``forward`` takes."""
    return set(inspect.signature(model.forward).parameters)


def last_states(
    model: Any,
    input_ids: Tensor,
    mask: Tensor,
    type_ids: Tensor | None,
    position_ids: Tensor | None,
    accepted: AbstractSet[str],
    wrapper: nn.Module | None = None,
) -> Tensor:
    """Return the last layer's state of every token, float32, shape (rows, tokens, hidden).

    Args:
        model: The transformers model.
        input_ids: Shape (rows, tokens).
        mask: 1 for real tokens, (rows, tokens); or bool, True where a query may attend to a key,
            (rows, 1, query, key).
        type_ids: Segment ids, (rows, tokens); left out where the model has none.
        position_ids: Positions, (rows, tokens); None for the model's own.
        accepted: :func:`accepted_inputs` of the model itself, without adapters or wrappers.
        wrapper: What to call instead of the model, such as a wrapper of it.
    """
    if mask.dim() == 4 and model.config._attn_implementation == "eager":
        # This one adds its mask to the scores; the other wants to know what is allowed.
        mask = torch.where(mask, 0.0, torch.finfo(model.dtype).min).to(model.dtype)
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": mask}
    if type_ids is not None and "token_type_ids" in accepted:
        inputs["token_type_ids"] = type_ids
    if position_ids is not None:
        inputs["position_ids"] = position_ids
    if "use_cache" in accepted:
        inputs["use_cache"] = False
    hidden: Tensor = (model if wrapper is None else wrapper)(**inputs).last_hidden_state
    return hidden.float()
