"""Render a decision as a table for the terminal, as sentences and as JSON values."""

import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from vrm_pyro.prediction.explanation.decision import Decision, PairReasons, Spread
from vrm_pyro.prediction.rating_range import Ranges, flags, outside, outside_words

WIDTH: Final = 99
# Number of thresholds and score changes in the sentences; JSON has all of them.
MOST_SHOWN: Final = 3
RATING, MODEL = "rating", "model"


@dataclass(frozen=True)
class Names:
    """Texts and names that a decision is shown with.

    Args:
        objectives: Names of the objectives.
        prompt: The prompt as messages of role and content.
        responses: Texts of the responses.
        labels: Label of each response in the rows, such as ``chosen``; None if it has none.
        score_unit: ``rating`` or ``model``.
        rating_ranges: Ranges of the training ratings by objective, as far as they are known.
    """

    objectives: Sequence[str]
    prompt: Sequence[dict[str, str]]
    responses: Sequence[str]
    labels: Sequence[str | None]
    score_unit: str
    rating_ranges: Ranges = field(default_factory=dict)

    @staticmethod
    def letter(response: int) -> str:
        """Return the short name of response j: A, B, ..., Z, R27, R28, ...

        >>> [Names.letter(j) for j in (0, 25, 26)]
        ['A', 'Z', 'R27']
        """
        return chr(ord("A") + response) if response < 26 else f"R{response + 1}"


def as_json(decision: Decision, names: Names) -> dict[str, Any]:
    """Return a decision as JSON values, keyed by names of objectives and responses."""
    order = [names.letter(j) for j in decision.order]
    return {
        "prompt": list(names.prompt),
        "objectives": list(names.objectives),
        "score_unit": names.score_unit,
        "interval": decision.level,
        "num_draws": decision.num_draws,
        "order": order,
        "weights": _by_objective(
            decision.weights, names, sd_epistemic=decision.weights_epistemic_sd
        ),
        "responses": [_response(decision, names, j) for j in range(len(decision.reward))],
        "pairs": [_pair(pair, names) for pair in decision.pairs],
        "flip": _flip(decision, names),
        "words": words(decision, names),
    }


def words(decision: Decision, names: Names) -> dict[str, list[str]]:
    """Return sentences: ``why`` a response leads, and what would ``flip`` the order."""
    return {"why": _why(decision, names), "flip": _what_would_flip(decision, names)}


def table(decision: Decision, names: Names) -> str:
    """Return the text for the terminal."""
    said = words(decision, names)
    covered = f"{decision.level:.0%}"
    leader = names.letter(decision.order[0])
    lines = [
        f"prompt  {_cut(names.prompt[-1]['content'], WIDTH - 8)}",
        "",
        f"   {'reward':>15}  {'P(best)':>8}  {'P(preferred)':>12}  response",
        *(_response_line(decision, names, j) for j in decision.order),
        f"P(preferred): that a comparison prefers {leader} to it.",
        "",
        *_columns(
            f"objective, mean [{covered} interval]; scores: {_unit(names)}",
            [
                *([("weight", _cells(decision.weights, 2))] if len(names.objectives) > 1 else []),
                *(
                    (f"score {names.letter(j)}", _cells(_row(decision.scores, j), 2))
                    for j in decision.order
                ),
            ],
            names,
        ),
        "",
        *_columns(
            f"what puts {leader} ahead, in reward: w_k (s_{leader},k - s_j,k), times beta",
            [
                (f"{leader} over {names.letter(p.second)}", _contribution_cells(p))
                for p in decision.pairs
                if p.first == decision.order[0]
            ],
            names,
            last="sum",
        ),
    ]
    for title, sentences in (("Why", said["why"]), ("What would flip it", said["flip"])):
        lines += ["", title]
        for sentence in sentences:
            lines += textwrap.wrap(sentence, WIDTH, initial_indent="  ", subsequent_indent="    ")
    return "\n".join(lines)


