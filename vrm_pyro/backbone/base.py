"""Base class of backbones: one state for each prompt and each response."""

import copy
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Integer
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.batching import token_batches
from vrm_pyro.backbone.messages import Messages, prompt_text, response_owners
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.errors import InputError

TOKEN_BUDGETS = {"cpu": 2048}
"""Most tokens in a batch, padding included, by kind of device.

On a CPU, batches whose states stay in its cache waste less on padding and are no slower.
"""

DEFAULT_TOKEN_BUDGET = 8192
"""Most tokens in a batch on any other device."""

Progress = Callable[[int], None]
States = Float32[np.ndarray, "texts hidden"]


@dataclass(frozen=True)
class Text:
    """A prompt, or a prompt with one response, as :meth:`Backbone.embed` gets it.

    >>> text = Text([{"role": "user", "content": "2 + 2?"}], "It is 4.")
    >>> text.prompt, text.response, len(text)
    ('2 + 2?', 'It is 4.', 6)

    Args:
        messages: The prompt as chat messages.
        response: The response; None for the prompt alone.
        prompt_truncated: Whether the beginning of the prompt was cut.
        response_truncated: Whether the end of the response was cut.
    """

    messages: Messages
    response: str | None = None
    prompt_truncated: bool = False
    response_truncated: bool = False

    @property
    def prompt(self) -> str:
        """The prompt as text: a single user message as it is, several with role names."""
        return prompt_text(self.messages)

    def __len__(self) -> int:
        """Return the number of words."""
        return len(f"{self.prompt} {self.response or ''}".split())

    @cached_property
    def digest(self) -> bytes:
        """Hash of 16 bytes: equal exactly for equal texts."""
        content = json.dumps([[dict(m) for m in self.messages], self.response], sort_keys=True)
        return hashlib.blake2b(content.encode(), digest_size=16).digest()


