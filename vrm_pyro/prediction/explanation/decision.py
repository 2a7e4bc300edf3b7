"""Compute why one response is preferred to others, as numbers with uncertainty."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import OPTIONAL_COLUMNS, FeatureSource, replace_parts
from vrm_pyro.errors import InputError
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.predictive import ResponsePrediction
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.explanation.flip import (
    WeightShift,
    WeightThreshold,
    score_changes,
    smallest_shift,
    weight_thresholds,
)
from vrm_pyro.prediction.reward_draws import LatentDraws, latent_draws

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Spread:
    """Mean, standard deviation and central interval of quantities, each of shape (...).

    Args:
        mean: Expected values.
        sd: Standard deviations.
        lower: Lower ends of the intervals, from joint draws.
        upper: Upper ends of the intervals.
    """

    mean: Floats
    sd: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class PairReasons:
    """Why ``first`` has a higher expected reward than ``second``.

    Source: spec 2.3 (the sum over objectives), 2.9 (both variances).

    Args:
        first: Index of the response with the higher expected reward.
        second: Index of the other response.
        delta: E[r_first - r_second], in reward units.
        ambiguity: Variance of the difference due to w and z, given the parameters.
        epistemic: Variance of its mean over the posterior of the parameters and over members of
            an ensemble; 0 without either.
        p_preferred: Probability that a label prefers the first, label randomness included.
        p_higher: Share of joint draws in which the first has the higher reward.
        contributions: beta w_k (s_first,k - s_second,k), (K,); the means add up to ``delta``.
    """

    first: int
    second: int
    delta: float
    ambiguity: float
    epistemic: float
    p_preferred: float
    p_higher: float
    contributions: Spread


@dataclass(frozen=True)
class ScoreChange:
    """The value that one score of the runner-up needs for a tie with the leader.

    Args:
        objective: Index k of the objective.
        now: Current score, in the unit of :attr:`Decision.scores`.
        needed: Score that gives a tie, in the same unit.
        change: Required rise in model units.
    """

    objective: int
    now: float
    needed: float
    change: float


@dataclass(frozen=True)
class Decision:
    """All numbers that explain the order of R responses to one prompt.

    Source: spec 2.3 (rewards as sums over objectives), 2.9 (predictions and their variances).

    Args:
        order: Indices of responses by expected reward, the best first.
        reward: Mean reward of each response, (R,); comparable within the prompt only.
        reward_sd: Standard deviation of each reward, (R,).
        reward_epistemic_sd: Its epistemic part: standard deviation of E[r | parameters], (R,).
        weights: w of the prompt, (K,).
        weights_epistemic_sd: Standard deviation of E[w | parameters], (K,).
        scores: s, (R, K): expected raw ratings if the model learned scores from ratings, else in
            model units.
        contributions: beta w_k (s_jk - s_best,k) of each response j against the best, (R, K).
        p_best: Probability that a response has the highest reward, (R,), from joint draws in
            which all responses share w (and the parameters).
        p_best_se: Monte Carlo standard error of ``p_best``, (R,).
        pairs: All pairs of responses, in the order of expected rewards.
        shift: The smallest shift of weights that makes the runner-up the best; None if there is
            none.
        thresholds: Values of one weight at which the lead changes, the nearest first.
        beyond: Probability that w_k lies beyond each threshold.
        score_changes: For each objective with weight, the score that the runner-up would need.
        level: Coverage probability of the intervals.
        num_draws: Number of joint draws behind intervals and probabilities.
    """

    order: tuple[int, ...]
    reward: Floats
    reward_sd: Floats
    reward_epistemic_sd: Floats
    weights: Spread
    weights_epistemic_sd: Floats
    scores: Spread
    contributions: Spread
    p_best: Floats
    p_best_se: Floats
    pairs: tuple[PairReasons, ...]
    shift: WeightShift | None
    thresholds: tuple[WeightThreshold, ...]
    beyond: tuple[float, ...]
    score_changes: tuple[ScoreChange, ...]
    level: float
    num_draws: int


def decide(
    model: RewardModel,
    source: FeatureSource,
    *,
    level: float = 0.9,
    num_draws: int = 4000,
    seed: int = 0,
) -> Decision:
    """Return the numbers that explain a model's order of responses to one prompt.

    Means, preference probabilities and everything about flips are deterministic: closed forms or
    quadrature. Intervals, ``p_higher`` and ``p_best`` come from draws that share w within the
    prompt.

    Args:
        model: A model with latent variables.
        source: States of one prompt and its responses; comparisons and ratings are ignored.
        level: Coverage probability of the intervals.
        num_draws: Number of joint draws.
        seed: Seed of the draws.

    Raises:
        InputError: If there are fewer than two responses: a reward has no meaning on its own.
        ValueError: If the source holds more than one prompt.
    """
    if source.prompts.shape[0] != 1:
        raise ValueError(f"decide: {source.prompts.shape[0]} prompts; give one at a time.")
    count = source.responses.shape[0]
    if count < 2:
        raise InputError(
            "one response has nothing to be compared with: rewards have no zero, only their "
            "differences within a prompt mean something. Give two responses or more."
        )
    pairs = np.array(list(itertools.combinations(range(count), 2)))
    half = {"preference": np.full(len(pairs), 0.5), "pair_weight": np.ones(len(pairs))}
    source = replace_parts(
        source,
        pair_first=pairs[:, 0],
        pair_second=pairs[:, 1],
        **half,
        **dict.fromkeys(OPTIONAL_COLUMNS),
    )
    with evaluation_mode(model) as device:
        batch = PromptDataset(source).batch().to(device)
        found = model.predict_responses(batch)
        each = [member.predict_responses(batch) for member in model.members]
        preferred = _array(model.predict_pairs(batch))
        uncertain = model.pair_uncertainty(batch)
        draws = latent_draws(model, batch, num_draws, torch.Generator().manual_seed(seed))
        parts = contributions(model, batch)
        assert found.score_mean is not None
        assert found.score_sd is not None
        scores = model.in_rating_unit(found.score_mean, found.score_sd)
        drawn_scores = model.drawn_in_rating_unit(draws.scores)
    summary = _Summary(model, draws, parts.parts, level)
    # Sum the contributions, so that the table adds up; equal to E[Delta] up to float32 rounding.
    reward = _array(parts.parts.sum(-1))
    order = np.argsort(-reward, kind="stable")
    rank = np.argsort(order)
    reasons = []
    for n, (i, j) in enumerate(pairs.tolist()):
        first, second = (i, j) if rank[i] < rank[j] else (j, i)
        sign = 1 if first == i else -1
        reasons.append(
            PairReasons(
                first,
                second,
                float(reward[first] - reward[second]),
                float(uncertain.ambiguity[n]),
                float(uncertain.epistemic[n]),
                float(preferred[n] if sign > 0 else 1 - preferred[n]),
                summary.p_higher(first, second),
                summary.between(np.array([first]), second, squeeze=True),
            )
        )
    weights = _spread(parts.weights[0], draws.weights[:, 0], level, parts.weights_sd[0])
    slopes, leverage = _array(parts.slopes), _array(parts.leverage[0])
    leader, runner_up = int(order[0]), int(order[1])
    simplex = weights.mean / weights.mean.sum()
    thresholds = weight_thresholds(simplex, slopes, reward)
    p_best, error = summary.p_best()
    return Decision(
        order=tuple(order.tolist()),
        reward=reward,
        reward_sd=_array(found.reward.variance) ** 0.5,
        reward_epistemic_sd=_array(found.reward.epistemic) ** 0.5,
        weights=weights,
        weights_epistemic_sd=_array(parts.weights_epistemic[0]),
        scores=_spread(scores[0], drawn_scores, level, scores[1]),
        contributions=summary.between(np.arange(count), leader),
        p_best=p_best,
        p_best_se=error,
        pairs=tuple(sorted(reasons, key=lambda pair: (rank[pair.first], rank[pair.second]))),
        shift=smallest_shift(simplex, slopes, reward, runner_up),
        thresholds=tuple(thresholds),
        beyond=tuple(summary.beyond(thresholds)),
        score_changes=_score_changes(
            model,
            each,
            runner_up,
            score_changes(leverage, float(reward[leader] - reward[runner_up])),
        ),
        level=level,
        num_draws=num_draws,
    )


class _Summary:
    """Joint draws of one prompt, which give probabilities and intervals."""

    def __init__(
        self, model: RewardModel, draws: LatentDraws, parts: Tensor, level: float
    ) -> None:
        self.weights = _array(draws.weights[:, 0])
        self.parts = _array(draws.contributions)
        self.rewards = self.parts.sum(-1)
        self.expected, self.level = _array(parts), level
        # Members of an ensemble are fixed, and all in the draws; drawn parameters are random.
        drawn = any(member.num_parameter_draws for member in model.members)
        self.heads = min(model.num_parameter_draws, len(self.rewards)) if drawn else 0

    def p_higher(self, first: int, second: int) -> float:
        gap = self.rewards[:, first] - self.rewards[:, second]
        return float((gap > 0).mean() + (gap == 0).mean() / 2)

    def p_best(self) -> tuple[Floats, Floats]:
        """Return the share of draws in which each response is best, and its error; split ties."""
        best = self.rewards == self.rewards.max(1, keepdims=True)
        share = best / best.sum(1, keepdims=True)
        mean = share.mean(0)
        if self.heads > 1:  # draws of the same parameters are not independent
            by_head = np.stack([share[i :: self.heads].mean(0) for i in range(self.heads)])
            return mean, by_head.std(0, ddof=1) / self.heads**0.5
        return mean, share.std(0) / len(share) ** 0.5

    def between(self, responses: NDArray[Any], other: int, squeeze: bool = False) -> Spread:
        """Return the contributions of some responses minus those of another, (n, K) or (K,)."""
        drawn = self.parts[:, responses] - self.parts[:, [other]]
        mean = self.expected[responses] - self.expected[[other]]
        if squeeze:
            drawn, mean = drawn[:, 0], mean[0]
        return _spread(mean, drawn, self.level)

    def beyond(self, thresholds: Sequence[WeightThreshold]) -> list[float]:
        found = []
        for item in thresholds:
            w = self.weights[:, item.objective]
            side = w > item.threshold if item.more else w < item.threshold
            found.append(float(side.mean()))
        return found


def _spread(mean: Any, draws: Any, level: float, sd: Any = None) -> Spread:
    drawn = _array(draws)
    lower, upper = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return Spread(_array(mean), drawn.std(0) if sd is None else _array(sd), lower, upper)


def _score_changes(
    model: RewardModel, each: Sequence[ResponsePrediction], response: int, change: Floats
) -> tuple[ScoreChange, ...]:
    """Return scores of a response now and after a rise, the mean over the members' predictions."""
    rise = torch.from_numpy(np.where(np.isfinite(change), change, 0.0))
    now, needed = np.zeros(len(change)), np.zeros(len(change))
    with evaluation_mode(model):
        for m, member in enumerate(model.members):
            scores = each[m].score_mean, each[m].score_sd
            mean, sd = (part[[response]] for part in scores if part is not None)
            order = model.aligned(m, torch.arange(len(rise)).to(mean))
            for total, higher in ((now, torch.zeros_like(rise)), (needed, rise)):
                # The rise is by objective in the model's order, the scores are in the member's.
                moved = torch.empty_like(rise)
                moved[order.long()] = higher
                rated = member.in_rating_unit(mean + moved.to(mean), sd)[0][0]
                total += _array(model.aligned(m, rated)) / len(each)
    found = [
        ScoreChange(k, float(now[k]), float(needed[k]), float(change[k]))
        for k in np.argsort(change, kind="stable").tolist()
        if np.isfinite(change[k])
    ]
    return tuple(found)


def _array(values: Any) -> Floats:
    if isinstance(values, Tensor):
        return values.detach().double().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
