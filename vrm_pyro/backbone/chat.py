"""Tokenize prompts and responses, and record where the response begins.

Training, evaluation, scoring and serving all call :meth:`ChatEncoder.encode`, so they agree on
templates, special tokens and truncation.
"""

import copy
import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.layout import SequenceLayout, SpecialTokens, TokenSequence
from vrm_pyro.backbone.messages import (
    Messages,
    as_messages,
    prompt_text,
    response_owners,
    with_roles,
)
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.backbone.template import ChatTemplate, RefusedConversation, common_length, fixed
from vrm_pyro.errors import InputError

# The tokenizer's hash includes its output on these texts (case, accents, spaces, digits, other
# scripts). The serialised tokenizer is not hashed: it changes with the library's version.
_PROBES = (
    "Héllo wörld",
    "  two  spaces\n\nand\tlines 12345",
    "don't; f(x)=x**2",
    "数学 नमस्ते",
    "😀 ﬁ Ａ",
)


class ChatEncoder:
    """Turns prompts and responses into token ids for one backbone.

    If the tokenizer has a chat template, that is used: the ids are those of the whole rendered
    conversation, so whoever tokenizes it in one piece gets the same. Otherwise an encoder gets the
    pair ``[CLS] prompt [SEP] response [SEP]`` with the tokenizer's special tokens: a single user
    message is used as it is, a conversation is joined with role names. A decoder gets the
    conversation with role names, then ``assistant:`` and the response.

    Args:
        tokenizer: A fast tokenizer of transformers.
        max_length: Most tokens in a sequence, special tokens included.
        is_decoder: Whether the backbone reads from left to right only.
        settings: The date of the template, and what becomes of reasoning.

    Raises:
        InputError: If ``max_length`` leaves no room, or the tokenizer is not usable.
    """

    def __init__(
        self,
        tokenizer: PreTrainedTokenizerBase,
        max_length: int = 512,
        is_decoder: bool = False,
        settings: ReadingSettings | None = None,
    ) -> None:
        self.tokenizer, self.max_length, self.is_decoder = tokenizer, max_length, is_decoder
        self._single = SpecialTokens.of(tokenizer, pair=False)
        self.appended = [i for i, _ in self._single.after]
        template = getattr(tokenizer, "chat_template", None)
        self.settings = (settings or ReadingSettings()).settled(template)
        self.chat_template = ChatTemplate(tokenizer, self.settings.date) if template else None
        if self.chat_template is not None:
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
        self._tails: dict[str, list[int]] = {}

    def with_settings(self, settings: ReadingSettings) -> "ChatEncoder":
        """Return an encoder that reads conversations with other settings."""
        return ChatEncoder(self.tokenizer, self.max_length, self.is_decoder, settings)

    def fixed_tokenizer(self, more: str = "", **held: Any) -> PreTrainedTokenizerBase:
        """Return a copy of the tokenizer whose template writes the date of the settings.

        Args:
            more: Further statements that its template begins with.
            **held: See :func:`vrm_pyro.backbone.template.fixed`.
        """
        tokenizer = copy.copy(self.tokenizer)
        if self.chat_template is not None:
            source, day = self.chat_template.source, self.settings.date
            tokenizer.chat_template = (
                fixed(source, day, more, **held)
                if isinstance(source, str)
                else {name: fixed(text, day, more, **held) for name, text in source.items()}
            )
        return tokenizer

    @cached_property
    def template_hash(self) -> str:
        """Hash of how messages become text; it changes when the template does."""
        text = "" if self.chat_template is None else self.chat_template.source
        version = 1 if self.chat_template is None or self._joins_cleanly() else 2
        return _sha256({"template": self.template, "version": version, "text": text})

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
            InputError: If a message has no role or content.
            RefusedConversation: If the chat template fails.
        """
        if responses is None:
            texts = [self._prompt_text(self.settings.prompt(prompt)) for prompt in prompts]
            return [self.layout.join(ids, None) for ids in self._ids(texts)]
        owner = response_owners(len(prompts), len(responses), response_prompt)
        used, place = np.unique(owner, return_inverse=True)
        read = [self.settings.prompt(prompts[i]) for i in used]
        texts = [self._prompt_text(messages) for messages in read]
        prompt_ids = self._ids(texts)
        answers = [self.settings.answer(response) for response in responses]
        if self.chat_template is None:
            lead = "" if self.template == "pair" else " "
            parts = zip(
                (prompt_ids[i] for i in place),
                self._ids([lead + answer for answer in answers]),
                strict=True,
            )
            return [self.layout.join(prompt, ids) for prompt, ids in parts]
        render = self.chat_template.answered
        full = [
            render(read[i], texts[i], answer) for i, answer in zip(place, answers, strict=True)
        ]
        return self._whole(texts, prompt_ids, full, place)

    def _whole(
        self,
        texts: list[str],
        prompt_ids: list[list[int]],
        full: list[str],
        place: NDArray[np.int64],
    ) -> list[TokenSequence]:
        """Return the ids of rendered conversations, divided where those of the prompt end.

        Tokens may join characters of the prompt with those of the response; such a token belongs
        to the response. Special tokens join nothing, so what stands before the last one of the
        prompt is not tokenized again.
        """
        starts = [self._last_special(text) for text in texts]
        heads = []
        for ids, text, start in zip(prompt_ids, texts, starts, strict=True):
            tail = self._tail(text[start:]) if start else ids
            heads.append(len(ids) - len(tail))
        tails = self._ids([text[starts[i] :] for i, text in zip(place, full, strict=True)])
        sequences = []
        for i, tail in zip(place, tails, strict=True):
            prompt = prompt_ids[i]
            shared = heads[i] + common_length(prompt[heads[i] :], tail)
            sequences.append(self.layout.join(prompt[:shared], tail[shared - heads[i] :]))
        return sequences

    def _last_special(self, text: str) -> int:
        """Return where the last special token of a text begins, 0 without one."""
        return max((text.rfind(token) for token in self._special_texts), default=0)

    @cached_property
    def _special_texts(self) -> list[str]:
        """The special tokens that begin an answer and join nothing around them."""
        assert self.chat_template is not None
        added = {str(t) for t in self.tokenizer.added_tokens_decoder.values() if t.special}
        shown = self.chat_template.render(as_messages("Is it?"), generation_prompt=True)
        texts = sorted(token for token in added if token in shown)
        before, *ids = self._ids(["a b", *(x + f"{t}\nc" for t in texts for x in ("a b", ""))])
        return [t for t, a, b in zip(texts, ids[::2], ids[1::2], strict=True) if a == before + b]

    def _tail(self, text: str) -> list[int]:
        """Return the ids of what most prompts end with; kept, since they are the same ones."""
        if text not in self._tails:
            if len(self._tails) > 1000:
                self._tails.clear()
            self._tails[text] = self._ids([text])[0]
        return self._tails[text]

    def _joins_cleanly(self) -> bool:
        """Whether prompt and response can be tokenized apart, as versions before did."""
        assert self.chat_template is not None
        messages, answer = as_messages("Is it?"), "It is."
        try:
            before = self.chat_template.render(messages, generation_prompt=True)
            if before != self.chat_template.before_answer(messages):
                return False
            full = self.chat_template.answered(messages, before, answer)
        except RefusedConversation:
            return False
        apart, rest, whole = self._ids([before, full[len(before) :], full])
        return apart + rest == whole

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

    def _prompt_text(self, messages: Messages) -> str:
        if self.chat_template is not None:
            return self.chat_template.before_answer(messages)
        if self.template == "pair":
            return prompt_text(messages)
        return with_roles(messages) + "\nassistant:"


def _sha256(value: Any) -> str:
    text = json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
