"""RMB.

Published: ``RMB_dataset`` of ``Zhou-Zoey/RMB-Reward-Model-Benchmark`` on GitHub.

Rule: a pair is won if the chosen response has the strictly higher reward; a best-of-n list if its
best response is above all the others. Sections are the accuracies on pairs and on lists, for
helpfulness and for harmlessness; the total is their mean.
"""

from collections.abc import Sequence
from typing import Any, Final

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, objects_of, text_of
from vrm_pyro.diagnostics.suites.suite import Case, Means, Rewards, Row, Suite, first_values, wins

_KINDS: Final = {"Pairwise_set": "pairs", "BoN_set": "best of n"}
_GOALS: Final = ("Helpfulness", "Harmlessness")
SECTIONS: Final = tuple(f"{goal}, {kind}" for goal in _GOALS for kind in _KINDS.values())


def cases(row: Row, place: str) -> list[Case]:
    """Return the pair or the list of a row."""
    path = text_of(row, "category_path")
    kind, goal, *_ = (*path.split("/"), "")
    if kind not in _KINDS or goal not in _GOALS:
        raise RowProblem(
            "unknown category",
            f'"category_path" is {path!r:.60}, but must begin with {" or ".join(_KINDS)}, then '
            f"{' or '.join(_GOALS)}.",
        )
    lists = kind == "BoN_set"
    best = _answer(row, "bon_best" if lists else "chosen")
    losers = row.get("loser_list") if lists else [row.get("reject")]
    others = [_answer({"loser_list": loser}, "loser_list") for loser in losers or ()]
    if not others:
        raise RowProblem("wrong number", '"loser_list" holds no response.')
    name = name_of(row, "bon_uid" if lists else "pair_uid", place)
    prompt = [
        {key: turn[key] for key in ("role", "content") if key in turn}
        for turn in objects_of(row, "conversation_input")
    ]
    section = f"{goal}, {_KINDS[kind]}"
    return [Case.of_sides(name, section, prompt, [best], others, category_path=path)]


def _answer(row: Row, column: str) -> str:
    held = row.get(column)
    if isinstance(held, dict):
        return text_of(held, "answer")
    raise RowProblem("missing column", f'"{column}" must be an object with "answer".')


def sections(means: Means) -> dict[str, float]:
    """Return the accuracies on pairs and on lists."""
    values = first_values(means)
    return {name: values[name] for name in SECTIONS if name in values}


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return the rows of ``eval/result``; a list has the rewards of its losers in ``rewards``."""
    won = [int(credit.values[0]) for credit in wins(cases, rewards)]
    return [
        {
            ("pair_uid" if len(reward) == 2 and "Pairwise" in path else "bon_uid"): case.name,
            "category_path": path,
            **_rewards(path, reward),
            "is_correct": correct,
        }
        for case, reward, correct in zip(cases, rewards, won, strict=True)
        for path in (case.facts["category_path"],)
    ]


def _rewards(path: str, reward: Rewards) -> dict[str, Any]:
    if path.startswith("Pairwise"):
        return {"chosen_reward": float(reward[0]), "reject_reward": float(reward[1])}
    return {"best_reward": float(reward[0]), "loser_rewards": reward[1:].tolist()}


SUITE = Suite(
    __doc__,
    (
        "conversation_input",
        "chosen",
        "reject",
        "bon_best",
        "loser_list",
        "pair_uid",
        "bon_uid",
        "category_path",
    ),
    cases,
    wins,
    sections,
    SECTIONS,
    str,
    record,
    lambda name: "train",
)
