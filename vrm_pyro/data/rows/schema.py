"""Row schema: comparisons and rated responses, and how rows are told apart."""

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.conversation import (
    Message,
    check_response,
    check_text,
    kind_of,
    split_conversations,
    split_texts,
)
from vrm_pyro.data.rows.prompts import (
    SYSTEM,
    check_begins,
    check_same_prompt,
    refuse_likely_prompt,
    refuse_printed_lists,
    row_prompt,
)
from vrm_pyro.data.rows.ranked_row import (
    RANKING_COLUMNS,
    RankedResponses,
    SeveralResponses,
    parse_ranking,
    parse_several,
)
from vrm_pyro.data.rows.values import (
    EXPECTED,
    LABEL_COLUMNS,
    labels_of,
    number_of,
    ratings_of,
    required,
)
from vrm_pyro.data.tools import TEMPLATE_KWARGS, TOOLS

COMPARISON_COLUMNS = (
    "prompt",
    "chosen",
    "rejected",
    "chosen_ratings",
    "rejected_ratings",
    "preference",
    "weight",
    "margin",
)
RESPONSE_COLUMNS = ("prompt", "response", "ratings")
KNOWN_COLUMNS = frozenset(
    (*COMPARISON_COLUMNS, *RESPONSE_COLUMNS, *RANKING_COLUMNS, *LABEL_COLUMNS, SYSTEM)
    + (TOOLS, TEMPLATE_KWARGS)
)
NUMBER_COLUMNS = ("preference", "weight", "margin")
_PREFERENCE = "a number from 0 to 1, the probability that chosen is preferred"
# Names of two sides, which are not misspelled names of one.
_TWO_SIDED = re.compile(
    r"(response|answer|completion|output|option|candidate|text|model)s?_?([ab012])", re.IGNORECASE
)
_MARGIN = "a finite number >= 0: the threshold that a difference of rewards has to pass"


@dataclass(frozen=True)
class Comparison:
    """Two responses to one prompt, the first preferred with probability ``preference``.

    Args:
        prompt: Chat messages, the last not from the assistant.
        chosen: Text of the first response.
        rejected: Text of the second response.
        chosen_ratings: Finite ratings of the first response by objective, missing ones absent.
        rejected_ratings: The same for the second.
        preference: Probability in [0, 1] that the first is preferred.
        weight: Power on the likelihood of this row, >= 0.
        labels: ``id``, ``subset`` and ``source``, None where absent.
        margin: Known threshold t of the pair, >= 0, in units of the reward; NaN where absent.
        implicit_text: Whether the prompt was taken from the beginning of two plain texts.
        cut_inside_word: Whether that cut fell inside a word.
    """

    prompt: list[Message]
    chosen: str
    rejected: str
    chosen_ratings: dict[str, float]
    rejected_ratings: dict[str, float]
    preference: float
    weight: float
    labels: dict[str, str | None]
    margin: float = math.nan
    implicit_text: bool = False
    cut_inside_word: bool = False


@dataclass(frozen=True)
class RatedResponse:
    """One response to a prompt with its ratings, which may all be missing."""

    prompt: list[Message]
    response: str
    ratings: dict[str, float]
    labels: dict[str, str | None]


Row = Comparison | RatedResponse | RankedResponses | SeveralResponses


def parse_row(row: object, unranked: bool = False) -> Row:
    """Check one row and return it as a comparison, a rated response or a ranking.

    >>> row = parse_row({"prompt": "2 + 2?", "chosen": "4", "rejected": "5", "preference": 0.9})
    >>> type(row).__name__, row.preference, row.prompt
    ('Comparison', 0.9, [{'role': 'user', 'content': '2 + 2?'}])

    None counts as absent, because columnar formats (Parquet, ``datasets``) fill missing values
    with None.

    Args:
        row: The row.
        unranked: Whether ``responses`` without ``ranks`` are a row: one to be scored.

    Raises:
        RowProblem: With the reason and the fix, if the row is not usable.
    """
    if not isinstance(row, Mapping):
        raise RowProblem(
            "wrong type",
            f"the row is {kind_of(row)}, but must be an object such as "
            '{"prompt": "...", "chosen": "...", "rejected": "..."}.',
        )
    misspelled = _misspelled(tuple(map(str, row)))
    if misspelled:
        raise RowProblem("misspelled column", misspelled)
    pair = row.get("chosen") is not None or row.get("rejected") is not None
    single = row.get("response") is not None
    several = row.get("responses") is not None
    refuse_printed_lists(row)
    if several and (row.get("ranks") is not None or not (pair or single)):
        if unranked and row.get("ranks") is None:
            return parse_several(row)
        return parse_ranking(row)
    if pair and single:
        raise RowProblem(
            "unclear columns",
            'the row has "response" beside "chosen" or "rejected". ' + EXPECTED,
        )
    if pair:
        return _comparison(row)
    if single:
        return RatedResponse(
            prompt=row_prompt(required(row, "prompt"), row),
            response=check_response(row["response"], "response"),
            ratings=ratings_of(row, "ratings"),
            labels=labels_of(row),
        )
    raise RowProblem("missing column", _no_responses(row))


