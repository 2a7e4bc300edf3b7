"""PPE, Preference Proxy Evaluations.

Published: ``lmarena-ai/PPE-Human-Preference-V1`` (split ``test``), and
``lmarena-ai/PPE-X-Best-of-K`` with X of MMLU-Pro, MATH, GPQA, IFEval and MBPP-Plus (split
``train``).

Rule: on votes of people, the share of pairs in which the preferred response has the strictly
higher reward; ties of people are no part. On correctness, the same share of the sampled pairs of a
right and a wrong answer (``sampled_conflict_pairs``) by benchmark, and their mean over the five.
There is no official total: what is printed is the mean of people and correctness.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, pairs_of, text_of
from vrm_pyro.diagnostics.suites.suite import (
    Case,
    Credit,
    Means,
    Rewards,
    Row,
    Suite,
    first_values,
    mean_of,
)

PEOPLE: Final = "Human preference"
CORRECTNESS: Final = "Correctness"
BENCHMARKS: Final = {
    "mmlu-pro": "MMLU-Pro",
    "math": "MATH",
    "gpqa": "GPQA",
    "ifeval": "IFEval",
    "mbpp-plus": "MBPP-Plus",
}
_BETTER: Final = {"model_a": (0, 1), "model_b": (1, 0)}
_ANSWERS: Final = 32
_TIES: Final = "tie"


def cases(row: Row, place: str) -> list[Case]:
    """Return the case of a row; none for a tie of people."""
    name = name_of(row, "question_id", place)
    if row.get("winner") is not None:
        winner = text_of(row, "winner")
        if winner.startswith(_TIES):
            return []
        if winner not in _BETTER:
            allowed = ", ".join((*_BETTER, _TIES))
            raise RowProblem(
                "no label", f'"winner" is {winner!r:.40}, but must be one of {allowed}.'
            )
        pair = _BETTER[winner]
        both = (text_of(row, "response_1"), text_of(row, "response_2"))
        return [Case(name, PEOPLE, row.get("prompt"), both, (not pair[0], bool(pair[0])), (pair,))]
    count = sum(row.get(f"response_{n + 1}") is not None for n in range(_ANSWERS))
    answers = tuple(text_of(row, f"response_{n + 1}") for n in range(count))
    scores = row.get("scores")
    if not isinstance(scores, list) or len(scores) != count:
        raise RowProblem(
            "wrong type", f'"scores" must be a list, one for each of {count} answers.'
        )
    pairs = pairs_of(row, "sampled_conflict_pairs", count)
    ordered = tuple((i, j) if scores[i] > scores[j] else (j, i) for i, j in pairs)
    if not ordered:
        return []
    right = tuple(bool(score) for score in scores)
    return [Case(name, _benchmark(row, place), row.get("prompt"), answers, right, ordered)]


def _benchmark(row: Row, place: str) -> str:
    """Return the benchmark of a row: its column, or what file or data set is called."""
    file = place.rsplit("/", 1)[-1]
    given = [str(row.get("benchmark") or ""), file, place]  # a folder may be called math, too
    plain = [text.lower().replace("_", "-") for text in given]
    hits = (name for text in plain for key, name in BENCHMARKS.items() if key in text)
    found = next(hits, None)
    if found is None:
        raise RowProblem(
            "unknown benchmark",
            f'neither the name of the data nor a column "benchmark" says which of '
            f"{', '.join(BENCHMARKS.values())} the row is of.",
        )
    return found


def credits(cases: Sequence[Case], rewards: Sequence[Rewards]) -> list[Credit]:
    """Return the share of pairs that are won, weighted by their number."""
    found = []
    for number, (case, reward) in enumerate(zip(cases, rewards, strict=True)):
        better, worse = np.array(case.pairs).T
        share = float((reward[better] > reward[worse]).mean())
        found.append(Credit(case.subset, number, (share,), float(len(case.pairs))))
    return found


def sections(means: Means) -> dict[str, float]:
    """Return people, the five benchmarks, and their mean."""
    values = first_values(means)
    found = {name: values[name] for name in (PEOPLE, *BENCHMARKS.values()) if name in values}
    if all(name in values for name in BENCHMARKS.values()):
        found[CORRECTNESS] = mean_of(values, tuple(BENCHMARKS.values()))
    return found


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return a row for each case with ``score_1`` and so on, as the benchmark's results hold."""
    return [
        {
            "question_id": case.name,
            "benchmark": case.subset,
            "model": model,
            **{f"score_{n + 1}": float(value) for n, value in enumerate(reward)},
        }
        for case, reward in zip(cases, rewards, strict=True)
    ]


SUITE = Suite(
    __doc__,
    (
        "question_id",
        "prompt",
        "winner",
        "benchmark",
        "scores",
        "sampled_conflict_pairs",
        *(f"response_{n + 1}" for n in range(_ANSWERS)),
    ),
    cases,
    credits,
    sections,
    (PEOPLE, CORRECTNESS),
    str,
    record,
    lambda name: "test" if "human" in name.lower() else "train",
)
