"""Check whether the preference labels are a function of the ratings (spec 1.1)."""

import math
import warnings
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.table import PreferenceTable

NOT_IDENTIFIED = (
    "labels are a function of ratings; objective weights are not identified by this data"
)
THRESHOLD = 0.99
FEWEST: Final = 50
"""Least number of pairs that a single objective is judged by."""
# Means of equal ratings differ by rounding; steps of real ratings are far larger than this.
_TIE = 1e-9


class LabelCheck(NamedTuple):
    """Agreement of the labels with the sign of a rating difference.

    Attributes:
        share: Share of pairs with complete ratings whose label is that sign; NaN if none.
        num_pairs: Pairs with complete ratings: both responses rated, on the same objectives.
        num_ties: Pairs with equal mean ratings; they agree only with the label 0.5.
        share_untied: ``share`` among the other pairs; NaN if none.
        num_incomplete: Pairs left out because a response is unrated or rated on other objectives.
        objective: The single objective, such as an overall rating, whose ratings' sign the labels
            are; None if there is none, or the labels follow the mean.
        objective_share: Share of the pairs rated on it whose label is that sign; NaN if none.
    """

    share: float
    num_pairs: int
    num_ties: int
    share_untied: float
    num_incomplete: int
    objective: str | None = None
    objective_share: float = math.nan

    @property
    def is_function(self) -> bool:
        """Whether the labels are a function of the ratings: a share above 99%."""
        return self.share > THRESHOLD or self.objective is not None

    @property
    def finding(self) -> str:
        """What was counted, in words."""
        if self.objective is None:
            return f"label = sign of the mean rating difference in {self.share:.1%}"
        return f"label = sign of the difference in {self.objective} in {self.objective_share:.1%}"

    def identified(self, objectives: Sequence[str]) -> str:
        """Return what labels and ratings identify together, where labels follow ratings.

        >>> check = LabelCheck(0.86, 3171, 47, 0.88, 7, "overall", 1.0)
        >>> check.identified(["clarity", "style"])[:58]
        'Identified are the scores, by their ratings, and weights: '

        Args:
            objectives: Rated objectives that the model uses.
        """
        scores = "Identified are the scores, by their ratings"
        if self.objective is None:
            return (
                f"{scores}. Equal weights explain every label: other weights show the prior, "
                "noise or double counting."
            )
        if self.objective not in objectives:
            return (
                f"{scores}, and weights: they say how {self.objective} follows from the "
                f"objectives used, as far as their scores differ. The ratings of {self.objective} "
                "say more than their sign; model.objectives can name it, too."
            )
        return (
            f"{scores}, also by how much {self.objective} differs, which labels do not say. "
            f"Weights are not: all weight on {self.objective} explains every label, and its "
            "ratings and the labels count the same evidence twice. Without it in "
            "model.objectives, weights say how it follows from the others."
        )


def check_label_identification(table: PreferenceTable) -> LabelCheck:
    """Test whether label == sign(rating difference), and warn if it nearly always holds.

    The difference is that of the mean rating; else that of a single objective, such as an overall
    rating, that at least half of the rated pairs are rated on.

    If it holds for the mean, uniform weights explain every label. Prompt-dependent weights then
    show only the prior, noise or leakage from the ratings, and a likelihood with labels and
    ratings counts the same evidence twice. The mean is over the objectives rated for both
    responses, which may differ between prompts. :meth:`LabelCheck.identified` says what is left
    in either case.
    Source: spec 1.1.

    >>> from vrm_pyro.data.rows import load_table
    >>> ratings = {"chosen_ratings": {"a": 2, "b": 0}, "rejected_ratings": {"a": 1, "b": 3}}
    >>> table = load_table([{"prompt": "Hi", "chosen": "Hello", "rejected": "Go", **ratings}])
    >>> check = check_label_identification(table)
    >>> check.share, check.num_pairs, check.is_function  # the mean ratings prefer the other one
    (0.0, 1, False)

    Warns:
        UserWarning: In the words of spec 1.1; with the name of a single objective.
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
    check = check._replace(**_single(table))
    if check.is_function:
        warnings.warn(
            f"labels are the sign of the ratings of {check.objective}; with it among the "
            "objectives, objective weights are not identified by this data",
            UserWarning,
            stacklevel=2,
        )
    return check


def _single(table: PreferenceTable) -> dict[str, Any]:
    """Return the objective whose ratings' sign the labels are, and its share; else nothing."""
    gap = table.ratings[table.pair_first] - table.ratings[table.pair_second]
    rated = ~np.isnan(gap)
    sign = np.where(np.abs(gap) < _TIE, 0.0, np.sign(gap))
    agrees = (sign == np.sign(table.preference - 0.5)[:, None]) & rated
    count = rated.sum(0)
    enough = count >= max(FEWEST, rated.any(1).sum() / 2)
    share = np.where(enough, agrees.sum(0) / np.maximum(count, 1), 0.0)
    if share.max(initial=0.0) <= THRESHOLD:
        return {}
    best = int(share.argmax())
    return {"objective": table.objectives[best], "objective_share": float(share[best])}


def _share(agrees: NDArray[np.bool_]) -> float:
    return float(agrees.mean()) if len(agrees) else float("nan")
