"""Single pairs of the report: the worst mistakes and the most uncertain, with reasons."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.turns import turn_text
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, log_loss_values
from vrm_pyro.report.page.blocks import Case, Reason, Side
from vrm_pyro.report.page.page_inputs import PageInputs

# Longer texts are cut: twenty pairs of long answers would take megabytes.
LONGEST: Final = 1500


def worst_mistakes(inputs: PageInputs, count: int) -> list[int]:
    """Return the wrongly predicted pairs with the largest log loss, one per prompt."""
    p, label = inputs.scores.p_first.astype(np.float64), inputs.table.preference
    wrong = accuracy_values(p, label) < 0.5
    return _distinct(inputs, np.argsort(-log_loss_values(p, label), kind="stable"), wrong, count)


def most_uncertain(inputs: PageInputs, count: int) -> list[int]:
    """Return the pairs with probability nearest to 1/2; among equals, the widest first."""
    p = inputs.scores.p_first.astype(np.float64)
    spread = inputs.scores.delta[1:].sum(0)
    order = np.lexsort((-spread, np.round(np.abs(p - 0.5), 4)))
    return _distinct(inputs, order, np.ones(len(p), dtype=bool), count)


def case_of(inputs: PageInputs, pair: int, texts: bool = True) -> Case:
    """Return a pair as the page shows it: A is the response that the model prefers.

    Args:
        inputs: Predictions of the model.
        pair: Position of the pair.
        texts: Whether texts are shown.
    """
    table, scores = inputs.table, inputs.scores
    p, label = float(scores.p_first[pair]), float(table.preference[pair])
    sides = [int(table.pair_first[pair]), int(table.pair_second[pair])]
    if p < 0.5:
        sides.reverse()
        p, label = 1 - p, 1 - label
    delta = abs(float(scores.delta[0, pair]))
    if (scores.delta[0, pair] < 0) == (float(scores.p_first[pair]) >= 0.5):
        delta = -delta  # with a skewed difference, mean and probability may disagree in sign
    ambiguity, epistemic = (float(v) for v in scores.delta[1:, pair])
    spread = f"sd {(ambiguity + epistemic) ** 0.5:.2f}"
    if epistemic > 0:
        spread += f", {epistemic / (ambiguity + epistemic):.0%} of the variance epistemic"
    said = "A" if label > 0.5 else "B" if label < 0.5 else None
    verdict = "a tie" if said is None else f"{said} preferred"
    if 0 < label < 1 and said is not None:
        verdict += f" with probability {max(label, 1 - label):.2f}"
    prompt = int(table.response_prompt[sides[0]])
    name = table.pair_names[pair]
    return Case(
        title=f"{name} · {inputs.kinds[prompt]}",
        facts=(
            f"model: A preferred with probability {p:.2f}",
            f"label: {verdict}",
            f"reward of A above that of B {delta:+.2f} ({spread})",
        ),
        prompt=[(m["role"], *_cut(turn_text(m))) for m in table.prompts[prompt]]
        if texts
        else None,
        sides=[
            Side(letter, _marks(letter, said), *_shown(table.responses[j], texts))
            for letter, j in zip("AB", sides, strict=True)
        ],
        reasons=_reasons(inputs, prompt, sides),
    )


def _reasons(inputs: PageInputs, prompt: int, sides: list[int]) -> list[Reason]:
    first, second = sides
    parts = inputs.reasons.parts[first] - inputs.reasons.parts[second]
    largest = float(np.abs(parts).max()) or 1.0
    weights, sd = inputs.reasons.weights[prompt], inputs.reasons.weights_sd[prompt]
    scores = inputs.scores.scores
    assert scores is not None
    return [
        Reason(
            inputs.objectives[k],
            f"{weights[k]:.2f} ± {sd[k]:.2f}",
            f"{scores[first, k]:.2f}",
            f"{scores[second, k]:.2f}",
            f"{parts[k]:+.3f}",
            float(parts[k]) / largest,
        )
        for k in np.argsort(-np.abs(parts), kind="stable")
    ]


def _marks(letter: str, said: str | None) -> list[str]:
    marks = ["model’s choice"] if letter == "A" else []
    return marks + (["label’s choice"] if letter == said else [])


def _distinct(
    inputs: PageInputs, order: NDArray[np.int64], allowed: NDArray[np.bool_], count: int
) -> list[int]:
    """Return the first allowed pairs with weight, one of each prompt."""
    found: list[int] = []
    seen: set[int] = set()
    for pair in order.tolist():
        if len(found) == count:
            break
        prompt = int(inputs.table.pair_prompt[pair])
        if allowed[pair] and inputs.table.pair_weight[pair] > 0 and prompt not in seen:
            found.append(pair)
            seen.add(prompt)
    return found


def _shown(text: str, texts: bool) -> tuple[str | None, int]:
    return _cut(text) if texts else (None, 0)


def _cut(text: str) -> tuple[str, int]:
    return text[:LONGEST], max(0, len(text) - LONGEST)
