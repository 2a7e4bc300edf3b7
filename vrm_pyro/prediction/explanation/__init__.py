"""Explain a preference: its reasons, its uncertainty and what would change it."""

from vrm_pyro.prediction.explanation.decision import (
    Decision,
    PairReasons,
    ScoreChange,
    Spread,
    decide,
)
from vrm_pyro.prediction.explanation.explain import Explanation, explain, explain_row
from vrm_pyro.prediction.explanation.flip import (
    WeightShift,
    WeightThreshold,
    score_changes,
    smallest_shift,
    weight_thresholds,
)

__all__ = [
    "Decision",
    "Explanation",
    "PairReasons",
    "ScoreChange",
    "Spread",
    "WeightShift",
    "WeightThreshold",
    "decide",
    "explain",
    "explain_row",
    "score_changes",
    "smallest_shift",
    "weight_thresholds",
]
