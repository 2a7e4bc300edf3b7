"""A tokenizer's chat template with its date fixed, and where in it a response begins."""

import json
import re
from collections.abc import Mapping, Sequence
from datetime import date as Date
from functools import cached_property
from os.path import commonprefix
from typing import Any, Final

from jinja2 import TemplateError
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.data.turns import Answer, answer_turn, for_template
from vrm_pyro.errors import InputError

# What a template raises: its own refusal, or what a conversation of another form does to it.
REFUSALS: Final = (
    *(TemplateError, ValueError, TypeError, KeyError, IndexError, AttributeError),
    *(ArithmeticError, RecursionError),
)

# Answers that share no beginning: what stands before all of them is none of theirs.
_ANSWERS: Final = (
    *("Yes.", "No.", Answer.of("Yes.", "It is.")),
    "<think>\nIt is.\n</think>\n\nYes.",
)
_CALL: Final = {"id": "call00001", "type": "function"}
_CALLING: Final = (
    {"role": "user", "content": "Is it?"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "content": "It is.", "name": "look", "tool_call_id": "call00001"},
)

_BEGIN: Final = "{#- vrm-pyro begin "
_END: Final = "{#- vrm-pyro end -#}{{ '' }}"
_PRELUDE: Final = re.compile(re.escape(_BEGIN) + r"(.*?) -#\}.*?" + re.escape(_END), re.DOTALL)

_DIRECTIVE: Final = re.compile(r"%-?[a-zA-Z]")

_REWRITTEN: Final = (
    "the tokenizer's chat template writes a conversation that does not begin with its own text of "
    "the prompt, so the place where the response begins is unknown. Set a chat template that only "
    "appends turns."
)


def common_length(ids: Sequence[int], others: Sequence[int]) -> int:
    """Return the length of the common beginning of two lists of ids.

    >>> common_length([1, 2, 3], [1, 2, 4, 5])
    2
    """
    size = min(len(ids), len(others))
    return next((i for i in range(size) if ids[i] != others[i]), size)


class RefusedConversation(InputError):
    """The chat template does not take a conversation."""


def writes_date(template: str | Mapping[str, str]) -> bool:
    """Whether a chat template writes the date of the day on which it is used."""
    texts = [template] if isinstance(template, str) else template.values()
    return any("strftime_now" in without_prelude(text) for text in texts)


def without_prelude(template: str) -> str:
    """Return a chat template as its author wrote it, without what :func:`fixed` puts before it."""
    return _PRELUDE.sub("", template, count=1)


def prelude_settings(template: str | Mapping[str, str]) -> dict[str, Any]:
    """Return the settings that :func:`fixed` wrote into a template, empty for another one."""
    text = template if isinstance(template, str) else next(iter(template.values()), "")
    found = _PRELUDE.match(text)
    return {} if found is None else dict(json.loads(found[1]))


def fixed(template: str, day: str | None, more: str = "", **settings: Any) -> str:
    """Return a chat template for which it is always the same day.

    Args:
        template: The template, perhaps one that this function returned.
        day: The date as YYYY-MM-DD; None for a template that writes none.
        more: Further statements of the template language, run before the template.
        **settings: Written into the template, for :func:`prelude_settings`.
    """
    template = without_prelude(template)
    if day is None and not more:
        return template
    macro = "" if day is None else _date_macro(day, template)
    held = json.dumps({"date": day, **settings}, sort_keys=True)
    return f"{_BEGIN}{held} -#}}{macro}{more}{_END}{template}"


def _date_macro(day: str, template: str) -> str:
    """Return a macro ``strftime_now`` that takes the place of transformers' function."""
    when = Date.fromisoformat(day)
    # Those that begin others last: %-d before %d.
    used = sorted(set(_DIRECTIVE.findall(template)), key=len, reverse=True)
    table = ", ".join(f"({d!r}, {_jinja(when.strftime(d))})" for d in used)
    return (
        "{%- macro strftime_now(format) -%}{%- set vrm = namespace(text=format) -%}"
        f"{{%- for directive, value in [{table}] -%}}"
        "{%- set vrm.text = vrm.text | replace(directive, value) -%}{%- endfor -%}"
        "{{- vrm.text | replace('%%', '%') -}}{%- endmacro -%}"
    )


