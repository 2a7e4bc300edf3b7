"""Lines of a score file: one for each response of each row."""

import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from vrm_pyro.atomic import write_file
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.prediction.rating_range import Ranges, flags
from vrm_pyro.prediction.scorer.scores import Scores


def entry(
    scores: Scores, objectives: Sequence[str], j: int, ranges: Ranges | None = None
) -> dict[str, Any]:
    """Return what is said of response ``j``, numbers with the digits float32 has.

    Where the ranges of the training ratings are known, ``scores_outside_ratings`` lists the
    objectives whose score is outside, with their range.
    """
    named = {}
    for key in ("weights", "scores", "scores_sd"):
        values = getattr(scores, key)
        pairs = () if values is None else zip(objectives, values[j], strict=True)
        named[key] = {name: short(value) for name, value in pairs}
    return {
        "reward_mean": short(scores.reward[j]),
        "reward_sd": short(np.sqrt(scores.variance[j])),
        "variance_from_weights": short(scores.from_weights[j]),
        "variance_from_features": short(scores.from_features[j]),
        "variance_interaction": short(scores.interaction[j]),
        "variance_epistemic": short(scores.epistemic[j]),
        **named,
        **({} if scores.scores is None else flags(scores.scores[j], objectives, ranges or {})),
    }


def table_lines(
    scores: Scores,
    table: PreferenceTable,
    objectives: Sequence[str],
    ranges: Ranges | None = None,
) -> Iterator[dict[str, Any]]:
    """Yield a line for each response of each row.

    Lines come in the order of the rows; equal rows and responses have lines of their own. A
    comparison gives two lines with its ``id``: ``response_index`` 0 is the one called chosen, 1
    the other, and both carry ``p_chosen``, the probability that the first is preferred, and
    the two parts of the variance of the reward difference; with the likelihood ``Lapse`` also
    ``p_chosen_without_lapse``, the probability of the label before label noise. A single
    response gives one line with ``response_index`` 0, and a row of several ``responses`` without
    ``ranks`` a line for each, ``response_index`` its place. A row without an id is called
    ``pair-7`` or ``response-7`` by its position in the input. A table that does not know its
    rows, such as that of a feature store, gives comparisons first and each single response once.

    Args:
        scores: Scores of all responses and pairs of the table.
        table: The rows.
        objectives: Names of the objectives.
        ranges: Ranges of the training ratings, as far as they are known: :func:`entry`.
    """
    order = table.row_order
    for item, (name, n) in enumerate(zip(order.names, order.pair.tolist(), strict=True)):
        if n < 0:
            said = entry(scores, objectives, int(order.response[item]), ranges)
            yield {"id": name, "response_index": int(order.index[item]), **said}
            continue
        clean = {}
        if scores.p_without_lapse is not None:
            clean["p_chosen_without_lapse"] = short(scores.p_without_lapse[n])
        for index, j in enumerate((int(table.pair_first[n]), int(table.pair_second[n]))):
            yield {
                "id": name,
                "response_index": index,
                **entry(scores, objectives, j, ranges),
                "p_chosen": short(scores.p_first[n]),
                **clean,
                "delta_variance_ambiguity": short(scores.delta[1, n]),
                "delta_variance_epistemic": short(scores.delta[2, n]),
            }


def write_scores(lines: Iterable[Mapping[str, Any]], path: str | os.PathLike[str]) -> int:
    """Write lines as JSONL, whole or not at all, and return how many there are.

    Raises:
        InputError: If the file cannot be written there.
    """
    count = 0
    with write_file(path) as partial, open(partial, "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n")
            count += 1
    return count


def short(value: Any) -> float:
    """Return a float32 number with the digits it has; a double would print noise after them.

    >>> float(np.float32(0.1)), short(np.float32(0.1))
    (0.10000000149011612, 0.1)
    """
    return float(f"{float(value):.7g}")