def close_name(name: str, candidates: tuple[str, ...]) -> str | None:
    """Return the candidate that ``name`` most likely misspells, if any.

    >>> close_name("choosen", ("chosen", "rejected"))
    'chosen'
    """
    plain = name.strip().lower().replace(" ", "_").replace("-", "_")
    if plain in candidates:
        return plain
    for match in difflib.get_close_matches(plain, candidates, n=1, cutoff=0.8):
        # "response_id" is 0.84 close to "response", but is a different column
        ratio = difflib.SequenceMatcher(None, plain, match).ratio()
        if abs(len(match) - len(plain)) <= 1 or ratio > 0.87:
            return match
    return None


def _comparison(row: Mapping[str, Any]) -> Comparison:
    chosen, rejected = required(row, "chosen"), required(row, "rejected")
    given = row.get("prompt")
    implicit_text = inside_word = False
    if isinstance(chosen, list) and isinstance(rejected, list) and _holds_prompt(given, chosen):
        # TRL also writes rows with a text prompt beside full conversations; these contain the
        # prompt, and the text repeats a part of it.
        prompt, chosen, rejected = split_conversations(chosen, rejected)
        # before the prompt: a late parting is the plainer reason of the two
        chosen, rejected = check_response(chosen, "chosen"), check_response(rejected, "rejected")
        check_same_prompt(given, prompt)
        prompt = row_prompt(prompt, row)
    elif "prompt" not in row and isinstance(chosen, str) and isinstance(rejected, str):
        check_text(chosen, "chosen")
        check_text(rejected, "rejected")
        refuse_likely_prompt(row)
        text, chosen, rejected, inside_word = split_texts(chosen, rejected)
        prompt, implicit_text = row_prompt(text, row), True
    else:
        prompt = row_prompt(required(row, "prompt"), row)
        check_begins(given, chosen, "chosen")
        check_begins(given, rejected, "rejected")
    return Comparison(
        prompt=prompt,
        chosen=check_response(chosen, "chosen"),
        rejected=check_response(rejected, "rejected"),
        chosen_ratings=ratings_of(row, "chosen_ratings"),
        rejected_ratings=ratings_of(row, "rejected_ratings"),
        preference=number_of(row, "preference", 1.0, _PREFERENCE),
        weight=number_of(row, "weight", math.inf, "a finite number >= 0"),
        labels=labels_of(row),
        margin=_margin(row),
        implicit_text=implicit_text,
        cut_inside_word=inside_word,
    )


def _holds_prompt(prompt: object, chosen: list[Any]) -> bool:
    """Whether a response's messages are a full conversation that begins with the prompt."""
    if prompt is None:
        return True
    starts_elsewhere = (
        bool(chosen) and isinstance(chosen[0], dict) and chosen[0].get("role") != "assistant"
    )
    return starts_elsewhere and (
        isinstance(prompt, str) or (isinstance(prompt, list) and chosen[: len(prompt)] == prompt)
    )


def _margin(row: Mapping[str, Any]) -> float:
    margin = number_of(row, "margin", math.inf, _MARGIN, absent=math.nan)
    if margin == 0 and row.get("preference") not in (None, 0, 1):
        raise RowProblem(
            "bad margin",
            f'"margin" is 0, at which nothing is a tie, but "preference" is {row["preference"]}. '
            "Give a margin above 0, or none.",
        )
    return margin


@lru_cache(maxsize=1024)
def _misspelled(columns: tuple[str, ...]) -> str | None:
    """Return a message if a column looks like one that is missing; other columns are ignored."""
    if "chosen" in columns and "rejected" in columns:
        targets: tuple[str, ...] = COMPARISON_COLUMNS
    elif "response" in columns and "chosen" not in columns and "rejected" not in columns:
        targets = RESPONSE_COLUMNS
    elif "responses" in columns and "chosen" not in columns and "rejected" not in columns:
        targets = RANKING_COLUMNS
    else:
        targets = (*COMPARISON_COLUMNS, *RESPONSE_COLUMNS)
    for column in columns:
        if column in KNOWN_COLUMNS or _TWO_SIDED.fullmatch(column):
            continue
        match = close_name(column, targets)
        if match is not None and match not in columns:
            return f'unknown column "{column}": is it "{match}"? Rename or remove it.'
    return None


def _no_responses(row: Mapping[str, Any]) -> str:
    columns = [str(column) for column in row]
    found = ", ".join(f'"{column}"' for column in columns[:12]) or "none"
    return f"no response in this row (columns: {found}). {EXPECTED}"
