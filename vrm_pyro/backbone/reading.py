"""Settings of how a backbone reads conversations, kept with what was trained on its states."""

import datetime
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, get_args

from vrm_pyro.backbone.messages import Messages, as_answer, as_messages
from vrm_pyro.backbone.template import prelude_settings, writes_date
from vrm_pyro.data.turns import strip_messages, without_reasoning
from vrm_pyro.errors import InputError

Reasoning = Literal["keep", "strip"]
REASONING: Final[tuple[str, ...]] = get_args(Reasoning)


@dataclass(frozen=True)
class ReadingSettings:
    """How conversations are read, besides template and tokenizer.

    Args:
        date: The date that a chat template gets which writes today's, as YYYY-MM-DD. None: the
            day on which the backbone is loaded; training keeps it.
        reasoning: ``keep``: reasoning reaches the template as it came. ``strip``: it is left out
            of all turns of the assistant and of responses.

    Raises:
        InputError: If a value is none of these.
    """

    date: str | None = None
    reasoning: Reasoning = "keep"

    def __post_init__(self) -> None:
        if self.reasoning not in REASONING:
            raise InputError(
                f"reasoning is {self.reasoning!r}, but must be one of {', '.join(REASONING)}."
            )
        if self.date is not None:
            try:
                datetime.date.fromisoformat(self.date)
            except (TypeError, ValueError):
                raise InputError(
                    f"date is {self.date!r}, but must be a day as YYYY-MM-DD, such as 2026-01-31."
                ) from None

    def settled(self, template: str | Mapping[str, str] | None) -> "ReadingSettings":
        """Return the settings for a chat template: with a date exactly if it writes one.

        A template whose date was fixed before keeps it, and its setting of reasoning.
        """
        if not template:
            return replace(self, date=None)
        held = prelude_settings(template)
        found = self if held.get("reasoning") != "strip" else replace(self, reasoning="strip")
        if not writes_date(template):
            return replace(found, date=None)
        today = datetime.date.today().isoformat()
        return replace(found, date=self.date or held.get("date") or today)

    def key(self) -> dict[str, str]:
        """Return the settings that states depend on; those of most backbones are empty."""
        found = {} if self.date is None else {"date": self.date}
        return found if self.reasoning == "keep" else {**found, "reasoning": self.reasoning}

    def prompt(self, prompt: str | Messages) -> Messages:
        """Return a prompt as messages in their one form.

        Raises:
            InputError: If it is not usable.
        """
        messages = as_messages(prompt)
        return messages if self.reasoning == "keep" else strip_messages(messages)

    def answer(self, response: Any, where: str = "response") -> str:
        """Return a response in its one form.

        Args:
            response: Text, or an assistant message.
            where: What error messages call it.

        Raises:
            InputError: If it is not usable.
        """
        answer = as_answer(response, where)
        return answer if self.reasoning == "keep" else without_reasoning(answer)