def _why(decision: Decision, names: Names) -> list[str]:
    leader, runner_up = decision.order[:2]
    first, second = names.letter(leader), names.letter(runner_up)
    pair = decision.pairs[0]
    parts = pair.contributions
    told = [
        f"{first} leads: its expected reward is {_plus(pair.delta)} above that of {second} (sd "
        f"{_number(_sd(pair.ambiguity + pair.epistemic))}). It is the best of "
        f"{len(decision.order)} with probability {_share(decision.p_best[leader])}; a comparison "
        f"prefers it to {second} with probability {_share(pair.p_preferred)}."
    ]
    surest = int(decision.p_best.argmax())
    if surest != leader and decision.p_best[surest] - decision.p_best[leader] > 2 * float(
        np.hypot(decision.p_best_se[surest], decision.p_best_se[leader])
    ):
        told.append(
            f"{names.letter(surest)} is more often the best, though, "
            f"{_share(decision.p_best[surest])}: {first} wins by more where it wins."
        )
    best = parts.mean.argsort()[::-1].tolist()
    for_it = [k for k in best if parts.mean[k] > 0][:MOST_SHOWN]
    against = [k for k in best[::-1] if parts.mean[k] < 0][:MOST_SHOWN]
    if for_it:
        text = f"For {first}, against {second}: {_list(parts, for_it, names)}"
        if against:
            text += f". Against it: {_list(parts, against, names)}"
        told.append(f"{text}.")
    if pair.epistemic > 0:
        share = pair.epistemic / (pair.ambiguity + pair.epistemic)
        told.append(
            f"{_share(share)} of the variance of the difference is epistemic: more training data "
            "could remove it. The rest is ambiguity of these texts."
        )
    scores = decision.scores.mean
    for j, k in np.argwhere(outside(scores, names.objectives, names.rating_ranges)):
        told.append(
            outside_words(scores[j, k], names.objectives[k], names.letter(j), names.rating_ranges)
        )
    if names.score_unit == MODEL:
        meaning = (
            "" if len(names.objectives) == 1 else "objectives have no meaning of their own, and "
        )
        told.append(
            f"Trained without ratings on scores: {meaning}the unit of scores is arbitrary."
        )
    return told


def _what_would_flip(decision: Decision, names: Names) -> list[str]:
    leader, runner_up = (names.letter(j) for j in decision.order[:2])
    told = []
    if len(names.objectives) == 1:
        told.append("There is one objective: no weights to shift.")
    else:
        told += _weight_flips(decision, names)
    unit = "expected rating" if names.score_unit == RATING else "score"
    changes = [
        f"`{names.objectives[c.objective]}` {_apart(c.needed, c.now)} (now "
        f"{_apart(c.now, c.needed)} +- {decision.scores.sd[decision.order[1], c.objective]:.2f})"
        for c in decision.score_changes[:MOST_SHOWN]
    ]
    if changes:
        told.append(
            f"{runner_up} draws level with one better {unit} alone: {' or '.join(changes)}."
        )
    return told


def _weight_flips(decision: Decision, names: Names) -> list[str]:
    leader, runner_up = (names.letter(j) for j in decision.order[:2])
    told, now = [], decision.weights
    for item, beyond in list(zip(decision.thresholds, decision.beyond, strict=True))[:MOST_SHOWN]:
        k = item.objective
        told.append(
            f"{leader} stays ahead unless `{names.objectives[k]}` weighs "
            f"{'more' if item.more else 'less'} than {_apart(item.threshold, now.mean[k])} (now "
            f"{_apart(now.mean[k], item.threshold)} +- {_share(now.sd[k])}; probability "
            f"{_share(beyond)} that it does), the others in proportion; then "
            f"{names.letter(item.response)} leads."
        )
    if not told:
        told.append(f"No single weight takes the lead from {leader}, whatever its value.")
    if decision.shift is None:
        told.append(
            f"No weights at all make {runner_up} the best: "
            + (
                f"{leader} is at least as good on every objective."
                if len(decision.order) == 2
                else "at any of them another response is better."
            )
        )
    else:
        moves = decision.shift.weights - now.mean / now.mean.sum()
        order = np.argsort(-np.abs(moves))
        listed = [
            f"`{names.objectives[k]}` {_share(now.mean[k])} to "
            f"{_share(max(decision.shift.weights[k], 0.0))}"
            for k in order
            if abs(moves[k]) > 5e-4
        ]
        told.append(
            f"The smallest shift of weights that brings {runner_up} level moves "
            f"{_share(decision.shift.moved)} of the weight"
            + (f": {', '.join(listed)}." if listed else ".")
        )
    return told


def _response(decision: Decision, names: Names, j: int) -> dict[str, Any]:
    return {
        "name": names.letter(j),
        "text": names.responses[j],
        "label": names.labels[j],
        "rank": decision.order.index(j) + 1,
        "reward_mean": float(decision.reward[j]),
        "reward_sd": float(decision.reward_sd[j]),
        "reward_sd_epistemic": float(decision.reward_epistemic_sd[j]),
        "p_best": float(decision.p_best[j]),
        "p_best_se": float(decision.p_best_se[j]),
        "scores": _by_objective(_row(decision.scores, j), names),
        **flags(decision.scores.mean[j], names.objectives, names.rating_ranges),
        "contributions_to_best": _by_objective(_row(decision.contributions, j), names),
    }


def _pair(pair: PairReasons, names: Names) -> dict[str, Any]:
    return {
        "first": names.letter(pair.first),
        "second": names.letter(pair.second),
        "delta_mean": pair.delta,
        "delta_sd": _sd(pair.ambiguity + pair.epistemic),
        "delta_sd_ambiguity": _sd(pair.ambiguity),
        "delta_sd_epistemic": _sd(pair.epistemic),
        "p_first_preferred": pair.p_preferred,
        "p_first_higher": pair.p_higher,
        "contributions": _by_objective(pair.contributions, names),
    }


