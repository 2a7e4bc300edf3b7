"""Scoring responses: from text, from backbone states, and as lines of a file."""

from vrm_pyro.scorer.lines import table_lines, write_scores
from vrm_pyro.scorer.numbers import Scores, score_source
from vrm_pyro.scorer.text import Scorer, backbone_of

__all__ = ["Scorer", "Scores", "backbone_of", "score_source", "table_lines", "write_scores"]
