"""What a model with uncertainty says beside the official score of a benchmark."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.evaluation import RATES, entry
from vrm_pyro.diagnostics.metrics.length_baseline import length_baseline
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, cluster_mean, pair_metrics
from vrm_pyro.prediction.scorer import Scores

CONFIDENCES: Final = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
ALL: Final = "all"
# Of standard errors that need resampling, here one for each section: right to 7%.
_DRAWS: Final = 100


class PairTable(NamedTuple):
    """The comparisons of a benchmark, N of them; the better response is first.

    Attributes:
        pair: Index of each pair in the scores.
        first: Index of its better response.
        second: Index of its worse one.
        section: Section of each.
        weight: Weight of each; those of a case add up to 1.
        prompt: Prompt of each.
        lengths: Characters of each response, (R,).
    """

    pair: NDArray[np.int64]
    first: NDArray[np.int64]
    second: NDArray[np.int64]
    section: NDArray[np.str_]
    weight: NDArray[np.float64]
    prompt: NDArray[np.int64]
    lengths: NDArray[np.int64]


def beside(scores: Scores, pairs: PairTable, objectives: Sequence[str]) -> dict[str, Any]:
    """Return calibration, confidence, spread, weights and length effect, in all and by section.

    All of them describe the comparisons of a better with a worse response, each case with weight
    1. A probability is that of the better one.

    - ``accuracy``, ``log_loss``, ``brier``, ``ece``, ``accuracy_at_50``: as ``evaluate`` has them;
    - ``by_confidence``: for each confidence, the share of comparisons of which the model is at
      least so sure, and the accuracy on them;
    - ``delta_sd``, ``delta_sd_epistemic``: root mean variance of the reward difference;
    - ``ties``: share of comparisons whose expected reward difference is within one sd of 0;
    - ``weights``: mean weight of each objective over the prompts; None without weights;
    - ``length``: accuracy of "the longer one is better", accuracy where the better response is the
      longer and where it is the shorter one, and the correlation of reward difference with the
      difference of log lengths.
    """
    chosen = {ALL: np.arange(len(pairs.pair))}
    for name in dict.fromkeys(pairs.section.tolist()):
        chosen[name] = np.flatnonzero(pairs.section == name)
    return {name: _of_rows(scores, pairs, rows, objectives) for name, rows in chosen.items()}


def _of_rows(
    scores: Scores, pairs: PairTable, rows: NDArray[np.int64], objectives: Sequence[str]
) -> dict[str, Any]:
    index, weight, prompt = pairs.pair[rows], pairs.weight[rows], pairs.prompt[rows]
    p = scores.p_first[index].astype(np.float64)
    one = np.ones(len(rows))
    rates = pair_metrics(p, one, weight, prompt, _DRAWS)
    found: dict[str, Any] = {"n_pairs": len(rows), "n_prompts": rates.num_prompts}
    for name in RATES:
        found |= entry(name, getattr(rates, name))
    right = accuracy_values(p, one)
    confidence = np.maximum(p, 1 - p)
    found["by_confidence"] = [
        {
            "confidence": level,
            "coverage": float(weight[sure].sum() / weight.sum()),
            **entry("accuracy", cluster_mean(right[sure], weight[sure], prompt[sure])),
        }
        for level in CONFIDENCES
        for sure in (confidence >= level,)
    ]
    mean, ambiguity, epistemic = scores.delta[:, index].astype(np.float64)
    sd = np.sqrt(ambiguity + epistemic)
    found["delta_sd"] = float(np.sqrt(np.average(sd**2, weights=weight)))
    found["delta_sd_epistemic"] = float(np.sqrt(np.average(epistemic, weights=weight)))
    found |= entry("ties", cluster_mean((np.abs(mean) < sd).astype(float), weight, prompt))
    found["weights"] = _weights(scores, pairs.first[rows], prompt, objectives)
    found["length"] = _length(mean, right, pairs, rows)
    return found


def _weights(
    scores: Scores,
    first: NDArray[np.int64],
    prompt: NDArray[np.int64],
    objectives: Sequence[str],
) -> dict[str, float] | None:
    if scores.weights is None:
        return None
    _, once = np.unique(prompt, return_index=True)
    mean = scores.weights[first[once]].astype(np.float64).mean(0)
    return dict(zip(objectives, mean.tolist(), strict=True))


def _length(
    delta: NDArray[np.float64],
    right: NDArray[np.float64],
    pairs: PairTable,
    rows: NDArray[np.int64],
) -> dict[str, Any]:
    better, worse = pairs.lengths[pairs.first[rows]], pairs.lengths[pairs.second[rows]]
    weight, prompt = pairs.weight[rows], pairs.prompt[rows]
    rule = length_baseline(better, worse, np.ones(len(rows)), weight, prompt).longest
    found = entry("longest", rule)
    for name, held in (("longer", better > worse), ("shorter", better < worse)):
        accuracy = cluster_mean(right[held], weight[held], prompt[held])
        found |= entry(f"accuracy_where_better_is_{name}", accuracy)
    gap = np.log(better / worse)
    # In both orders: which response is first is a convention, so both means are 0.
    product = np.average(gap * delta, weights=weight)
    norm = np.average(gap**2, weights=weight) * np.average(delta**2, weights=weight)
    found["correlation"] = float(product / np.sqrt(norm)) if norm > 0 else None
    return found
