"""Split token ids into prompt and response, as the encoder of texts writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone.layout import SequenceLayout, SpecialTokens, TokenSequence
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.schemas import ReadingSchema, check_part

WITHOUT_BOUNDARY = ("raise", "whole_text")
"""Options for a row in which no response begins."""


_IDS = ("header", "marker", "appended", "ending", "blank")
_EMPTY = (
    "a row holds an empty response, which has no reward. Leave such rows out, or give them a "
    "reward of your own, as vrm_pyro.VRMReward does with empty_reward."
)


class EmptyResponse(InputError):
    """A row whose response is empty."""


@dataclass(frozen=True)
class Reading:
    """Facts needed to read rows of token ids as the model was trained to read texts.

    Args:
        layout: How prompt and response become one sequence.
        header: Ids that the chat template writes before an answer.
        marker: The prefix of ``header`` in every full rendering; empty if the template writes
            none. The response begins after its last occurrence in a row.
        pooling: How token states become one state.
        is_decoder: Whether a token's state depends on earlier tokens only; prompt and response
            states then come from one pass.
        counts_positions: Whether position ids are passed.
        shares_prompts: Whether responses of one prompt may share a row.
        pad_id: Token id used for padding.
        template_hash: Hash of the exported chat template.
        tokenizer_hash: Hash of the exported tokenizer, including special tokens around texts.
        appended: Ids that the tokenizer appends to every text, such as an end token; a pipeline
            writes them after what the template wrote.
        ending: Ids that the template writes after every answer.
        blank: Ids that stand in place of an answer that is empty.
        others: Further markers of a template without a header, such as the end of a tool's result.
        repeats: Whether one answer may hold the marker twice: before its reasoning, and again.
    """

    layout: SequenceLayout
    header: tuple[int, ...]
    marker: tuple[int, ...]
    pooling: str
    is_decoder: bool
    counts_positions: bool
    shares_prompts: bool
    pad_id: int
    template_hash: str
    tokenizer_hash: str
    appended: tuple[int, ...] = ()
    ending: tuple[int, ...] = ()
    repeats: bool = False
    blank: tuple[int, ...] = ()
    others: tuple[tuple[int, ...], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that :meth:`from_json` reads."""
        return (
            asdict(self)
            | {name: list(getattr(self, name)) for name in _IDS}
            | {"others": [list(marker) for marker in self.others]}
        )

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reading":
        """Return what :meth:`to_json` wrote.

        Raises:
            InputError: If a value is missing, unknown or does not fit.
        """
        check_part(ReadingSchema, "'reading' is not what this version writes", values)
        layout = dict(values["layout"])
        for key in ("single", "pair"):
            held = dict(layout[key])
            for part in ("before", "between", "after"):
                held[part] = [(i, kind) for i, kind in held[part]]
            layout[key] = SpecialTokens(**held)
        # Versions before wrote the fields without a default alone.
        lists = {key: tuple(values[key]) for key in _IDS if key in values}
        lists["others"] = tuple(tuple(marker) for marker in values.get("others", ()))
        return cls(**{**values, **lists, "layout": SequenceLayout(**layout)})

    def check_ids(self, size: int) -> None:
        """Raise InputError unless all token ids lie in a vocabulary of some size."""
        special = [
            token
            for tokens in (self.layout.single, self.layout.pair)
            for part in (tokens.before, tokens.between, tokens.after)
            for token, _ in part
        ]
        lists = [getattr(self, name) for name in _IDS]
        largest = max(self.pad_id, *special, *(i for ids in (*lists, *self.others) for i in ids))
        if largest >= size:
            raise InputError(
                f"config.json: 'reading' holds the token id {largest}, but the backbone has "
                f"{size} tokens. Export the model again."
            )

    def split(
        self, ids: NDArray[np.int64], without_boundary: str = "raise"
    ) -> tuple[TokenSequence, TokenSequence]:
        """Return the prompt of a row, and the prompt with its response.

        The row is converted to the form used in training: exactly one opening token, the closing
        tokens of a pair, and truncation of first the prompt's beginning, then the response's end.

        Args:
            ids: Token ids without padding, shape (tokens,).
            without_boundary: ``raise``, or ``whole_text``, which uses the whole text as both.

        Raises:
            EmptyResponse: If the response has no token.
            InputError: If the row is empty, or no response begins in it.
        """
        opening = [i for i, _ in self.layout.pair.before]
        closing = [i for i, _ in self.layout.pair.after]
        body: list[int] = ids.tolist()
        while opening and body[: len(opening)] == opening:
            body = body[len(opening) :]
        # A pipeline adds special tokens to a text that has them already.
        while self.appended and _ends(body, (*self.ending, *self.appended)):
            body = body[: -len(self.appended)]
        whole = body
        while closing and _ends(body, closing):
            body = body[: -len(closing)]
        if not body:
            raise InputError("a row holds no token of a text; give a prompt and a response.")
        start, marker, header = self._start(body), self.marker, self.header
        for other in self.others:
            later = last_occurrence(body, other)
            if later is not None and (start is None or later > start):
                start, marker, header = later, other, other
        if start is None:
            if self.marker and last_occurrence(whole, self.marker) is not None:
                raise EmptyResponse(_EMPTY)
            return self._undivided(body, without_boundary)
        end = start + len(marker)
        for token in header[len(marker) :]:
            if end < len(body) and body[end] == token:
                end += 1
            else:
                break
        if body[end:] == list(self.blank):
            raise EmptyResponse(_EMPTY)
        # The layout writes the tokens between the two texts of a pair itself.
        if self.layout.pair.between:
            prompt = before = body[:start]
        else:
            # A token that joins the end of the header with the response belongs to the response.
            prompt, before = [*body[:start], *header], body[:end]
        join = self.layout.join
        return join(prompt, None), join(before, body[end:])

    def _start(self, body: list[int]) -> int | None:
        """Return where the marker of the last answer begins; None without one."""
        start = last_occurrence(body, self.marker)
        while self.repeats and start is not None:
            earlier = last_occurrence(body[:start], self.marker)
            if earlier is None or self.marker[0] in body[earlier + len(self.marker) : start]:
                break  # a turn of another role stands between the two
            start = earlier
        return start

    def _undivided(
        self, body: list[int], without_boundary: str
    ) -> tuple[TokenSequence, TokenSequence]:
        if without_boundary == "whole_text":
            whole = self.layout.join(body, None)
            return whole, whole
        found = "the chat template marks no beginning of an answer"
        if self.marker:
            found = (
                f"the token ids {list(self.marker)}, with which an answer begins, are not in it"
            )
        raise InputError(
            f"a row cannot be divided into prompt and response: {found}. Give messages (a chat) "
            "that end with the assistant's, written by the chat template of the exported "
            "tokenizer; or hand prompts and completions over apart (vrm_pyro.VRMReward); or "
            "set without_boundary='whole_text' in the config: weights are then read off the "
            "whole text."
        )


def _ends(ids: Sequence[int], tail: Sequence[int]) -> bool:
    return list(ids[len(ids) - len(tail) :]) == list(tail)


def last_occurrence(ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """Return the start of the last occurrence of ``marker`` in ``ids``; None without one."""
    size = len(marker)
    if size == 0:
        return None
    wanted = list(marker)
    for start in range(len(ids) - size, -1, -1):
        if list(ids[start : start + size]) == wanted:
            return start
    return None


def rows_of_tokens(
    input_ids: NDArray[np.int64], mask: NDArray[np.int64]
) -> list[NDArray[np.int64]]:
    """Return the real tokens of each row; padding and holes in the mask may be anywhere."""
    return [ids[keep != 0] for ids, keep in zip(input_ids, mask, strict=True)]
