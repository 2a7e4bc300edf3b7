"""Requests to work: conversations, templated texts and token ids as a backbone reads them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from vrm_pyro.backbone import TransformerBackbone
from vrm_pyro.backbone.messages import conversation
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.boundary import reading_of
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.integrations.huggingface.reading import EmptyResponse, Reading
from vrm_pyro.integrations.rl.conversations import completion_text
from vrm_pyro.integrations.rl.frameworks import PolicyTexts, response_of, special_tokens
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.work import Ask, Group

OWN, NONE = "own", "none"
"""Values of ``policy_tokenizer`` that are no name."""


class RequestReader:
    """Turns what clients send into groups; used by one thread at a time.

    Args:
        scorer: The model.
        policy: Whose chat template texts of a policy have; see
            :class:`~vrm_pyro.serve.settings.ServeSettings`.

    Raises:
        InputError: If the policy's tokenizer cannot be loaded or has no chat template.
    """

    def __init__(self, scorer: Scorer, policy: str = OWN) -> None:
        self.backbone, self._policy = scorer.backbone, policy
        self._reading: Reading | None = None
        self._why = "the backbone is no model of transformers"
        if isinstance(self.backbone, TransformerBackbone):
            tokenizer = exported_tokenizer(self.backbone.chat)
            try:
                self._reading = reading_of(self.backbone, tokenizer)
            except InputError as error:
                self._why = str(error)
        self._texts = PolicyTexts(None if policy in (OWN, NONE) else _policy_tokenizer(policy))
        # Special tokens of the model's own template; None where texts have another, or none.
        self._special: Sequence[str] | None = None
        if (
            policy == OWN
            and isinstance(self.backbone, TransformerBackbone)
            and self.backbone.chat.chat_template is not None
        ):
            self._special = special_tokens(self.backbone.tokenizer)

    @property
    def divides(self) -> bool:
        """Whether whole texts and token ids can be divided into prompt and response."""
        return self._reading is not None

    def conversation(
        self,
        prompt: Any,
        responses: Sequence[Any],
        ask: Ask,
        *,
        tools: Any = None,
        template_kwargs: Any = None,
    ) -> Group:
        """Return the group of a prompt with its responses, read as in training.

        Args:
            prompt: Text or messages.
            responses: Each a text, an assistant message, or a list of messages.
            ask: What is wanted.
            tools: Tools of the prompt for the chat template.
            template_kwargs: Further variables of the template.

        Raises:
            InputError: If a text is not usable.
        """
        reading = self.backbone.settings
        try:
            messages = reading.prompt(
                conversation(prompt, tools=tools, chat_template_kwargs=template_kwargs)
            )
            index: dict[str, int] = {}
            place = np.full(len(responses), -1, dtype=np.int64)
            for i, response in enumerate(responses):
                given = [response] if isinstance(response, Mapping) else response
                text = reading.answer(completion_text(given), f"response {i}")
                if text.strip():
                    place[i] = index.setdefault(text, len(index))
            texts = list(index)
            json.dumps([messages, texts], ensure_ascii=False).encode()
            (read,) = self.backbone.sequences([messages])
            found = self.backbone.sequences([messages], texts, [0] * len(texts)) if texts else []
        except (RecursionError, UnicodeEncodeError) as error:
            raise _unusable(error) from error
        return Group(read, found, place, ask, messages, texts)

    def messages(self, messages: Sequence[Any], ask: Ask, **template: Any) -> Group:
        """Return the group of a conversation that ends with the response.

        Raises:
            InputError: If it does not end with an assistant message.
        """
        last = messages[-1] if messages else None
        if len(messages) < 2 or not isinstance(last, Mapping) or last.get("role") != "assistant":
            raise InputError(
                "messages must end with the assistant's, which is the response that is scored, "
                "after one of the user at least."
            )
        return self.conversation(list(messages[:-1]), [last], ask, **template)

    def text(self, text: str, ask: Ask) -> Group:
        """Return the group of a whole conversation as the model's chat template writes it.

        A leading BOS may be there or not.

        Raises:
            InputError: If no response begins in it.
        """
        return self.ids(self._ids(text), ask)

    def ids(self, ids: Sequence[int], ask: Ask) -> Group:
        """Return the group of a conversation as token ids; the same as of its text.

        Raises:
            InputError: If an id is unknown, or no response begins in them.
        """
        if self._reading is None:
            raise InputError(
                f"whole texts and token ids cannot be divided here: {self._why} Send messages, or "
                "prompt and responses apart, to /score."
            )
        assert isinstance(self.backbone, TransformerBackbone)
        model: Any = self.backbone.module_under_adapters
        size = int(model.config.get_text_config().vocab_size)
        if not ids or min(ids) < 0 or max(ids) >= size:
            raise InputError(
                f"token ids must be at least one, each from 0 to {size - 1}; give those of the "
                "reward model's tokenizer."
            )
        try:
            prompt, response = self._reading.split(np.array(ids, dtype=np.int64))
        except EmptyResponse:
            return Group(None, [], np.array([-1]), ask)
        return Group(prompt, [response], np.zeros(1, dtype=np.int64), ask)

    def pair(self, prompt: str, response: str, ask: Ask) -> Group:
        """Return the group of two plain texts."""
        return self.conversation(prompt, [response], ask)

    def policy(self, query: str, prompt: str, ask: Ask) -> Group:
        """Return the group of a sample as a policy wrote it.

        Args:
            query: Prompt and response in the policy's chat template, with special tokens.
            prompt: Its beginning, the prompt.
            ask: What is wanted.

        Raises:
            InputError: If the query does not begin with its prompt, or is in another template.
        """
        if self._special is None:
            return self.pair(*self._texts(query, prompt), ask)
        response = response_of(query, prompt, self._special)
        if not response.strip():
            return Group(None, [], np.array([-1]), ask)
        ending = () if self._reading is None else self._reading.ending
        return self.ids([*self._ids(prompt + response), *ending], ask)

    def _ids(self, text: str) -> list[int]:
        if self.backbone.tokenizer is None:
            return []
        try:
            ids = self.backbone.tokenizer(text, add_special_tokens=False, verbose=False)
        except (UnicodeEncodeError, TypeError) as error:
            raise _unusable(error) from error
        return list(ids["input_ids"])


def check_group(group: Group, truncate: bool, empty: bool) -> Group:
    """Return a group whose texts may be scored.

    Args:
        group: The group.
        truncate: Whether texts may be cut.
        empty: Whether a response may be empty.

    Raises:
        InputError: If one is empty or too long.
    """
    if not empty and (group.place < 0).any():
        i = int((group.place < 0).argmax())
        raise InputError(
            f"response {i} is empty; each needs a text. Or start the server with --empty_reward, "
            'or send "allow_empty" to /score.'
        )
    if not truncate and any(group.truncated):
        i = int(group.place.tolist().index(group.truncated.index(True)))
        raise InputError(
            f"response {i} with its prompt has more tokens than the model reads. Shorten it, ask "
            'for truncation ("truncate": true), or start the server with --truncate.'
        )
    return group


def count_responses(groups: Iterable[Group]) -> int:
    """Return how many responses several groups ask for."""
    return sum(len(group.place) for group in groups)


def _unusable(error: Exception) -> InputError:
    if isinstance(error, RecursionError):
        return InputError("a message is nested too deeply.")
    return InputError(
        "a text holds characters that are no text (lone surrogates); send valid Unicode."
    )


def _policy_tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer  # only where the option is given

    try:
        return AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise InputError(
            f"policy_tokenizer {name}: {str(error).splitlines()[0]}. Give own, none, or the name "
            "or folder of the policy's tokenizer."
        ) from error
