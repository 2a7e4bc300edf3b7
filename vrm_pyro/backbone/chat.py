"""Tokenize prompts and responses, and record where the response begins.

Training, evaluation, scoring and serving all call :meth:`ChatEncoder.encode`, so they agree on
templates, special tokens and truncation.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from jinja2 import TemplateError
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.messages import (
    Messages,
    as_messages,
    prompt_text,
    response_owners,
    with_roles,
)
from vrm_pyro.errors import InputError

MIN_PROMPT_TOKENS = 64
"""Number of tokens at the end of an overlong prompt that are kept before the response is cut."""

# The tokenizer's hash includes its output on these texts (case, accents, spaces, digits, other
# scripts). The serialised tokenizer is not hashed: it changes with the library's version.
_PROBES = (
    "Héllo wörld",
    "  two  spaces\n\nand\tlines 12345",
    "don't; f(x)=x**2",
    "数学 नमस्ते",
    "😀 ﬁ Ａ",
)


@dataclass(frozen=True)
class TokenSequence:
    """Token ids of a prompt, or of a prompt with one response.

    Args:
        input_ids: Token ids with special tokens, shape (tokens,).
        type_ids: Segment of each token, shape (tokens,); all 0 for models without segments.
        boundary: Index of the first response token; the length when there is no response.
        response_end: Index after the last token of the response text; tokens after it belong to
            the template. Equal to ``boundary`` when there is no response.
        prompt_truncated: Whether the beginning of the prompt was cut.
        response_truncated: Whether the end of the response was cut.
    """

    input_ids: NDArray[np.int32]
    type_ids: NDArray[np.int32]
    boundary: int
    response_end: int
    prompt_truncated: bool = False
    response_truncated: bool = False

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def digest(self) -> bytes:
        """Hash of 16 bytes: equal exactly when a backbone gets the same input."""
        state = hashlib.blake2b(digest_size=16)
        state.update(f"{self.boundary},{self.response_end};".encode())
        state.update(self.input_ids.tobytes())
        state.update(self.type_ids.tobytes())
        return state.digest()


@dataclass(frozen=True)
class SpecialTokens:
    """Special tokens that a tokenizer adds around one text or a pair, as lists of (id, type)."""

    before: list[tuple[int, int]]
    between: list[tuple[int, int]]
    after: list[tuple[int, int]]
    first_type: int
    second_type: int

    @property
    def count(self) -> int:
        """Number of special tokens."""
        return len(self.before) + len(self.between) + len(self.after)

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, pair: bool) -> "SpecialTokens":
        """Find the special tokens by encoding ``"a"``, or the pair ``("a", "a")``.

        Raises:
            InputError: If the tokenizer cannot say which token came from which text.
        """
        if not tokenizer.is_fast:
            raise InputError(
                f"tokenizer {type(tokenizer).__name__}: it has no tokenizer.json, so special "
                "tokens cannot be told from text. Save it once with a version of transformers "
                "that writes tokenizer.json, or choose another backbone."
            )
        encoding = tokenizer("a", "a" if pair else None, return_token_type_ids=True)
        tokens = list(
            zip(
                encoding["input_ids"],
                encoding["token_type_ids"],
                encoding.sequence_ids(0),
                strict=True,
            )
        )
        first = [i for i, token in enumerate(tokens) if token[2] == 0]
        second = [i for i, token in enumerate(tokens) if token[2] == 1]
        if not first or (pair and not second):
            raise InputError(
                f"tokenizer {type(tokenizer).__name__}: it turns the text 'a' into no token. "
                "Choose a tokenizer that has a vocabulary for text."
            )

        def special(part: Iterable[tuple[int, int, int | None]]) -> list[tuple[int, int]]:
            return [(i, t) for i, t, _ in part]

        last = second if pair else first
        return cls(
            before=special(tokens[: first[0]]),
            between=special(tokens[first[-1] + 1 : second[0]]) if pair else [],
            after=special(tokens[last[-1] + 1 :]),
            first_type=tokens[first[0]][1],
            second_type=tokens[last[0]][1],
        )


def split_budget(num_prompt: int, num_response: int, budget: int) -> tuple[int, int]:
    """Return how many tokens of the prompt (its end) and of the response (its start) to keep.

    The prompt is cut first, down to ``MIN_PROMPT_TOKENS`` (two thirds of a small budget). Only
    then is the end of the response cut.

    >>> split_budget(300, 100, 512), split_budget(900, 100, 512), split_budget(900, 600, 512)
    ((300, 100), (412, 100), (64, 448))
    """
    keep = min(MIN_PROMPT_TOKENS, 2 * budget // 3)
    prompt = min(num_prompt, max(keep, budget - num_response))
    return prompt, min(num_response, budget - prompt)


@dataclass(frozen=True)
class SequenceLayout:
    """Joins the token ids of a prompt and of a response into one sequence.

    Args:
        template: ``chat``, ``roles`` or ``pair``; see :class:`ChatEncoder`.
        single: Special tokens around a prompt alone.
        pair: Special tokens around a prompt with a response.
        max_length: Most tokens in a sequence, special tokens included.
    """

    template: str
    single: SpecialTokens
    pair: SpecialTokens
    max_length: int

    def join(self, prompt: list[int], response: list[int] | None) -> TokenSequence:
        """Return the sequence of a prompt, or of a prompt with a response.

        Args:
            prompt: Token ids; under template ``chat`` they may begin with the opening token.
            response: Token ids; None for the prompt alone.
        """
        special = self.single if response is None else self.pair
        before = special.before
        if self.template == "chat" and prompt[: len(before)] == [i for i, _ in before]:
            # The template already wrote BOS. A second one would lower accuracy unnoticed, and
            # cutting the beginning of the prompt must not remove it.
            prompt = prompt[len(before) :]
        num_prompt = len(prompt)
        num_response = 0 if response is None else len(response)
        budget = self.max_length - special.count
        keep_prompt, keep_response = split_budget(num_prompt, num_response, budget)
        if response is None:
            keep_prompt = min(num_prompt, budget)
        kept = [(i, special.first_type) for i in prompt[num_prompt - keep_prompt :]]
        tokens = [*before, *kept, *special.between]
        boundary = len(tokens)
        if response is not None:
            tokens += [(i, special.second_type) for i in response[:keep_response]]
        response_end = len(tokens)
        tokens += special.after
        ids = np.array(tokens, dtype=np.int32).reshape(-1, 2)
        return TokenSequence(
            input_ids=ids[:, 0].copy(),
            type_ids=ids[:, 1].copy(),
            boundary=len(tokens) if response is None else boundary,
            response_end=len(tokens) if response is None else response_end,
            prompt_truncated=keep_prompt < num_prompt,
            response_truncated=keep_response < num_response,
        )


class ChatEncoder:
    """Turns prompts and responses into token ids for one backbone.

    If the tokenizer has a chat template, that is used. Otherwise an encoder gets the pair
    ``[CLS] prompt [SEP] response [SEP]`` with the tokenizer's special tokens: a single user
    message is used as it is, a conversation is joined with role names. A decoder gets the
    conversation with role names, then ``assistant:`` and the response.

    Args:
        tokenizer: A fast tokenizer of transformers.
        max_length: Most tokens in a sequence, special tokens included.
        is_decoder: Whether the backbone reads from left to right only.

    Raises:
        InputError: If ``max_length`` leaves no room, or the tokenizer is not usable.
    """

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, max_length: int = 512, is_decoder: bool = False
    ) -> None:
        self.tokenizer, self.max_length, self.is_decoder = tokenizer, max_length, is_decoder
        self._single = SpecialTokens.of(tokenizer, pair=False)
        if getattr(tokenizer, "chat_template", None):
            self.template = "chat"
            # The template writes end-of-turn tokens itself; only a missing BOS is added.
            self._pair = SpecialTokens(self._single.before, [], [], 0, 0)
            self._single = self._pair
        elif is_decoder:
            self.template = "roles"
            single = self._single
            self._pair = SpecialTokens(single.before, [], single.after, 0, 0)
            # The prompt's state must not depend on an end token that follows the response.
            self._single = SpecialTokens(single.before, [], [], 0, 0)
        else:
            self.template = "pair"
            self._pair = SpecialTokens.of(tokenizer, pair=True)
        if max_length < self._pair.count + 4:
            raise InputError(
                f"max_length is {max_length}, but the special tokens alone take "
                f"{self._pair.count}. Use at least {self._pair.count + 4}; 512 is usual."
            )
        self.layout = SequenceLayout(self.template, self._single, self._pair, max_length)

    @cached_property
    def template_hash(self) -> str:
        """Hash of how messages become text; it changes when the template does."""
        text = getattr(self.tokenizer, "chat_template", None) if self.template == "chat" else ""
        return _sha256({"template": self.template, "version": 1, "text": text})

    @cached_property
    def tokenizer_hash(self) -> str:
        """Hash of vocabulary, special tokens, and behaviour on a few texts."""
        return _sha256(
            {
                "vocabulary": sorted(self.tokenizer.get_vocab().items()),
                "probes": self._ids(_PROBES),
                "single": repr(self._single),
                "pair": repr(self._pair),
            }
        )

    def encode(
        self,
        prompts: Sequence[str | Messages],
        responses: Sequence[str] | None = None,
        response_prompt: Sequence[int] | NDArray[np.int64] | None = None,
    ) -> list[TokenSequence]:
        """Return the token ids of prompts, or of responses after their prompts.

        Args:
            prompts: Texts (one user message) or lists of messages.
            responses: Responses; when omitted, the prompts alone are encoded.
            response_prompt: Index into ``prompts`` for each response; when omitted, response i
                belongs to prompt i.

        Raises:
            InputError: If a message has no role or content, or the chat template fails.
        """
        if responses is None:
            texts = [self._prompt_text(prompt) for prompt in prompts]
            return [self.layout.join(ids, None) for ids in self._ids(texts)]
        owner = response_owners(len(prompts), len(responses), response_prompt)
        used, place = np.unique(owner, return_inverse=True)
        texts = [self._prompt_text(prompts[i]) for i in used]
        prompt_ids = self._ids(texts)
        pieces = [
            self._response_text(prompts[int(owner[j])], texts[place[j]], response)
            for j, response in enumerate(responses)
        ]
        response_ids = self._ids(pieces)
        return [
            self.layout.join(prompt_ids[i], ids)
            for i, ids in zip(place, response_ids, strict=True)
        ]

    def _ids(self, texts: Sequence[str]) -> list[list[int]]:
        if not texts:
            return []
        return self.tokenizer(
            list(texts),
            add_special_tokens=False,
            truncation=False,
            padding=False,
            return_attention_mask=False,
            return_token_type_ids=False,
            verbose=False,
        )["input_ids"]

    def _prompt_text(self, prompt: str | Messages) -> str:
        messages = as_messages(prompt)
        if self.template == "chat":
            return self._render(messages, add_generation_prompt=True)
        if self.template == "pair":
            return prompt_text(messages)
        return with_roles(messages) + "\nassistant:"

    def _response_text(self, prompt: str | Messages, prompt_text: str, response: str) -> str:
        if self.template == "pair":
            return response
        if self.template == "roles":
            return " " + response
        messages = as_messages(prompt)
        full = self._render([*messages, {"role": "assistant", "content": response}])
        if full.startswith(prompt_text):
            return full[len(prompt_text) :]
        raise InputError(
            "the tokenizer's chat template writes a conversation that does not begin with its "
            "own text of the prompt, so the place where the response begins is unknown. Set a "
            "chat template that only appends turns."
        )

    def _render(self, messages: Messages, add_generation_prompt: bool = False) -> str:
        try:
            text: Any = self.tokenizer.apply_chat_template(
                [dict(m) for m in messages],
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except (TemplateError, ValueError, TypeError) as error:
            raise InputError(f"the chat template refused a conversation: {error}") from error
        return str(text)


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
