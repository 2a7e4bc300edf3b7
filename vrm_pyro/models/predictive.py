"""Predictions on new text: closed-form moments and integrated preference probabilities."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

import torch
import torch.distributions as dist
from jaxtyping import Float, Int
from pyro.distributions import Delta
from torch import Tensor

from vrm_pyro.models.distributions import Gaussian, as_gaussian
from vrm_pyro.models.distributions.linear_moments import controlled_mean, linear_moments
from vrm_pyro.models.distributions.simplex import NUM_DRAWS, NodeReader, node_reader
from vrm_pyro.models.likelihoods import hermite_nodes
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.ratings import RatingValues
from vrm_pyro.models.reward import (
    Moments,
    RewardParameters,
    delta_over_nodes,
    mixed_moments,
    score_gap,
)

#: Half a step of float32 at 1: no float32 probability below 1 is nearer to it. The twin of
#: ``diagnostics.metrics.pair_metrics.PROBABILITY_FLOOR``, which needs no torch.
PROBABILITY_FLOOR: Final = 2.0**-24

# Of the nodes of w, how many have z integrated exactly; the others correct the mean over w.
_NUM_EXACT: Final = 96
# Pairs times nodes of a block: on a CPU, what is computed of them stays in the cache.
_CPU_BLOCK: Final = 2**16
_BLOCK: Final = 2**24


@dataclass(frozen=True)
class ResponsePrediction:
    """Predictions for single responses (spec 2.9).

    Args:
        reward: Moments of the reward, each (R,).
        weight_mean: E[w | prompt], shape (R, K); None for a model without weights.
        score_mean: E[s | prompt, response], shape (R, K), in standardised rating units.
        score_sd: Standard deviation of s, shape (R, K).
    """

    reward: Moments
    weight_mean: Float[Tensor, "responses objectives"] | None = None
    score_mean: Float[Tensor, "responses objectives"] | None = None
    score_sd: Float[Tensor, "responses objectives"] | None = None


def mixed_predictions(draws: Sequence[ResponsePrediction]) -> ResponsePrediction:
    """Return the prediction over equally likely parameters: moments by total variance.

    Args:
        draws: Predictions of a model with weights at each of M values of its parameters.
    """
    if len(draws) == 1:
        return draws[0]
    weights, scores, sds = (
        torch.stack([getattr(draw, name) for draw in draws])
        for name in ("weight_mean", "score_mean", "score_sd")
    )
    variance = (sds**2).mean(0) + scores.var(0)
    moments = mixed_moments([draw.reward for draw in draws])
    return ResponsePrediction(moments, weights.mean(0), scores.mean(0), variance.sqrt())


def preference_probability(
    weights: dist.Distribution,
    features: dist.Distribution | Gaussian,
    pairs: tuple[Int[Tensor, " pairs"], Int[Tensor, " pairs"], Int[Tensor, " pairs"]],
    reward: RewardParameters,
    likelihood: PreferenceLikelihood,
    num_draws: int | None = None,
    extra_variance: Float[Tensor, "pairs features"] | None = None,
) -> Float[Tensor, " pairs"]:
    """Return p(first preferred) with w and z integrated out (spec 2.9).

    The mean over nodes of w of the expectation over Delta given w. Never sigmoid(E Delta), which
    is overconfident.

    Args:
        weights: Distribution of w, batch (P,).
        features: Distribution of z, Gaussian, batch (R,).
        pairs: Prompt row, first and second response row of every pair, each (N,).
        reward: Parameters of the reward function.
        likelihood: Preference likelihood.
        num_draws: Nodes of w; :func:`num_nodes` if omitted.
        extra_variance: Variance of z_first - z_second beside that of ``features``, such as from
            parameters that both responses share.
    """
    prompt, first, second = pairs
    gaussian = features if isinstance(features, Gaussian) else as_gaussian(features)
    num_draws = num_draws or num_nodes(weights)
    nodes = node_reader(weights, num_draws)
    one, other = gaussian.rows(first), gaussian.rows(second)
    if extra_variance is not None:
        one = one.widened(extra_variance)
    return probability_over_nodes(
        weights, nodes, num_draws, prompt, (one, other), reward, likelihood
    )


def num_nodes(weights: dist.Distribution) -> int:
    """Return how many nodes of w a probability takes: 1024, but one of a point."""
    return 1 if isinstance(weights, Delta) else NUM_DRAWS


def probability_over_nodes(
    distribution: dist.Distribution,
    nodes: NodeReader,
    num_draws: int,
    prompt: Int[Tensor, " pairs"],
    features: tuple[Gaussian, Gaussian],
    reward: RewardParameters,
    likelihood: PreferenceLikelihood,
) -> Float[Tensor, " pairs"]:
    """Return p(first preferred), the mean over nodes of w with z integrated out (spec 2.9).

    z is integrated exactly at the first 96 nodes alone. At all of them p(E Delta / sqrt(1 + c Var
    Delta)) stands in for it; the logit of its mean is corrected by the difference of the logits
    that both have over the 96. That difference varies little with w, and its mean needs few nodes.
    Powers of E Delta are control variates of the mean of the stand-in, where the family of w has
    their moments.

    Args:
        distribution: Distribution of w, batch (P,).
        nodes: Nodes of w of some prompts, of which any first ones are spread as all are.
        num_draws: Their number S.
        prompt: Prompt row of every pair.
        features: Distributions of z of the first and of the second responses, N rows each.
        reward: Parameters of the reward function.
        likelihood: Preference likelihood.
    """
    found = []
    size = max(1, (_CPU_BLOCK if prompt.device.type == "cpu" else _BLOCK) // num_draws)
    for rows in torch.arange(len(prompt), device=prompt.device).split(size):
        owners, place = prompt[rows].unique(return_inverse=True)
        weights = nodes(owners).movedim(0, -1)  # (prompts, K, S)
        if len(owners) < len(rows) or not prompt[rows].equal(owners):
            weights = weights[place]
        one, other = (part.rows(rows) for part in features)
        mean, variance = delta_over_nodes(weights, one, other, reward)
        few = mean[:, :_NUM_EXACT], variance[:, :_NUM_EXACT]
        exact = likelihood.expected_probability(*few).mean(-1)
        if num_draws > _NUM_EXACT:
            near = likelihood.probability(mean * torch.rsqrt(1 + likelihood.flattening * variance))
            # Before label noise, in which a label's probability is linear.
            gap = score_gap(one, other, reward)
            moments = linear_moments(distribution, prompt[rows], gap)
            over_all = near.mean(-1) if moments is None else controlled_mean(near, mean, moments)
            means = over_all, near[:, :_NUM_EXACT].mean(-1), exact
            every, same, known = (_logit(likelihood.without_lapse(mean)) for mean in means)
            exact = likelihood.with_lapse(torch.sigmoid(known + every - same))
        found.append(exact)
    return torch.cat(found)


def _logit(probability: Tensor) -> Tensor:
    """Return the logit, finite where rounding leaves 0 or 1."""
    limits = torch.finfo(probability.dtype)
    return torch.logit(probability.clamp(limits.tiny, 1 - limits.eps / 2))


def log_loss_values(
    probability: Float[Tensor, "*shape"], preference: Float[Tensor, "*shape"]
) -> Float[Tensor, "*shape"]:
    """Return -c log p - (1 - c) log(1 - p) in nats, elementwise, in the dtype of ``probability``.

    Probabilities are kept 2^-24 away from 0 and 1, where float32 cannot tell them apart. The
    numpy twin is ``diagnostics.metrics.pair_metrics.log_loss_values``.

    >>> log_loss_values(torch.tensor([0.5, 1.0]), torch.tensor([1.0, 0.0]))
    tensor([ 0.6931, 16.6355])
    """
    p = probability.clamp(PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)
    return -preference * p.log() - (1 - preference) * torch.log1p(-p)


def rating_moments(
    ratings: RatingValues,
    loc: Float[Tensor, "responses objectives"],
    scale: Float[Tensor, "responses objectives"],
) -> tuple[Float[Tensor, "responses objectives"], Float[Tensor, "responses objectives"]]:
    """Return mean and sd of the expected rating E[y | s] over s ~ N(loc, scale^2), elementwise.

    By Gauss-Hermite; exact where E[y | s] is linear in s, as for Gaussian ratings. What is left
    of a single rating's own noise is not part of the sd.

    Args:
        ratings: Rating likelihood.
        loc: Mean of the scores.
        scale: Their standard deviations.
    """
    nodes, mass = hermite_nodes(loc)
    scores = loc.unsqueeze(0) + scale.unsqueeze(0) * nodes.reshape(-1, 1, 1)
    value = ratings.mean(scores)
    mass = mass.reshape(-1, 1, 1)
    mean = (mass * value).sum(0)
    return mean, (mass * (value - mean) ** 2).sum(0).sqrt()


def count_active(mean: Float[Tensor, "rows units"], threshold: float) -> int:
    """Return how many units have a predictive mean whose variance over rows is above a threshold.

    Args:
        mean: E[unit | text].
        threshold: Smallest variance that counts.
    """
    if mean.shape[0] < 2:
        return 0
    return int((mean.var(0) > threshold).sum())


class PairUncertainty(NamedTuple):
    """Mean and variance of Delta = r_first - r_second, the variance split by source.

    Source: spec 2.2, 2.9.

    Attributes:
        mean: E[Delta], in reward units, shape (N,).
        ambiguity: E[Var(Delta | parameters)], in squared reward units, shape (N,): what the
            latents of this item leave open. More training data do not take it away.
        epistemic: Var(E[Delta | parameters]), likewise, shape (N,): what the training data leave
            open about the parameters.
    """

    mean: Float[Tensor, " pairs"]
    ambiguity: Float[Tensor, " pairs"]
    epistemic: Float[Tensor, " pairs"]

    @property
    def total(self) -> Float[Tensor, " pairs"]:
        """Var(Delta), shape (N,): the sum of both, by the law of total variance."""
        return self.ambiguity + self.epistemic
