"""Check whether the preference labels are a function of the ratings (spec 1.1)."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.table import PreferenceTable

NOT_IDENTIFIED = (
    "labels are a function of ratings; objective weights are not identified by this data"
)
THRESHOLD = 0.99
# Means of equal ratings differ by rounding; steps of real ratings are far larger than this.
_TIE = 1e-9


class LabelCheck(NamedTuple):
    """Agreement of the labels with the sign of the mean rating difference.

    Attributes:
        share: Share of pairs with complete ratings whose label is that sign; NaN if none.
        num_pairs: Pairs with complete ratings: both responses rated, on the same objectives.
        num_ties: Pairs with equal mean ratings; they agree only with the label 0.5.
        share_untied: ``share`` among the other pairs; NaN if none.
        num_incomplete: Pairs left out because a response is unrated or rated on other objectives.
    """

    share: float
    num_pairs: int
    num_ties: int
    share_untied: float
    num_incomplete: int

    @property
    def is_function(self) -> bool:
        """Whether the labels are a function of the ratings: share above 99%."""
        return self.share > THRESHOLD


def check_label_identification(table: PreferenceTable) -> LabelCheck:
    """Test whether label == sign(mean rating difference), and warn if it nearly always holds.

    If it holds, uniform weights explain every label. Prompt-dependent weights then show only the
    prior, noise or leakage from the ratings, and a likelihood with labels and ratings counts the
    same evidence twice. The mean is over the objectives rated for both responses, which may
    differ between prompts. Source: spec 1.1.

    >>> from vrm_pyro.data.rows import load_table
    >>> ratings = {"chosen_ratings": {"a": 2, "b": 0}, "rejected_ratings": {"a": 1, "b": 3}}
    >>> table = load_table([{"prompt": "Hi", "chosen": "Hello", "rejected": "Go", **ratings}])
    >>> check = check_label_identification(table)
    >>> check.share, check.num_pairs, check.is_function  # the mean ratings prefer the other one
    (0.0, 1, False)

    Warns:
        UserWarning: In the words of spec 1.1.
    """
    first = table.ratings[table.pair_first]
    second = table.ratings[table.pair_second]
    rated = ~np.isnan(first)
    complete = (rated == ~np.isnan(second)).all(axis=1) & rated.any(axis=1)
    difference = np.where(rated[complete], first[complete] - second[complete], 0.0)
    mean = difference.sum(axis=1) / rated[complete].sum(axis=1)
    tied = np.abs(mean) < _TIE
    label = np.sign(table.preference[complete] - 0.5)
    agrees = label == np.where(tied, 0.0, np.sign(mean))
    check = LabelCheck(
        share=_share(agrees),
        num_pairs=int(complete.sum()),
        num_ties=int(tied.sum()),
        share_untied=_share(agrees[~tied]),
        num_incomplete=int((~complete).sum()),
    )
    if check.is_function:
        warnings.warn(NOT_IDENTIFIED, UserWarning, stacklevel=2)
    return check


def _share(agrees: NDArray[np.bool_]) -> float:
    return float(agrees.mean()) if len(agrees) else float("nan")
