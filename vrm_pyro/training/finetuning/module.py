"""Backbone and heads in one module: token rows to a loss."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from vrm_pyro.backbone import RowBatch, TransformerBackbone
from vrm_pyro.training.module import TrainingModule

BACKBONE = "backbone."
"""Prefix of the names of the backbone's parameters."""


class TextModule(nn.Module):
    """Compute states from token rows and pass them to the heads' :class:`TrainingModule`.

    The backbone runs once per step, for prompts and responses, model and guide. It uses mixed
    precision where that is on; the heads compute in float32.

    Args:
        module: The heads with their objective.
        reader: The backbone; its ``model`` is registered here.
        frozen_fraction: Share of the steps, at the start, without gradients for the backbone.
    """

    def __init__(
        self, module: TrainingModule, reader: TransformerBackbone, frozen_fraction: float
    ) -> None:
        super().__init__()
        self.backbone: nn.Module = reader.model
        self.heads = module
        self.reader, self.frozen_fraction = reader, frozen_fraction

    @property
    def progress(self) -> float:
        """Share of the steps done, in [0, 1]."""
        return self.heads.progress

    @progress.setter
    def progress(self, value: float) -> None:
        self.heads.progress = value

    def take_log(self) -> dict[str, float]:
        """Return the means of the heads' logged values since the last call."""
        return self.heads.take_log()

    def activation_checkpointing_enable(
        self, activation_checkpointing_kwargs: Mapping[str, Any] | None = None, **kwargs: Any
    ) -> None:
        """Turn on activation checkpointing for the backbone; the Trainer calls this.

        Non-reentrant: reentrant checkpointing loses gradients where inputs need none (adapters)
        and marks parameters twice with several processes. The heads draw samples and are not
        checkpointed.
        """
        enable: Any = self.reader.module_under_adapters.activation_checkpointing_enable
        asked = {**(activation_checkpointing_kwargs or {}), "use_reentrant": False}
        enable(activation_checkpointing_kwargs=asked, **kwargs)

    def forward(
        self,
        prompt_state: Int[Tensor, " prompts"],
        response_state: Int[Tensor, " responses"],
        input_ids: Tensor,
        type_ids: Tensor,
        positions: Tensor,
        segments: Tensor,
        pool_token: Tensor,
        pool_state: Tensor,
        **labels: Tensor,
    ) -> dict[str, Tensor]:
        """Return what :meth:`TrainingModule.forward` returns.

        Args:
            prompt_state: Index of each prompt's pooled state.
            response_state: Index of each response's pooled state.
            input_ids: See :class:`~vrm_pyro.backbone.RowBatch`, as all up to ``pool_state``.
            type_ids: See there.
            positions: See there.
            segments: See there.
            pool_token: See there.
            pool_state: See there.
            **labels: The other fields of a :class:`~vrm_pyro.data.batch.FeatureBatch`.
        """
        order = torch.arange(len(prompt_state) + len(response_state), device=input_ids.device)
        rows = (input_ids, type_ids, positions, segments, pool_token, pool_state, order)
        learns = self.training and self.progress >= self.frozen_fraction
        with torch.set_grad_enabled(learns and torch.is_grad_enabled()):
            states = self.reader.row_states(RowBatch(*rows), self.backbone)
        result: dict[str, Tensor] = self.heads(
            prompts=states[prompt_state], responses=states[response_state], **labels
        )
        return result


def frozen_names(module: nn.Module) -> set[str]:
    """Return the names of the backbone's tensors that are not trained.

    Checkpoints leave them out: they are loaded with the backbone.
    """
    if not isinstance(module, TextModule):
        return set()
    trained = {name for name, value in module.named_parameters() if value.requires_grad}
    return {name for name in module.state_dict() if name.startswith(BACKBONE)} - trained
