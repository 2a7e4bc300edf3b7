"""A frozen transformers model that gives one state per prompt and per response."""

import copy
import hashlib
import itertools
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.batching import pad_batch, token_batches
from vrm_pyro.backbone.chat import ChatEncoder, Messages, TokenSequence
from vrm_pyro.backbone.forward import accepted_inputs, last_states
from vrm_pyro.backbone.packing import RowBatch, make_rows, pad_rows
from vrm_pyro.backbone.pooling import choose_pooling, pool, positions
from vrm_pyro.backbone.precision import choose_precision, prepare
from vrm_pyro.backbone.sharding import whole
from vrm_pyro.errors import InputError

TOKEN_BUDGETS = {"cpu": 2048}
"""Most tokens in a batch, padding included, by kind of device.

On a CPU, batches whose states stay in its cache waste less on padding and are no slower.
"""

DEFAULT_TOKEN_BUDGET = 8192
"""Most tokens in a batch on any other device."""

Progress = Callable[[int], None]


class Backbone:
    """Owns a transformers model and its tokenizer, both frozen.

    Not an ``nn.Module``: a model that held it would register hundreds of parameters as its own,
    save them a second time, and run them twice a step.

    Args:
        model: A base model of transformers, one that returns ``last_hidden_state``.
        tokenizer: Its tokenizer.
        name: What the user called it.
        source: Where the weights came from, in words.
        pooling: ``mean``, ``response_mean``, ``last``, or ``auto`` (by kind of backbone).
        max_length: Most tokens of a sequence, special tokens included.
        dtype: ``float32``; ``bfloat16`` (autocast); or ``auto``, which is bfloat16 where the
            device computes in it natively. States are always returned as float32.
        device: Where to run; ``auto`` is the GPU when there is one.
        token_budget: Most tokens in a batch, padding included; by device when omitted.

    Attributes:
        hidden_size: Length of a state.
        is_decoder: Whether a token's state depends on earlier tokens only.
        precision: ``bfloat16`` or ``float32``: how matrix products are computed.
        takes_positions: Whether position ids that count from 0 are handed over.
        pad_id: Token id that fills rows up.
        chat: The encoder of texts and messages.

    Raises:
        InputError: If model, tokenizer and settings do not fit together.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: PreTrainedTokenizerBase,
        *,
        name: str,
        source: str,
        pooling: str = "auto",
        max_length: int = 512,
        dtype: str = "auto",
        device: str | torch.device = "auto",
        token_budget: int | None = None,
    ) -> None:
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.precision = choose_precision(dtype, self.device)
        self.name, self.source = name, source
        self._token_budget: int | None = token_budget
        self.tokenizer = tokenizer
        self.model = prepare(model, self.precision).to(self.device)
        self._accepted = accepted_inputs(self.model)
        self.pad_id = _pad_id(tokenizer)
        self.takes_positions = False
        self._check_vocabulary()
        self.is_decoder, self.takes_positions = self._probe()
        self.pooling = choose_pooling(pooling, self.is_decoder)
        self._check_length(max_length)
        self.max_length = max_length
        self.chat = ChatEncoder(tokenizer, max_length, self.is_decoder)

    @cached_property
    def shares_prompts(self) -> bool:
        """Whether responses to one prompt can share its computation, found out by trying.

        Not where attention is not causal, looks at a window shorter than the longest sequence, or
        has a kernel that takes no mask of its own; nor where the last token's state comes out
        different.
        """
        if not self.is_decoder or not self.takes_positions:
            return False
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        if window is not None and window < self.max_length and _uses_window(config):
            return False
        if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
            return False
        a, b, c, d = (np.array([i], dtype=np.int32) for i in _ordinary_ids(self.tokenizer))
        zeros = np.zeros(4, dtype=np.int32)
        texts = [np.concatenate(ids) for ids in ((a, b, c, d), (a, b, d, c), (a, b, a, a))]
        pairs = [TokenSequence(ids, zeros, boundary=2, response_end=4) for ids in texts]
        with torch.inference_mode():
            together, apart = (
                self.row_states(pad_rows(make_rows(pairs, [0, 0, 0], "last", share, 64), 0))
                for share in (True, False)
            )
        tolerance = 1e-4 if self.precision == "float32" else 3e-2
        return bool((together - apart).abs().max() <= tolerance * apart.abs().max())

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch, padding included."""
        return self._token_budget or TOKEN_BUDGETS.get(self.device.type, DEFAULT_TOKEN_BUDGET)

    @token_budget.setter
    def token_budget(self, value: int) -> None:
        self._token_budget = value

    @property
    def hidden_size(self) -> int:
        """Length of a state."""
        return int(self.model.config.get_text_config().hidden_size)

    @property
    def module_under_adapters(self) -> nn.Module:
        """The transformers model itself, where adapters may be around it."""
        inner = getattr(self.model, "get_base_model", None)
        return self.model if inner is None else inner()

    @cached_property
    def weights_hash(self) -> str:
        """SHA-256 of all weights by name, as float32 values; computed once, when asked for.

        Where they are sharded, all processes have to ask.
        """
        state = hashlib.sha256()
        for name, tensor in sorted(self.model.state_dict().items()):
            # float32 holds bfloat16 and float16 exactly, so the precision of loading is no part.
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

    def with_max_length(self, max_length: int) -> "Backbone":
        """Return a backbone that shares model and tokenizer, but cuts texts elsewhere.

        Raises:
            InputError: If the model does not read that many tokens.
        """
        self._check_length(max_length)
        other = copy.copy(self)
        other.max_length = max_length
        other.chat = ChatEncoder(self.tokenizer, max_length, self.is_decoder)
        return other

    def key(self) -> dict[str, str | int]:
        """Return all that decides a state, apart from the texts."""
        return {
            "template": self.template_hash,
            "tokenizer": self.tokenizer_hash,
            "weights": self.weights_hash,
            "pooling": self.pooling,
            "max_length": self.max_length,
        }

    def encode_prompts(
        self, prompts: Sequence[str | Messages], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the state of each prompt, read without any response, shape (P, hidden).

        Args:
            prompts: Texts or lists of messages.
            progress: Called after each batch with the number of sequences it finished.
        """
        return self.states(self.chat.encode(prompts), progress)

    def encode_responses(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str],
        response_prompt: Sequence[int] | NDArray[np.int64] | None = None,
        progress: Progress | None = None,
    ) -> NDArray[np.float32]:
        """Return the state of each response after its prompt, shape (R, hidden).

        Args:
            prompts: Texts or lists of messages.
            responses: Texts.
            response_prompt: Index into ``prompts`` of each response; i for response i if omitted.
            progress: Called after each batch with the number of sequences it finished.
        """
        return self.states(self.chat.encode(prompts, responses, response_prompt), progress)

    def states(
        self, sequences: Sequence[TokenSequence], progress: Progress | None = None
    ) -> NDArray[np.float32]:
        """Return the pooled state of each sequence, shape (sequences, hidden).

        Equal sequences are computed once. Batches depend on the sequences alone.
        """
        first: dict[bytes, int] = {}
        place = np.array(
            [first.setdefault(s.digest, len(first)) for s in sequences], dtype=np.int64
        )
        unique = np.unique(place, return_index=True)[1]
        counts = np.bincount(place, minlength=len(unique))
        states = np.empty((len(unique), self.hidden_size), dtype=np.float32)
        lengths = [len(sequences[i]) for i in unique]
        for rows in token_batches(lengths, self.token_budget):
            batch = pad_batch([sequences[unique[r]] for r in rows], self.pad_id)
            mask, response = (
                t.to(self.device) for t in (batch.attention_mask, batch.response_mask)
            )
            with torch.no_grad():
                hidden = self.token_states(batch.input_ids, mask, batch.type_ids)
                pooled = pool(hidden, mask, self.pooling, response)
            states[rows] = pooled.cpu().numpy()
            if progress is not None:
                progress(int(counts[rows].sum()))
        return states[place]

    def pair_states(
        self,
        prompts: Sequence[TokenSequence],
        responses: Sequence[TokenSequence],
        response_prompt: Sequence[int] | NDArray[np.int64],
        progress: Progress | None = None,
        responses_done: Progress | None = None,
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return the states of prompts (P, hidden) and of responses after them (R, hidden).

        Where the backbone can, a prompt is computed once for all its responses; the numbers are
        those of :meth:`states` up to rounding.

        Args:
            prompts: Encoded prompts.
            responses: Encoded prompts with a response.
            response_prompt: Index into ``prompts`` of each response.
            progress: Called after each batch with the number of sequences it finished.
            responses_done: The same with the number of responses among them.
        """

        def finished(number: int, number_of_responses: int) -> None:
            if progress is not None:
                progress(number)
            if responses_done is not None and number_of_responses:
                responses_done(number_of_responses)

        if not self.shares_prompts:
            return (
                self.states(prompts, lambda number: finished(number, 0)),
                self.states(responses, lambda number: finished(number, number)),
            )
        sequences = [*prompts, *responses]
        owner = np.concatenate([np.arange(len(prompts)), np.asarray(response_prompt)])
        longest = max(self.token_budget, self.max_length)
        rows = make_rows(sequences, owner, self.pooling, True, longest)
        states = np.empty((len(sequences), self.hidden_size), dtype=np.float32)
        for group in token_batches([len(row) for row in rows], self.token_budget):
            batch = pad_rows([rows[r] for r in group], self.pad_id)
            with torch.no_grad():
                states[batch.states.numpy()] = self.row_states(batch).cpu().numpy()
            finished(len(batch.states), int((batch.states >= len(prompts)).sum()))
        return states[: len(prompts)], states[len(prompts) :]

    def row_states(self, batch: RowBatch, model: nn.Module | None = None) -> Tensor:
        """Return the pooled states of a batch of rows, float32, shape (states, hidden).

        Args:
            batch: Padded rows.
            model: What to run instead of the backbone's own module, such as a wrapper of it.
        """
        batch = batch.to(self.device)
        mask = batch.block_mask() if batch.shares else batch.attention_mask
        counted = batch.positions if self.takes_positions else None
        return batch.pool(self._run(batch.input_ids, mask, batch.type_ids, counted, model))

    def token_states(
        self, input_ids: Tensor, attention_mask: Tensor, type_ids: Tensor | None = None
    ) -> Tensor:
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
        """Return the last layer's states; a mask of four dimensions says who sees whom."""
        # In training, mixed precision may come from around this, too.
        low = self.precision == "bfloat16" or torch.is_autocast_enabled(self.device.type)
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=low):
            return last_states(
                self.model, input_ids, mask, type_ids, position_ids, self._accepted, model
            )

    def _probe(self) -> tuple[bool, bool]:
        """Find out by trying: is attention causal, and do position ids count from 0?

        A configuration does not say it: decoders may be tuned to read in both directions, and
        some encoders count positions from the padding id, in which case theirs are left alone.
        """
        ids = _ordinary_ids(self.tokenizer)
        batch = torch.tensor([ids[:3], [*ids[:2], ids[3]]])
        mask = torch.ones_like(batch)
        with torch.inference_mode():
            plain = self.token_states(batch, mask)
            size = float(plain.abs().max())
            # The rows differ in their last token alone.
            is_decoder = bool((plain[0, 0] - plain[1, 0]).abs().max() <= 1e-6 * size)
            if "position_ids" not in self._accepted:
                return is_decoder, False
            self.takes_positions = True
            counted = self.token_states(batch, mask)
        return is_decoder, bool((plain - counted).abs().max() <= 1e-3 * size)

    def _check_vocabulary(self) -> None:
        if len(_ordinary_ids(self.tokenizer)) < 4:
            # transformers makes an empty tokenizer where its files are missing.
            raise InputError(
                f"backbone {self.name}: its tokenizer has no vocabulary. Put the model's "
                "tokenizer.json and tokenizer_config.json beside config.json."
            )
        rows = self.model.get_input_embeddings().weight.shape[0]
        if len(self.tokenizer) > rows:
            raise InputError(
                f"backbone {self.name}: the tokenizer has {len(self.tokenizer)} tokens, but the "
                f"model has embeddings for {rows}. They do not belong together; give a folder "
                "that holds a model with its own tokenizer."
            )

    def _check_length(self, max_length: int) -> None:
        config = self.model.config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None) or max_length
        if not self.is_decoder and "position_ids" in self._accepted and not self.takes_positions:
            limit -= self.pad_id + 1
        limit = min(limit, self.tokenizer.model_max_length)
        if max_length > limit:
            raise InputError(
                f"backbone {self.name}: max_length is {max_length}, but it reads at most {limit} "
                f"tokens. Set max_length to {limit} or less."
            )


def _uses_window(config: Any) -> bool:
    """Whether any layer looks at a window of the latest tokens alone."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return bool(getattr(config, "use_sliding_window", True))
    return any(kind != "full_attention" for kind in kinds)


def _ordinary_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the first few token ids that are not special."""
    special = set(tokenizer.all_special_ids)
    return list(itertools.islice((i for i in range(len(tokenizer)) if i not in special), 4))


def _pad_id(tokenizer: PreTrainedTokenizerBase) -> int:
    for token in (tokenizer.pad_token_id, tokenizer.eos_token_id):
        if token is not None:
            return int(token)
    return 0  # any id will do: the mask, not the id, tells padding
