"""Write prompts and responses from kinds, topics and semantic features."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from vrm_pyro.data.simulation.kinds import CLOSINGS, KINDS, Kind
from vrm_pyro.data.simulation.phrases import PHRASE_BANKS
from vrm_pyro.data.simulation.program import Floats, Ints
from vrm_pyro.errors import InputError

# Lloyd-Max thresholds: the five levels that lose least variance of a standard normal.
LEVEL_CUTS = np.array([-1.244, -0.3823, 0.3823, 1.244])

SENTENCES_PER_FEATURE = 2
MAX_REMARKS = 2


class PromptText(NamedTuple):
    """The text of a prompt, and the index of its topic within its kind."""

    text: str
    topic: int


def feature_levels(z: Floats) -> Ints:
    """Round semantic features to the levels -2..2 that a text can show.

    Levels keep 92% of the variance of a standard normal feature. No encoder can learn more about
    z from the text.

    >>> feature_levels(np.array([-2.0, -0.5, 0.0, 0.5, 2.0])).tolist()
    [-2, -1, 0, 1, 2]
    """
    return np.searchsorted(LEVEL_CUTS, z).astype(np.int64) - 2


def prompt_capacity(kind: Kind) -> int:
    """Return the number of different prompts that a kind can give."""
    situations = len(kind.situations)
    return len(kind.requests) * len(kind.topics) * (situations * (situations - 1)) * len(CLOSINGS)


def write_prompts(rng: np.random.Generator, kind: Ints) -> list[PromptText]:
    """Write one prompt for every entry of ``kind``, all different.

    Args:
        rng: Source of randomness.
        kind: Index into :data:`KINDS`, shape (P,).

    Raises:
        InputError: If a kind needs more prompts than it can give.
    """
    prompts = [PromptText("", 0)] * len(kind)
    for index, words in enumerate(KINDS):
        rows = np.flatnonzero(kind == index)
        capacity = prompt_capacity(words)
        if len(rows) > capacity:
            raise InputError(
                f"simulate: {len(rows)} prompts of kind {words.name!r} are needed, but its "
                f"wording gives {capacity} different ones; ask for fewer pairs or for more "
                "pairs per prompt."
            )
        for row, number in zip(rows, rng.choice(capacity, len(rows), replace=False), strict=True):
            prompts[row] = _prompt(words, int(number))
    return prompts


def _prompt(words: Kind, number: int) -> PromptText:
    """Write prompt ``number`` of a kind: its mixed-radix digits choose the parts."""
    situations = len(words.situations)
    number, closing = divmod(number, len(CLOSINGS))
    number, second = divmod(number, situations - 1)
    number, first = divmod(number, situations)
    topic, request = divmod(number, len(words.requests))
    parts = (
        words.requests[request].replace("{topic}", words.topics[topic]),
        words.situations[first],
        words.situations[(first + 1 + second) % situations],
        CLOSINGS[closing],
    )
    return PromptText(" ".join(parts), topic)


def write_responses(rng: np.random.Generator, kind: Ints, topic: Ints, levels: Ints) -> list[str]:
    """Write responses that show the given levels of every feature.

    Each feature has two sentences. At level l, |l| of them come from the bank of high (or low)
    phrases and the others from the middle bank, so the number of sentences does not depend on
    quality. Zero to two remarks on the topic vary the length.

    Args:
        rng: Source of randomness.
        kind: Index into :data:`KINDS`, shape (R,).
        topic: Index into the topics of that kind, shape (R,).
        levels: Levels -2..2 of every feature, shape (R, features).
    """
    banks = [_filled_banks(words) for words in KINDS]
    num_responses, num_features = levels.shape
    num_slots = SENTENCES_PER_FEATURE * num_features
    picks = rng.random((num_responses, num_features, 2)).tolist()
    frame = rng.random((num_responses, 3)).tolist()
    order = rng.random((num_responses, num_slots + MAX_REMARKS)).argsort(axis=1).tolist()
    texts = []
    for row, row_levels in enumerate(levels.tolist()):
        words, bank = KINDS[kind[row]], banks[kind[row]]
        sentences = []
        for feature, level in enumerate(row_levels):
            low, middle, high = bank[feature]
            strong_pick, middle_pick = picks[row][feature]
            sentences += _choose(high if level > 0 else low, abs(level), strong_pick)
            sentences += _choose(middle, SENTENCES_PER_FEATURE - abs(level), middle_pick)
        start, remark_count, remark = frame[row]
        sentences += _choose(words.remarks, int(remark_count * (MAX_REMARKS + 1)), remark)
        opening = words.openings[int(start * len(words.openings))]
        shuffled = [sentences[i] for i in order[row] if i < len(sentences)]
        texts.append(" ".join([opening.replace("{topic}", words.topics[topic[row]]), *shuffled]))
    return texts


def _filled_banks(words: Kind) -> list[list[list[str]]]:
    """Return (low, middle, high) sentences of every feature, worded for a kind."""
    return [
        [
            [sentence.replace("{thing}", words.thing) for sentence in sentences]
            for sentences in (bank.low, bank.middle, bank.high)
        ]
        for bank in PHRASE_BANKS
    ]


def _choose(bank: Sequence[str], count: int, uniform: float) -> list[str]:
    """Pick ``count`` different sentences: an ordered pair is one number below n (n - 1)."""
    if count == 0:
        return []
    first, rest = divmod(uniform * len(bank), 1)
    start, step = int(first), 1 + int(rest * (len(bank) - 1))
    return [bank[(start + i * step) % len(bank)] for i in range(count)]
