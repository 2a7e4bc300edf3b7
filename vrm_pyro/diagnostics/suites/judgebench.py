"""JudgeBench.

Published: ``ScalerLab/JudgeBench``, splits ``gpt`` (350 pairs) and ``claude`` (270).

Rule: the decision is A>B if the first response has the higher reward, else B>A, and must equal the
label. Sections by source: knowledge (MMLU-Pro), reasoning and math (LiveBench), coding
(LiveCodeBench). The total is the accuracy on all pairs.
"""

from collections.abc import Sequence
from typing import Any, Final

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, text_of
from vrm_pyro.diagnostics.suites.suite import (
    Case,
    Credit,
    Means,
    Rewards,
    Row,
    Suite,
    first_values,
)

SOURCES: Final = {
    "mmlu-pro": "Knowledge",
    "livebench-reasoning": "Reasoning",
    "livebench-math": "Math",
    "livecodebench": "Coding",
}
ALL: Final = "All pairs"
_LABELS: Final = {"A>B": (0, 1), "B>A": (1, 0)}


def cases(row: Row, place: str) -> list[Case]:
    """Return the pair of a row."""
    source, label = text_of(row, "source"), text_of(row, "label")
    section = next((name for start, name in SOURCES.items() if source.startswith(start)), None)
    if section is None:
        raise RowProblem(
            "unknown source",
            f'"source" is {source!r:.40}, but must begin with {", ".join(SOURCES)}.',
        )
    if label not in _LABELS:
        raise RowProblem("no label", f'"label" is {label!r:.40}, but must be A>B or B>A.')
    pair = _LABELS[label]
    return [
        Case(
            name_of(row, "pair_id", place),
            section,
            text_of(row, "question"),
            (text_of(row, "response_A"), text_of(row, "response_B")),
            (pair[0] == 0, pair[0] == 1),
            (pair,),
            {"source": source, "label": label},
        )
    ]


def credits(cases: Sequence[Case], rewards: Sequence[Rewards]) -> list[Credit]:
    """Return 1 for each decision that is the label, in its section and in all pairs."""
    return [
        Credit(subset, number, (float(_decision(reward) == case.facts["label"]),))
        for number, (case, reward) in enumerate(zip(cases, rewards, strict=True))
        for subset in (case.subset, ALL)
    ]


def _decision(reward: Rewards) -> str:
    return "A>B" if reward[0] > reward[1] else "B>A"


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return the rows with their judgment, as ``outputs/*.jsonl`` hold them, without the texts."""
    return [
        {
            "pair_id": case.name,
            **case.facts,
            "judge_name": "reward_model",
            "judgments": [
                {
                    "judgment": {"judge_model": model, "scores": reward.tolist()},
                    "decision": _decision(reward),
                }
            ],
        }
        for case, reward in zip(cases, rewards, strict=True)
    ]


def sections(means: Means) -> dict[str, float]:
    """Return the sections, then the accuracy on all pairs."""
    values = first_values(means)
    return {name: values[name] for name in (*SOURCES.values(), ALL) if name in values}


SUITE = Suite(
    __doc__,
    ("pair_id", "source", "question", "response_A", "response_B", "label"),
    cases,
    credits,
    sections,
    (ALL,),
    str,
    record,
    lambda name: "gpt",
)
