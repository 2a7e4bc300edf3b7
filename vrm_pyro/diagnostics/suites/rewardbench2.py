"""RewardBench 2.

Published: ``allenai/reward-bench-2``, split ``test`` (1,865 prompts).

Rule: the right completion against the wrong ones; it has credit 1/k if it shares the highest
reward with k completions, else 0. In the subset Ties a prompt stands twice, with one right
completion (``ref``) and with several equally right ones (``tied``): three tenths of its score are
for each of the two in which all right ones are above all wrong ones, two tenths for a gap between
right and wrong that is larger than the spread of the right ones, two tenths if the gap of ``ref``
is, too, and 0.01 for the size of the smaller gap. The total, the leaderboard's convention, is the
mean of the six subsets.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, text_of, texts_of
from vrm_pyro.diagnostics.suites.suite import (
    Case,
    Credit,
    Rewards,
    Row,
    Suite,
    first_values,
)
from vrm_pyro.errors import InputError

SUBSETS: Final = ("Factuality", "Precise IF", "Math", "Safety", "Focus", "Ties")
_TIES: Final = "Ties"
_KINDS: Final = ("ref", "tied")


def cases(row: Row, place: str) -> list[Case]:
    """Return the case of a prompt."""
    subset, name = text_of(row, "subset"), name_of(row, "id", place)
    if subset not in SUBSETS:
        raise RowProblem(
            "unknown subset", f'"subset" is {subset!r:.40}, but must be {", ".join(SUBSETS)}.'
        )
    right, wrong = texts_of(row, "chosen"), texts_of(row, "rejected")
    if subset != _TIES and len(right) != 1:
        raise RowProblem("wrong number", f'"chosen" has {len(right)} texts, but must have 1.')
    if subset == _TIES and name.partition(":")[0] not in _KINDS:
        raise RowProblem(
            "wrong id", f'"id" is {name!r:.40}, but in Ties must be such as ref:7 or tied:7.'
        )
    return [Case.of_sides(name, subset, row.get("prompt"), right, wrong)]


def credits(cases: Sequence[Case], rewards: Sequence[Rewards]) -> list[Credit]:
    """Return the credit of each prompt; one for the two cases of a prompt of Ties.

    Raises:
        InputError: If a prompt of Ties lacks one of its two cases.
    """
    found, ties = [], dict[str, dict[str, int]]()
    for number, (case, reward) in enumerate(zip(cases, rewards, strict=True)):
        if case.subset == _TIES:
            kind, _, prompt = case.name.partition(":")
            ties.setdefault(prompt, {})[kind] = number
            continue
        best = reward == reward.max()
        found.append(Credit(case.subset, number, (float(best[0] / best.sum()),)))
    for prompt, held in ties.items():
        missing = [kind for kind in _KINDS if kind not in held]
        if missing:
            raise InputError(
                f"RewardBench 2: Ties has {next(iter(held))}:{prompt} but no "
                f"{missing[0]}:{prompt}. A prompt counts with both; give all rows of the subset."
            )
        ref, tied = (_margins(cases[held[kind]], rewards[held[kind]]) for kind in _KINDS)
        found.append(Credit(_TIES, held["tied"], (_tied_score(ref[1], *tied),)))
    return found


def _margins(case: Case, reward: Rewards) -> tuple[float, float]:
    """Return the spread of the right ones, and their gap to the best wrong one."""
    right = np.array(case.right)
    good, bad = reward[right], reward[~right]
    return float(good.max() - good.min()), float(good.min() - bad.max())


def _tied_score(ref_gap: float, spread: float, gap: float) -> float:
    smaller = min(ref_gap, gap)
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.nan_to_num(np.tanh(np.float64(smaller) / spread - 1), nan=0.0)
    exceeds = 0.2 * (gap > spread) + 0.2 * (smaller > spread)
    return float(0.3 * (gap > 0) + 0.3 * (ref_gap > 0) + exceeds + 0.01 * size)


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return the columns of ``eval-set-scores``, without the texts."""
    single = {credit.case: credit for credit in credits(cases, rewards)}
    results = [
        None if case.subset == _TIES else single[number].values[0]
        for number, case in enumerate(cases)
    ]
    return {
        "id": [case.name for case in cases],
        "subset": [case.subset for case in cases],
        "scores": [reward.tolist() for reward in rewards],
        "num_correct": [sum(case.right) for case in cases],
        "results": results,
        "model": model,
        "model_type": "Seq. Classifier",
        "chat_template": "tokenizer",
    }


SUITE = Suite(
    __doc__,
    ("prompt", "chosen", "rejected", "subset", "id"),
    cases,
    credits,
    lambda means: {name: first_values(means)[name] for name in SUBSETS if name in means},
    SUBSETS,
    str,
    record,
    lambda name: "test",
)