def _flip(decision: Decision, names: Names) -> dict[str, Any]:
    shift = decision.shift
    runner_up = decision.order[1]
    return {
        "runner_up": names.letter(runner_up),
        "weights": None
        if shift is None
        else {
            "moved": shift.moved,
            "weights": dict(zip(names.objectives, shift.weights.tolist(), strict=True)),
        },
        "one_weight": [
            {
                "objective": names.objectives[item.objective],
                "direction": "more" if item.more else "less",
                "threshold": item.threshold,
                "now": float(decision.weights.mean[item.objective]),
                "sd": float(decision.weights.sd[item.objective]),
                "probability_beyond": beyond,
                "winner": names.letter(item.response),
            }
            for item, beyond in zip(decision.thresholds, decision.beyond, strict=True)
        ],
        "one_score": [
            {
                "objective": names.objectives[item.objective],
                "now": item.now,
                "sd": float(decision.scores.sd[runner_up, item.objective]),
                "needed": item.needed,
                "change_model_units": item.change,
            }
            for item in decision.score_changes
        ],
    }


def _by_objective(spread: Spread, names: Names, **more: Any) -> dict[str, dict[str, float]]:
    columns = {name: getattr(spread, name) for name in ("mean", "sd", "lower", "upper")} | more
    return {
        objective: {name: float(values[k]) for name, values in columns.items()}
        for k, objective in enumerate(names.objectives)
    }


def _row(spread: Spread, j: int) -> Spread:
    return Spread(spread.mean[j], spread.sd[j], spread.lower[j], spread.upper[j])


def _response_line(decision: Decision, names: Names, j: int) -> str:
    leader = decision.order[0]
    against = next(
        (p.p_preferred for p in decision.pairs if (p.first, p.second) == (leader, j)), None
    )
    reward = f"{decision.reward[j]:+.2f} +- {decision.reward_sd[j]:.2f}"
    label = f"[{names.labels[j]}] " if names.labels[j] else ""
    shown = "" if against is None else _share(against)
    start = (
        f"{names.letter(j):<3}{reward:>15}  {_share(decision.p_best[j]):>8}  {shown:>12}  {label}"
    )
    return start + _cut(names.responses[j], max(WIDTH - len(start), 20))


def _columns(
    title: str, columns: Sequence[tuple[str, list[str]]], names: Names, last: str | None = None
) -> list[str]:
    """Return a table of objectives in blocks of columns that fit the width."""
    rows = [*names.objectives, *([] if last is None else [last])]
    first = max(len(row) for row in rows)
    width = 2 + max(len(cell) for head, cells in columns for cell in (head, *cells))
    fit = max(1, (WIDTH - first) // width)
    lines = [title]
    for start in range(0, len(columns), fit):
        block = columns[start : start + fit]
        lines.append(" " * first + "".join(f"{head:>{width}}" for head, _ in block))
        lines += [
            f"{row:<{first}}" + "".join(f"{cells[i]:>{width}}" for _, cells in block)
            for i, row in enumerate(rows)
        ]
    return lines


def _cells(spread: Spread, digits: int) -> list[str]:
    return [
        f"{m:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        for m, low, high in zip(spread.mean, spread.lower, spread.upper, strict=True)
    ]


def _contribution_cells(pair: PairReasons) -> list[str]:
    parts = pair.contributions
    cells = [
        f"{m:+.2f} [{low:+.2f}, {high:+.2f}]"
        for m, low, high in zip(parts.mean, parts.lower, parts.upper, strict=True)
    ]
    return [*cells, f"{pair.delta:+.2f} +- {_sd(pair.ambiguity + pair.epistemic):.2f}"]


def _unit(names: Names) -> str:
    return "expected raw ratings" if names.score_unit == RATING else "model units"


def _list(parts: Spread, rows: Sequence[int], names: Names) -> str:
    return ", ".join(f"`{names.objectives[k]}` {_plus(parts.mean[k])}" for k in rows)


def _sd(variance: float) -> float:
    return float(max(variance, 0.0) ** 0.5)


def _share(value: float) -> str:
    """Return a number in [0, 1] with two digits; only exact 0 and 1 are shown as 0 and 1."""
    if 0 < value < 0.005:
        return "<.01"
    if 0.995 <= value < 1:
        return ">.99"
    return f"{value:.2f}".removeprefix("0") if value < 1 else "1"


def _apart(value: float, other: float) -> str:
    """Return a number with two to six digits, so that it differs from ``other``."""
    digits = next((d for d in range(2, 6) if f"{value:.{d}f}" != f"{other:.{d}f}"), 6)
    text = f"{value:.{digits}f}"
    return text.removeprefix("0") if 0 < value < 1 and text[0] == "0" else text


def _number(value: float) -> str:
    return f"{value:.2f}"


def _plus(value: float) -> str:
    """Return a number with its sign and two significant digits."""
    return f"{value:+.2f}" if abs(value) >= 0.1 or value == 0 else f"{value:+.2g}"


def _cut(text: str, width: int) -> str:
    """Return a text on one line, without control characters, cut to a width."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    plain = " ".join(plain.split())
    return plain if len(plain) <= width else plain[: width - 3] + "..."
