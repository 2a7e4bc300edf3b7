"""From token ids alone to prompt and response, as the encoder of texts writes them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone.chat import SequenceLayout, SpecialTokens, TokenSequence
from vrm_pyro.errors import InputError

WITHOUT_BOUNDARY = ("raise", "whole_text")
"""What to do with a row in which no response begins."""


@dataclass(frozen=True)
class Reading:
    """What it takes to read rows of token ids as a model was trained to read texts.

    Args:
        layout: How prompt and response become one sequence.
        header: Ids that the chat template writes where an answer begins.
        marker: The beginning of ``header`` that recurs in every full render; empty where the
            template writes none. The response begins after the last one in a row.
        pooling: How token states become one state.
        is_decoder: Whether a token's state depends on earlier tokens only; prompt and response
            states then come from one pass.
        counts_positions: Whether position ids are passed.
        shares_prompts: Whether responses may stand in one row behind their prompt.
        pad_id: Token id that fills rows up.
        template_hash: Of the chat template that lies beside the weights.
        tokenizer_hash: Of the tokenizer there, special tokens around texts included.
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

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that :meth:`from_json` reads."""
        return asdict(self) | {"header": list(self.header), "marker": list(self.marker)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Reading":
        """Return what :meth:`to_json` wrote.

        Raises:
            InputError: If a value is missing or unknown.
        """
        try:
            layout = dict(values["layout"])
            for key in ("single", "pair"):
                held = dict(layout[key])
                for part in ("before", "between", "after"):
                    held[part] = [(int(i), int(kind)) for i, kind in held[part]]
                layout[key] = SpecialTokens(**held)
            rest = {name: values[name] for name in (f.name for f in fields(cls))}
            rest["layout"] = SequenceLayout(**layout)
            for key in ("header", "marker"):
                rest[key] = tuple(int(i) for i in rest[key])
            if unknown := set(values) - set(rest):
                raise KeyError(min(unknown))
            return cls(**rest)
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"config.json: 'reading' is not what this version writes ({error}); export the "
                "model again."
            ) from error

    def split(
        self, ids: NDArray[np.int64], without_boundary: str = "raise"
    ) -> tuple[TokenSequence, TokenSequence]:
        """Return a row as its prompt alone, and as its prompt with its response.

        The row is brought into the form in which the model was trained: one opening token,
        whether it came with none or two; the closing tokens of a pair; the prompt's beginning,
        then the response's end, cut at the longest length.

        Args:
            ids: Token ids without padding, shape (tokens,).
            without_boundary: ``raise``, or ``whole_text``: the whole text then stands for both.

        Raises:
            InputError: If the row is empty, or no response begins in it.
        """
        opening = [i for i, _ in self.layout.pair.before]
        closing = [i for i, _ in self.layout.pair.after]
        body: list[int] = ids.tolist()
        while opening and body[: len(opening)] == opening:
            body = body[len(opening) :]
        if closing and body[-len(closing) :] == closing:
            body = body[: -len(closing)]
        if not body:
            raise InputError("a row holds no token of a text; give a prompt and a response.")
        start = last_occurrence(body, self.marker)
        if start is None:
            return self._undivided(body, without_boundary)
        end = start + len(self.marker)
        for token in self.header[len(self.marker) :]:
            if end < len(body) and body[end] == token:
                end += 1
            else:
                break
        # Between the two texts of a pair the layout itself writes what stands there.
        prompt = body[:start] if self.layout.pair.between else body[:end]
        join = self.layout.join
        return join(prompt, None), join(prompt, body[end:])

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


def last_occurrence(ids: Sequence[int], marker: Sequence[int]) -> int | None:
    """Return where the last copy of ``marker`` in ``ids`` begins; None if there is none."""
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
    """Return the real tokens of each row, wherever padding and holes of the mask are."""
    return [ids[keep != 0] for ids, keep in zip(input_ids, mask, strict=True)]
