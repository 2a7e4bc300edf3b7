"""Ensembles of variational reward models."""

from collections.abc import Callable, Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.networks import Standardize
from vrm_pyro.models.predictive import (
    PairUncertainty,
    ResponsePrediction,
    mixed_predictions,
    rating_moments,
)
from vrm_pyro.models.reward_model import ByObjective, MixturePart, RewardModel, interleaved
from vrm_pyro.models.vrm import VRM


class VRMEnsemble(RewardModel):
    """M variational reward models with their own starts and draws, equally likely a priori.

    Source: spec 2.9. Everything that it predicts is the equal mixture of what its members
    predict: probabilities are means, variances follow the law of total variance. Members train
    side by side on the same batches, each on its own objective; they share standardisation,
    gradient clipping and the epoch that validation selects.

    *Levels.* Members' rewards are not aligned: only differences within a prompt have meaning, and
    a mixture of differences does not depend on levels. As with a Bayesian head, the epistemic
    variance of a single reward includes that of its level.

    *Scores.* With ratings on scores, the scores of the ensemble are the members' expected
    standardised ratings, since each member has its own rating model; else model units.

    *Objectives.* Ratings give objectives one meaning in all members. Objectives without ratings
    have no order of their own: ``order`` matches them to those of the first member, and training
    sets it (``align_members``).

    Args:
        members: The models, of one shape.
    """

    order: Tensor

    def __init__(self, members: Sequence[VRM]) -> None:
        super().__init__()
        self.member = nn.ModuleList(members)
        first = members[0]
        self.num_objectives, self.latent_dim = first.num_objectives, first.latent_dim
        self.weights_follow_prompt = first.weights_follow_prompt
        #: Objective of each member that stands in place k, shape (M, K).
        order = torch.arange(self.num_objectives).repeat(len(members), 1)
        self.register_buffer("order", order)

    @property
    def members(self) -> tuple[VRM, ...]:
        """The M models."""
        return tuple(member for member in self.member if isinstance(member, VRM))

    @property
    def response_scaler(self) -> Standardize:  # type: ignore[override]
        """Standardisation of responses, the same in all members."""
        return self.members[0].response_scaler

    @property
    def likelihood(self) -> PreferenceLikelihood:  # type: ignore[override]
        """The first member's likelihood: all are of one kind."""
        return self.members[0].likelihood

    @property
    def num_parameter_draws(self) -> int:
        """Number of fixed values of the parameters that a prediction averages."""
        return len(self.members) * self.members[0].num_parameter_draws

    @property
    def scores_are_ratings(self) -> bool:
        """Whether scores are expected ratings."""
        return self.members[0].scores_are_ratings

    @property
    def rating_unit(self) -> tuple[float, float]:
        """Location and scale of ratings: raw = standardised * scale + location."""
        return self.members[0].rating_unit

    def set_rating_unit(self, loc: float, scale: float) -> None:
        """Store the unit of all ratings in every member."""
        for member in self.members:
            member.set_rating_unit(loc, scale)

    def in_rating_unit(
        self, mean: ByObjective, sd: ByObjective
    ) -> tuple[ByObjective, ByObjective]:
        """Return mean and sd of scores as raw ratings; scores are standardised ratings."""
        loc, scale = self.rating_unit
        return (mean * scale + loc, sd * scale) if self.scores_are_ratings else (mean, sd)

    def drawn_in_rating_unit(
        self, scores: Float[Tensor, "draws responses objectives"]
    ) -> Float[Tensor, "draws responses objectives"]:
        """Return draws of scores as raw ratings; as they are without ratings."""
        loc, scale = self.rating_unit
        return scores * scale + loc if self.scores_are_ratings else scores

    def aligned(
        self, member: int, values: Float[Tensor, "*rows objectives"]
    ) -> Float[Tensor, "*rows objectives"]:
        """Return a member's values by objective in the ensemble's order."""
        return values[..., self.order[member]]

    def without_lapse(self, probability: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Return the probability before label noise, the mean over members' rates of it."""
        found = [member.likelihood.without_lapse(probability) for member in self.members]
        return torch.stack(found).mean(0)

    def predict_pairs(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return p(first preferred) on new text, the mean over members."""
        return torch.stack([member.predict_pairs(batch) for member in self.members]).mean(0)

    def assess_pairs(self, batch: FeatureBatch) -> tuple[Float[Tensor, " pairs"], PairUncertainty]:
        """Return what :meth:`predict_pairs` and :meth:`pair_uncertainty` do."""
        chances, found = zip(*(m.assess_pairs(batch) for m in self.members), strict=True)
        return torch.stack(chances).mean(0), _mixed(found)

    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return moments of reward and scores by the law of total variance, and mean weights."""
        found = [self._prediction(m, batch) for m in range(len(self.members))]
        return mixed_predictions(found)

    def _prediction(self, member: int, batch: FeatureBatch) -> ResponsePrediction:
        model = self.members[member]
        found = model.predict_responses(batch)
        weights, mean, sd = found.weight_mean, found.score_mean, found.score_sd
        assert weights is not None
        assert mean is not None
        assert sd is not None
        if model.ratings is not None:
            mean, sd = rating_moments(model.ratings(), mean, sd)
        values = (self.aligned(member, part) for part in (weights, mean, sd))
        return ResponsePrediction(found.reward, *values)

    def pair_uncertainty(self, batch: FeatureBatch) -> PairUncertainty:
        """Return mean and variance of Delta, each (N,).

        Epistemic is the variance of the members' means (divisor M - 1) plus the mean of the
        members' own epistemic part, which a Bayesian head gives them.
        """
        return _mixed([member.pair_uncertainty(batch) for member in self.members])

    def draw_rewards(
        self, batch: FeatureBatch, num_draws: int, streams: TextStreams
    ) -> Float[Tensor, "draws responses"]:
        """Return joint draws of the rewards; all responses share the member of a draw."""

        def rewards_of(member: int, count: int) -> tuple[Tensor]:
            return (self.members[member].draw_rewards(batch, count, streams),)

        return self.draws_over_members(streams.head, rewards_of, num_draws)[0]

    def draws_over_members(
        self,
        stream: torch.Generator,
        function: Callable[[int, int], tuple[Tensor, ...]],
        num_draws: int,
    ) -> tuple[Tensor, ...]:
        """Return tensors of draws (S, ...), the members in turn, in an order that is drawn.

        Args:
            stream: Stream of the order, on the CPU.
            function: Returns draws of a member, as many as it is asked for.
            num_draws: S.
        """
        size = len(self.members)
        order = torch.randperm(size, generator=stream).tolist()[:num_draws]
        parts = [function(m, len(range(i, num_draws, size))) for i, m in enumerate(order)]
        return tuple(interleaved(same, num_draws) for same in zip(*parts, strict=True))

    def reward_mixture(
        self, batch: FeatureBatch, num_nodes: int
    ) -> tuple[MixturePart, MixturePart]:
        """Return the mixtures of all members as one."""
        return _joined([member.reward_mixture(batch, num_nodes) for member in self.members])

    def group_mixture(
        self, batch: FeatureBatch, num_nodes: int, share: Float[Tensor, " responses"]
    ) -> tuple[MixturePart, MixturePart]:
        """Return the mixtures of all members as one."""
        return _joined([member.group_mixture(batch, num_nodes, share) for member in self.members])


def _joined(members: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    loc, variance = (torch.cat(part) for part in zip(*members, strict=True))
    return loc, variance


def _mixed(members: Sequence[PairUncertainty]) -> PairUncertainty:
    mean, ambiguity, epistemic = (torch.stack(part) for part in zip(*members, strict=True))
    return PairUncertainty(mean.mean(0), ambiguity.mean(0), mean.var(0) + epistemic.mean(0))


def latent_members(model: RewardModel) -> tuple[VRM, ...]:
    """Return the models with latent variables: one, or those of an ensemble; else none."""
    return tuple(member for member in model.members if isinstance(member, VRM))


def match_objectives(
    first: Float[Tensor, "rows objectives"], other: Float[Tensor, "rows objectives"]
) -> list[int]:
    """Return which column of ``other`` is nearest to each column of ``first``, one to one.

    The assignment has the least sum of squared distances over all columns.

    >>> match_objectives(torch.eye(3), torch.eye(3)[:, [2, 0, 1]])
    [1, 2, 0]

    Args:
        first: What each objective of one model adds to the reward of some responses.
        other: The same for another model.
    """
    from scipy.optimize import linear_sum_assignment  # here: it is slow to import

    cost = (first.double().unsqueeze(-1) - other.double().unsqueeze(-2)).square().sum(0)
    return [int(k) for k in linear_sum_assignment(cost.numpy())[1]]
