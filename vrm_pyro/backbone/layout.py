"""Token sequences of a prompt and a response, their special tokens, and how they are cut."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vrm_pyro.errors import InputError

MIN_PROMPT_TOKENS = 64
"""Number of tokens at the end of an overlong prompt that are kept before the response is cut."""


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
