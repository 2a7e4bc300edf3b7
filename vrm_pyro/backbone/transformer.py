"""Base class of transformers backbones: what encoders and decoders share."""

import copy
import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Integer
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.base import Backbone, States
from vrm_pyro.backbone.batching import pad_batch
from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.backbone.forward import accepted_inputs, last_states
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.backbone.messages import Messages
from vrm_pyro.backbone.packing import RowBatch
from vrm_pyro.backbone.pooling import choose_pooling, pool, positions, state_size
from vrm_pyro.backbone.precision import computing_in
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.backbone.sharding import whole
from vrm_pyro.errors import InputError

LONGEST = 1024
"""Most tokens of a sequence where ``max_length`` is None; a larger number can be given."""


class TransformerBackbone(Backbone):
    """A frozen transformers model with its tokenizer.

    :func:`~vrm_pyro.load_backbone` makes one from a name,
    :func:`~vrm_pyro.backbone.wrap_model` from a loaded model.

    Args:
        model: A transformers base model, prepared and on its device.
        tokenizer: Its tokenizer.
        name: What the user called it.
        source: Where the weights came from, in words.
        pooling: ``mean``, ``response_mean``, ``last``, ``last+mean``, or ``auto`` (by kind of
            backbone).
        layer: Number of the layer whose states are read, its last; None if it has all layers.
        max_length: Most tokens of a sequence, special tokens included; None for all that the
            model reads, at most :data:`LONGEST`.
        precision: ``bfloat16`` or ``float32``: how matrix products are computed. States are
            always returned as float32.
        takes_positions: Whether to pass position ids that count from 0.
        token_budget: Most tokens in a batch, padding included; by device when omitted.

    Attributes:
        pad_id: Token id used for padding.
        file_sha256: SHA-256 of the GGUF file that holds the weights; None for other backbones.
        chat: The encoder of texts and messages.

    Raises:
        InputError: If model, tokenizer and settings do not fit together.
    """

    tokenizer: PreTrainedTokenizerBase
    file_sha256: str | None

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        source: str,
        pooling: str,
        layer: int | None,
        max_length: int | None,
        precision: str,
        takes_positions: bool,
        token_budget: int | None,
    ) -> None:
        config: Any = model.config
        pooling = choose_pooling(pooling, self.is_decoder)
        super().__init__(
            name=name,
            hidden_size=state_size(pooling, int(config.get_text_config().hidden_size)),
            source=source,
            pooling=pooling,
            max_length=max_length or LONGEST,
            precision=precision,
            device=next(model.parameters()).device,
            token_budget=token_budget,
        )
        self.model: Any = model
        self.layer, self.file_sha256 = layer, None
        self.tokenizer = tokenizer
        self._accepted = accepted_inputs(model)
        self.takes_positions = takes_positions
        self.pad_id = _pad_id(tokenizer)
        if max_length is None:
            self.max_length = min(LONGEST, self._limit())
        self._check_length(self.max_length)
        self.chat = ChatEncoder(tokenizer, self.max_length, self.is_decoder)

    @property
    def settings(self) -> ReadingSettings:
        """How conversations are read."""
        return self.chat.settings

    @property
    def module_under_adapters(self) -> nn.Module:
        """The transformers model without adapters around it."""
        inner = getattr(self.model, "get_base_model", None)
        return self.model if inner is None else inner()

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of all weights by name, as float32; computed once, on first access.

        If weights are sharded, all processes have to read it.
        """
        state = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            # float32 represents both others exactly: the hash is the same for any loading dtype.
            values = whole(tensor.detach()).float().cpu().contiguous()
            state.update(f"{name}{tuple(values.shape)}".encode())
            state.update(values.numpy().tobytes())
        return state.hexdigest()

    @property
    def tokenizer_hash(self) -> str:
        """Hash of the tokenizer's vocabulary and behaviour."""
        return self.chat.tokenizer_hash

    @property
    def template_hash(self) -> str:
        """Hash of how messages become text."""
        return self.chat.template_hash

    def key(self) -> dict[str, str | int]:
        """Return everything that determines a state besides the texts."""
        optional = {"layer": self.layer, "file": self.file_sha256}
        return super().key() | {k: v for k, v in optional.items() if v is not None}

    def with_max_length(self, max_length: int) -> "TransformerBackbone":
        """Return a backbone with the same model and tokenizer and another ``max_length``.

        Raises:
            InputError: If the model does not read that many tokens.
        """
        self._check_length(max_length)
        other = copy.copy(self)
        other.max_length = max_length
        other.chat = ChatEncoder(self.tokenizer, max_length, self.is_decoder, self.settings)
        return other

    def with_settings(self, settings: ReadingSettings) -> "TransformerBackbone":
        """Return the same backbone reading conversations with other settings."""
        if settings.settled(self.tokenizer.chat_template) == self.settings:
            return self
        other = copy.copy(self)
        other.chat = self.chat.with_settings(settings)
        return other

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer into a folder; its template writes the date that is read here."""
        self.chat.fixed_tokenizer().save_pretrained(folder)

    def sequences(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str] | None = None,
        response_prompt: Sequence[int] | Integer[np.ndarray, " responses"] | None = None,
    ) -> list[TokenSequence]:
        """Return the token ids of prompts, or of responses after their prompts; see the base."""
        return self.chat.encode(prompts, responses, response_prompt)

    def embed(self, sequences: Sequence[TokenSequence]) -> States:
        """Return the pooled state of each sequence of a batch, shape (sequences, hidden)."""
        batch = pad_batch(sequences, self.pad_id)
        mask, response = (t.to(self.device) for t in (batch.attention_mask, batch.response_mask))
        with torch.no_grad():
            hidden = self.token_states(batch.input_ids, mask, batch.type_ids)
            return pool(hidden, mask, self.pooling, response).cpu().numpy()

    def row_states(
        self, batch: RowBatch, model: nn.Module | None = None
    ) -> Float[Tensor, "states hidden"]:
        """Return the pooled states of a batch of rows, float32, shape (states, hidden).

        Args:
            batch: Padded rows.
            model: What to run instead of the backbone's own module, such as a wrapper of it.
        """
        batch = batch.to(self.device)
        mask = batch.block_mask() if batch.shares else batch.attention_mask
        counted = batch.positions if self.takes_positions else None
        hidden = self._run(batch.input_ids, mask, batch.type_ids, counted, model)
        return batch.pool(hidden, self.pooling)

    def token_states(
        self,
        input_ids: Integer[Tensor, "rows tokens"],
        attention_mask: Integer[Tensor, "rows tokens"],
        type_ids: Integer[Tensor, "rows tokens"] | None = None,
    ) -> Float[Tensor, "rows tokens hidden"]:
        """Return the last layer's state of every token, float32, shape (rows, tokens, hidden).

        Padding may be on either side, and the mask may have holes: positions count real tokens.
        """
        mask = attention_mask.to(self.device)
        types = None if type_ids is None else type_ids.to(self.device)
        counted = positions(mask) if self.takes_positions else None
        return self._run(input_ids.to(self.device), mask, types, counted)

    def _run(
        self,
        input_ids: Tensor,
        mask: Tensor,
        type_ids: Tensor | None,
        position_ids: Tensor | None,
        model: nn.Module | None = None,
    ) -> Tensor:
        """Return the last layer's states; see :func:`.last_states` for the masks."""
        with computing_in(self.precision, self.device):
            return last_states(
                self.model, input_ids, mask, type_ids, position_ids, self._accepted, model
            )

    def _reach(self) -> int | None:
        """Return the most tokens that the model's positions allow, None for any number."""
        config: Any = self.model.config
        return getattr(config.get_text_config(), "max_position_embeddings", None)

    def _limit(self) -> int:
        """Return the most tokens that model and tokenizer take."""
        reach = self._reach()
        limit: int = self.tokenizer.model_max_length
        return limit if reach is None else min(reach, limit)

    def _check_length(self, max_length: int) -> None:
        limit = self._limit()
        if max_length > limit:
            raise InputError(
                f"backbone {self.name}: max_length is {max_length}, but it reads at most {limit} "
                f"tokens. Set max_length to {limit} or less."
            )


def own_class(backbone: Backbone) -> dict[str, str]:
    """Return the dotted path of a user's own backbone class under ``class``, else nothing.

    Such a backbone cannot be loaded by name: readers of its states or models need the class.
    """
    if isinstance(backbone, TransformerBackbone):
        return {}
    return {"class": f"{type(backbone).__module__}.{type(backbone).__qualname__}"}


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0  # any id will do: the mask marks padding, not the id