class Backbone(ABC):
    """Map each prompt, and each response after its prompt, to one vector, its state.

    Trained models read states only, so any function of texts can be a backbone. A subclass
    passes the arguments below to this constructor and implements :meth:`embed`. For transformers
    models there are :class:`~vrm_pyro.backbone.EncoderBackbone` and
    :class:`~vrm_pyro.backbone.DecoderBackbone`; :func:`~vrm_pyro.load_backbone` chooses.

    Not an ``nn.Module``: a model that held it would register hundreds of parameters as its own,
    save them a second time, and run them twice a step.

    Args:
        name: What the user calls it.
        hidden_size: Length of a state.
        version: Change it whenever states change: stores, the cache and trained models tell
            backbones apart by name and version.
        source: Where it comes from, in words.
        pooling: How token states become one state; ``auto`` for the backbone's default.
        max_length: Longest text in tokens, or in words where there are none. It is part of
            :meth:`key`; a subclass cuts texts itself.
        precision: ``float32`` or ``bfloat16``: how states are computed.
        device: Where it computes, and where the model that reads its states runs.
        token_budget: Most tokens, or words, in a batch; by device when omitted.

    Attributes:
        is_decoder: Whether a token's state depends on earlier tokens only.
        tokenizer: A tokenizer of transformers, None where there is none.
    """

    is_decoder: ClassVar[bool] = False
    tokenizer: PreTrainedTokenizerBase | None = None

    def __init__(
        self,
        *,
        name: str,
        hidden_size: int,
        version: str = "",
        source: str = "code",
        pooling: str = "auto",
        max_length: int = 1_000_000,
        precision: str = "float32",
        device: str | torch.device = "cpu",
        token_budget: int | None = None,
    ) -> None:
        self.name, self.source, self.version = name, source, version
        self.hidden_size, self.pooling, self.max_length = hidden_size, pooling, max_length
        self.precision, self.device = precision, torch.device(device)
        self._token_budget = token_budget
        self._settings = ReadingSettings()

    @property
    def settings(self) -> ReadingSettings:
        """How conversations are read."""
        return self._settings

    def with_settings(self, settings: ReadingSettings) -> "Backbone":
        """Return the same backbone reading conversations with other settings."""
        if settings == self.settings:
            return self
        other = copy.copy(self)
        other._settings = settings
        return other

    @abstractmethod
    def embed(self, sequences: Sequence[Any]) -> States:
        """Return the state of each text in a batch, shape (texts, hidden). No text repeats.

        Args:
            sequences: A subset of what :meth:`sequences` returned: :class:`Text` objects, unless
                that method is overridden.
        """

    def sequences(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str] | None = None,
        response_prompt: Sequence[int] | Integer[np.ndarray, " responses"] | None = None,
    ) -> list[Any]:
        """Return prompts, or responses after their prompts, as :meth:`embed` reads them.

        Args:
            prompts: Texts (one user message) or lists of messages.
            responses: Responses; when omitted, the prompts alone.
            response_prompt: Index into ``prompts`` for each response; when omitted, response i
                belongs to prompt i.

        Raises:
            InputError: If a message has no role or content, or the numbers do not fit.
        """
        read = [self.settings.prompt(prompt) for prompt in prompts]
        if responses is None:
            return [Text(messages) for messages in read]
        owner = response_owners(len(prompts), len(responses), response_prompt)
        answers = [self.settings.answer(response) for response in responses]
        return [Text(read[i], text) for i, text in zip(owner, answers, strict=True)]

    @property
    def shares_prompts(self) -> bool:
        """Whether responses to one prompt share its computation."""
        return False

    @property
    def token_budget(self) -> int:
        """Most tokens in a batch, padding included."""
        return self._token_budget or TOKEN_BUDGETS.get(self.device.type, DEFAULT_TOKEN_BUDGET)

    @token_budget.setter
    def token_budget(self, value: int) -> None:
        self._token_budget = value

    @property
    def weights_hash(self) -> str:
        """Hash of the weights; here of name, version and hidden size."""
        what = json.dumps([self.name, self.version, self.hidden_size])
        return hashlib.sha256(what.encode()).hexdigest()

    @property
    def tokenizer_hash(self) -> str:
        """Hash of the tokenizer's vocabulary and behaviour."""
        return "none"

    @property
    def template_hash(self) -> str:
        """Hash of how messages become text."""
        return "none"

    def key(self) -> dict[str, str | int]:
        """Return everything that determines a state besides the texts."""
        return {
            "template": self.template_hash,
            "tokenizer": self.tokenizer_hash,
            "weights": self.weights_hash,
            "pooling": self.pooling,
            "max_length": self.max_length,
            **self.settings.key(),
        }

    def save_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer into a folder; do nothing without one."""
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(folder)

    def with_max_length(self, max_length: int) -> "Backbone":
        """Return a backbone that truncates texts at another length.

        Raises:
            InputError: If the backbone cannot read that many tokens, or has its own rule.
        """
        raise InputError(
            f"backbone {self.name}: cuts texts by its own rule. Leave max_length out, or make "
            "the backbone with another one."
        )

    def encode_prompts(
        self, prompts: Sequence[str | Messages], progress: Progress | None = None
    ) -> States:
        """Return the state of each prompt, read without any response, shape (P, hidden).

        Args:
            prompts: Texts or lists of messages.
            progress: Called after each batch with the number of texts it finished.
        """
        return self.states(self.sequences(prompts), progress)

    def encode_responses(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str],
        response_prompt: Sequence[int] | Integer[np.ndarray, " responses"] | None = None,
        progress: Progress | None = None,
    ) -> States:
        """Return the state of each response after its prompt, shape (R, hidden).

        Args:
            prompts: Texts or lists of messages.
            responses: Texts.
            response_prompt: Index into ``prompts`` of each response; i for response i if omitted.
            progress: Called after each batch with the number of texts it finished.
        """
        return self.states(self.sequences(prompts, responses, response_prompt), progress)

    def states(self, sequences: Sequence[Any], progress: Progress | None = None) -> States:
        """Return the state of each sequence, shape (sequences, hidden).

        Equal sequences are computed once. Batches depend on the sequences alone.

        Args:
            sequences: What :meth:`sequences` returned, or some of it.
            progress: Called after each batch with the number of sequences it finished.

        Raises:
            InputError: If :meth:`embed` returns another shape.
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
            found = self.embed([sequences[unique[r]] for r in rows])
            if np.shape(found) != (len(rows), self.hidden_size):
                raise InputError(
                    f"backbone {self.name}: embed returned shape {np.shape(found)} for "
                    f"{len(rows)} texts, not ({len(rows)}, {self.hidden_size})."
                )
            states[rows] = found
            if progress is not None:
                progress(int(counts[rows].sum()))
        return states[place]

    def pair_states(
        self,
        prompts: Sequence[Any],
        responses: Sequence[Any],
        response_prompt: Sequence[int] | Integer[np.ndarray, " responses"],
        progress: Progress | None = None,
        responses_done: Progress | None = None,
    ) -> tuple[Float32[np.ndarray, "prompts hidden"], Float32[np.ndarray, "responses hidden"]]:
        """Return the states of prompts (P, hidden) and of responses after them (R, hidden).

        Where the backbone can, a prompt is computed once for all its responses; the numbers are
        those of :meth:`states` up to rounding.

        Args:
            prompts: What :meth:`sequences` returned for prompts.
            responses: What it returned for responses.
            response_prompt: Index into ``prompts`` of each response.
            progress: Called after each batch with the number of sequences it finished.
            responses_done: The same with the number of responses among them.
        """

        def finished(number: int) -> None:
            for call in (progress, responses_done):
                if call is not None:
                    call(number)

        return self.states(prompts, progress), self.states(responses, finished)