def _jinja(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


class ChatTemplate:
    """The chat template of a tokenizer, as one encoder uses it.

    Args:
        tokenizer: A tokenizer with a chat template.
        day: The date that a template gets which writes today's, YYYY-MM-DD.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, day: str | None) -> None:
        self.tokenizer, self.day = tokenizer, day
        self._fixed: dict[str, str] = {}
        self._lost: dict[str, int | None] = {}
        self._header: str | None = None
        self._header = self._usual_header()

    def _usual_header(self) -> str | None:
        """Return what opens an answer to a single user text; None if that is refused."""
        messages = _CALLING[:1]
        try:
            cut, own = self.before_answer(messages), self.render(messages)
        except RefusedConversation:
            return None
        return cut[len(own) :] if cut.startswith(own) else None

    @property
    def source(self) -> Any:
        """The template, or templates by name, as their author wrote them."""
        held = self.tokenizer.chat_template
        if isinstance(held, str):
            return without_prelude(held)
        return {name: without_prelude(text) for name, text in held.items()}

    def render(self, messages: Messages, generation_prompt: bool = False) -> str:
        """Return a conversation as text.

        Args:
            messages: Messages in their one form, see :func:`vrm_pyro.data.turns.read_messages`.
            generation_prompt: Whether to end with what a policy continues.

        Raises:
            RefusedConversation: If the template does not take the conversation.
        """
        turns, tools, variables = for_template(messages)
        template = self._text(tools)
        try:
            return self._apply(self._handed(turns), tools, template, variables, generation_prompt)
        except REFUSALS as error:
            raise RefusedConversation(
                f"the chat template refused a conversation: {_words(error)}"
            ) from error

    def before_answer(self, messages: Messages) -> str:
        """Return the text of a prompt, up to where any response to it begins.

        That is the generation prompt, as far as conversations with an answer repeat it: some
        templates open a ``<think>`` part there that finished conversations do not have. TRL cuts
        in the same place.

        Raises:
            RefusedConversation: If the template does not take the prompt.
        """
        asked = self.render(messages, generation_prompt=True)
        _, tools, variables = for_template(messages)
        ends = messages[0]["role"], messages[-1]["role"]
        key = json.dumps([bool(tools), variables, ends], sort_keys=True)
        if key not in self._lost:
            cut = self._cut(messages, asked)
            own = len(commonprefix([self.render(messages), asked]))
            # A cut within the turns of the prompt is a matter of this prompt alone.
            ordinary = asked.startswith(cut) and len(cut) >= own
            if ordinary and self._header is not None:
                # Variables may add to what opens an answer, such as an empty <think> part.
                cut = asked[: own + len(commonprefix([cut[own:], self._header]))]
            self._lost[key] = len(asked) - len(cut) if ordinary else None
        lost = self._lost[key]
        return self._cut(messages, asked) if lost is None else asked[: len(asked) - lost]

    def _cut(self, messages: Messages, asked: str) -> str:
        """Return the beginning that ``asked`` shares with conversations that have an answer."""
        answered = []
        for answer in _ANSWERS:
            try:
                answered.append(self.render([*messages, answer_turn(answer)]))
            except RefusedConversation:  # perhaps of reasoning alone
                if answer in _ANSWERS[:2]:
                    raise
        shared = commonprefix(answered)
        if not commonprefix([asked, shared]):
            raise RefusedConversation(_REWRITTEN)
        asked_ids, *others = self._tokens([asked, *answered])
        size = min(common_length(asked_ids.ids, other.ids) for other in others)
        # Cut between tokens: one that only begins alike is none of the prompt's.
        whole = size == len(asked_ids.ids)
        cut = asked if whole else asked[: asked_ids.offsets[size - 1][1]] if size else ""
        cut = commonprefix([cut, shared])
        content = str(messages[-1]["content"]).strip()
        if content and content in shared[len(cut) :]:
            # The last turn is written otherwise once an answer follows it.
            return shared.rstrip()
        return cut

    def _tokens(self, texts: Sequence[str]) -> list[Any]:
        encoded = self.tokenizer(
            list(texts), add_special_tokens=False, truncation=False, verbose=False
        )
        return list(encoded.encodings or ())

    def answered(self, messages: Messages, before: str, response: str) -> str:
        """Return a conversation that ends with a response.

        Args:
            messages: The prompt.
            before: Its text, :meth:`before_answer`.
            response: The response.

        Raises:
            RefusedConversation: If the template does not take it, or rewrites the prompt.
        """
        full = self.render([*messages, answer_turn(response)])
        if full.startswith(before):
            return full
        raise RefusedConversation(_REWRITTEN)

    def _text(self, tools: list[Any] | None) -> str:
        text: str = self.tokenizer.get_chat_template(None, tools)
        if text not in self._fixed:
            self._fixed[text] = fixed(text, self.day if writes_date(text) else None)
        return self._fixed[text]

    def _apply(
        self,
        turns: Sequence[Mapping[str, Any]],
        tools: list[Any] | None,
        template: str,
        variables: Mapping[str, Any],
        generation_prompt: bool,
    ) -> str:
        text: Any = self.tokenizer.apply_chat_template(
            [dict(turn) for turn in turns],
            tools=tools,
            chat_template=template,
            tokenize=False,
            add_generation_prompt=generation_prompt,
            **variables,
        )
        return str(text)

    def _handed(self, turns: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return turns with the arguments of tool calls as the template takes them."""
        if not any("tool_calls" in turn for turn in turns) or not self.arguments_are_text:
            return turns
        return [
            {**turn, "tool_calls": _with_text(turn["tool_calls"])}
            if "tool_calls" in turn
            else turn
            for turn in turns
        ]

    @cached_property
    def arguments_are_text(self) -> bool:
        """Whether the template takes arguments of tool calls as JSON text alone."""

        def taken(arguments: Any) -> bool:
            call = {**_CALL, "function": {"name": "look", "arguments": arguments}}
            turns = [{**turn} for turn in _CALLING]
            turns[1]["tool_calls"] = [call]
            try:
                return "sky" in self._apply(turns, None, self._text(None), {}, True)
            except REFUSALS:
                return False

        return not taken({"at": "sky"}) and taken('{"at": "sky"}')


def _with_text(calls: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return calls of tools whose arguments are JSON text."""

    def written(call: Mapping[str, Any]) -> dict[str, Any]:
        arguments = call.get("arguments")
        if not isinstance(arguments, Mapping):
            return dict(call)
        return {**call, "arguments": json.dumps(arguments, ensure_ascii=False)}

    return [
        {**written(call), "function": written(call["function"])}
        if isinstance(call.get("function"), Mapping)
        else written(call)
        for call in calls
    ]


def _words(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
