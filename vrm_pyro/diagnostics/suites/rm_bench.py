"""RM-Bench.

Published: ``THU-KEG/RM-Bench``, split ``train`` (1,327 prompts).

Rule: right and wrong completion in three styles each, from concise to long with formatting, give
nine strict comparisons. Hard are those in which the wrong one is in the fancier style, normal
those in one style, easy the others. A domain is the mean of the three; the two files on safety are
one domain. The total is the mean of chat, code, math and safety, and so is each level.
"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites.columns import name_of, text_of, texts_of
from vrm_pyro.diagnostics.suites.suite import Case, Credit, Means, Rewards, Row, Suite

DOMAINS: Final = {"chat": "Chat", "code": "Code", "math": "Math", "safety": "Safety"}
LEVELS: Final = ("Hard", "Normal", "Easy")
STYLES: Final = 3


def cases(row: Row, place: str) -> list[Case]:
    """Return the case of a prompt."""
    domain = text_of(row, "domain").partition("-")[0].lower()
    if domain not in DOMAINS:
        raise RowProblem(
            "unknown domain",
            f'"domain" is {row.get("domain")!r:.40}, but must begin with {", ".join(DOMAINS)}.',
        )
    right, wrong = texts_of(row, "chosen"), texts_of(row, "rejected")
    if len(right) != STYLES or len(wrong) != STYLES:
        raise RowProblem(
            "wrong number",
            f'"chosen" has {len(right)} and "rejected" {len(wrong)} texts; each has 3 styles.',
        )
    name = name_of(row, "id", place)
    return [Case.of_sides(name, DOMAINS[domain], row.get("prompt"), right, wrong)]


def credits(cases: Sequence[Case], rewards: Sequence[Rewards]) -> list[Credit]:
    """Return the shares of strict wins among hard, normal and easy comparisons."""
    found = []
    for number, (case, reward) in enumerate(zip(cases, rewards, strict=True)):
        won = reward[:STYLES, None] > reward[None, STYLES:]  # rows: style of the right one
        upper = won[np.triu_indices(STYLES, 1)].mean()
        lower = won[np.tril_indices(STYLES, -1)].mean()
        levels = (float(upper), float(np.diag(won).mean()), float(lower))
        found.append(Credit(case.subset, number, levels))
    return found


def sections(means: Means) -> dict[str, float]:
    """Return the domains, and the levels as means over them."""
    found = {name: float(means[name].mean()) for name in DOMAINS.values() if name in means}
    levels = np.mean(list(means.values()), 0)
    return found | {name: float(value) for name, value in zip(LEVELS, levels, strict=True)}


def record(cases: Sequence[Case], rewards: Sequence[Rewards], model: str) -> Any:
    """Return the rows with ``score_chosen`` and ``score_rejected``, without the texts."""
    return [
        {
            "id": case.name,
            "domain": case.subset.lower(),
            "score_chosen": reward[:STYLES].tolist(),
            "score_rejected": reward[STYLES:].tolist(),
        }
        for case, reward in zip(cases, rewards, strict=True)
    ]


SUITE = Suite(
    __doc__,
    ("prompt", "chosen", "rejected", "domain", "id"),
    cases,
    credits,
    sections,
    tuple(DOMAINS.values()),
    str,
    record,
    lambda name: "train",
)
