"""Scoring responses: from text, from backbone states, and as lines of a file."""

from vrm_pyro.prediction.scorer.lines import table_lines, write_scores
from vrm_pyro.prediction.scorer.scorer import Scorer, backbone_of
from vrm_pyro.prediction.scorer.scores import Scores, score_source

__all__ = ["Scorer", "Scores", "backbone_of", "score_source", "table_lines", "write_scores"]
