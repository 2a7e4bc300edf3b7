r"""Transcripts: a conversation written as one text with "\n\nHuman:" and "\n\nAssistant:"."""

import re

_TURN = re.compile(r"(?:^|\n\n)(Human|Assistant):")
_ROLES = {"Human": "user", "Assistant": "assistant"}
# The first blank lines are lost when texts were stripped.
_BEGIN = re.compile(r"\s*Human:")


def is_transcript(text: str) -> bool:
    r"""Whether a text is a transcript that begins with the human.

    >>> is_transcript("\n\nHuman: Hi\n\nAssistant: Hello"), is_transcript("Human: Hi")
    (True, False)
    """
    return bool(_BEGIN.match(text)) and "\n\nAssistant:" in text


def parse_transcript(text: str) -> list[dict[str, str]]:
    r"""Return the turns of a transcript as messages; a last empty turn is kept.

    >>> parse_transcript("\n\nHuman: Hi\n\nAssistant: Hello")
    [{'role': 'user', 'content': 'Hi'}, {'role': 'assistant', 'content': 'Hello'}]
    """
    parts = _TURN.split("\n\n" + text.strip())
    return [
        {"role": _ROLES[name], "content": words.strip()}
        for name, words in zip(parts[1::2], parts[2::2], strict=True)
    ]


def prompt_of_transcript(text: str) -> list[dict[str, str]]:
    r"""Return a transcript as a prompt: without the empty turn of the assistant at its end.

    >>> prompt_of_transcript("\n\nHuman: Hi\n\nAssistant:")
    [{'role': 'user', 'content': 'Hi'}]
    """
    turns = parse_transcript(text)
    ends_open = bool(turns) and turns[-1]["role"] == "assistant" and not turns[-1]["content"]
    return turns[:-1] if ends_open else turns
