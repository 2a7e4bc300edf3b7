"""Bradley-Terry reward model: scalar heads on the same features, the baseline."""

import math

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.rankings import Rankings
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.epistemic.last_layer import LastLayerPosterior
from vrm_pyro.models.likelihoods import BradleyTerry, PlackettLuce, Ranking
from vrm_pyro.models.networks import Standardize, mlp
from vrm_pyro.models.predictive import PairUncertainty, ResponsePrediction
from vrm_pyro.models.reward import Moments
from vrm_pyro.models.reward_model import MixturePart, RewardModel


class BradleyTerryModel(RewardModel):
    """r = head(h): linear or one hidden layer, trained by log sigmoid(r_first - r_second).

    Source: spec 2.4.

    Several members form a deep ensemble: heads with different initial values and dropout masks.
    Each is trained on its own log-likelihood; they share batches, gradient clipping and the epoch
    that validation selects. Probability and reward of the ensemble are means over members. Levels
    of members are not aligned, because only differences of rewards within a prompt have meaning,
    and the mean difference does not depend on levels.

    Args:
        hidden_size: Size of the backbone states.
        head_size: Hidden units of a head; 0 for a linear head.
        dropout: Dropout before the last layer.
        ensemble_size: Number of members M.
        joint_rankings: Whether the likelihood of a ranking is Plackett-Luce, instead of that of
            its pairs.
        prior_scale: Prior scale of a Laplace posterior over the last layer, fitted after training;
            0 for a point estimate of it.
        num_draws: Number of its fixed draws.
    """

    temperature: Tensor

    def __init__(
        self,
        hidden_size: int,
        head_size: int = 128,
        dropout: float = 0.0,
        ensemble_size: int = 1,
        joint_rankings: bool = False,
        prior_scale: float = 0.0,
        num_draws: int = 32,
    ) -> None:
        super().__init__()
        self.response_scaler = Standardize(hidden_size)
        # The first member apart from the others: a model of one then keeps the names of its
        # weights, start values and draws from before there were ensembles.
        self.head = mlp(hidden_size, head_size, 1, dropout)
        self.more_heads = nn.ModuleList(
            mlp(hidden_size, head_size, 1, dropout) for _ in range(ensemble_size - 1)
        )
        self.likelihood = PlackettLuce() if joint_rankings else BradleyTerry()
        # Divides every reward difference; set after training by temperature scaling, else 1.
        self.register_buffer("temperature", torch.ones(()))
        size = head_size or hidden_size
        #: Posterior of the last layer of a single head; None for a point estimate.
        self.last_layer = LastLayerPosterior(size, prior_scale, num_draws) if prior_scale else None

    @property
    def ensemble_size(self) -> int:
        """Number of members M."""
        return 1 + len(self.more_heads)

    def member_rewards(
        self, responses: Float[Tensor, "responses hidden"]
    ) -> Float[Tensor, "members responses"]:
        """Return every member's r for raw response states."""
        states = self.response_scaler(responses)
        rewards = [head(states).squeeze(-1) for head in (self.head, *self.more_heads)]
        return torch.stack(rewards) / self.temperature

    def last_inputs(
        self, responses: Float[Tensor, "responses hidden"]
    ) -> Float[Tensor, "responses size"]:
        """Return what the last layer of the first head reads, in units of the reward."""
        inputs: Tensor = self.head[:-1](self.response_scaler(responses))
        return inputs / self.temperature

    def last_layer_information(self, batch: FeatureBatch) -> Float[Tensor, "size size"]:
        """Return the Fisher information of a batch's labels about the last layer."""
        inputs = self.last_inputs(batch.responses)
        gap = inputs[batch.pair_first] - inputs[batch.pair_second]
        each = batch.pair_weight * self.likelihood.information(self.deltas(batch))
        return gap.T @ (each.unsqueeze(-1) * gap)

    def rewards(self, responses: Float[Tensor, "responses hidden"]) -> Float[Tensor, " responses"]:
        """Return r, the mean over members, for raw response states."""
        return self.member_rewards(responses).mean(0)

    def member_deltas(self, batch: FeatureBatch) -> Float[Tensor, "members pairs"]:
        """Return every member's r_first - r_second."""
        reward = self.member_rewards(batch.responses)
        return reward[:, batch.pair_first] - reward[:, batch.pair_second]

    def deltas(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return r_first - r_second, the mean over members."""
        return self.member_deltas(batch).mean(0)

    def member_log_likelihoods(self, batch: FeatureBatch) -> Float[Tensor, " members"]:
        """Return every member's weighted log-likelihood of the preferences.

        Training maximises the sum: its gradient in a member's weights is that of the member
        trained alone.
        """
        rewards = self.member_rewards(batch.responses)
        deltas = rewards[:, batch.pair_first] - rewards[:, batch.pair_second]
        log_prob = self.likelihood.log_prob(deltas, batch.preference)
        rankings = self._joint_rankings(batch)
        if rankings is None:
            return (batch.pair_weight * log_prob).sum(-1)
        total = (batch.plain_weight * log_prob).sum(-1)
        ranking = Ranking(rewards[:, rankings.items], rankings.mask)
        return total + (rankings.weight * ranking.log_prob(rankings.order)).sum(-1)

    def log_likelihood(self, batch: FeatureBatch) -> Float[Tensor, ""]:
        """Return the weighted log-likelihood of the preferences.

        That of the prediction, the mean of the members' probabilities: by Jensen no less than the
        mean of the members' own.
        """
        deltas = self.member_deltas(batch)
        first, second = (
            torch.logsumexp(self.likelihood.log_prob(deltas, torch.full_like(deltas, label)), 0)
            - math.log(self.ensemble_size)
            for label in (1.0, 0.0)
        )
        log_prob = batch.preference * first + (1 - batch.preference) * second
        rankings = self._joint_rankings(batch)
        if rankings is None:
            return (batch.pair_weight * log_prob).sum()
        ranking = Ranking(self.member_rewards(batch.responses)[:, rankings.items], rankings.mask)
        ranked = torch.logsumexp(ranking.log_prob(rankings.order), 0)
        ranked = ranked - math.log(self.ensemble_size)
        return (batch.plain_weight * log_prob).sum() + (rankings.weight * ranked).sum()

    def _joint_rankings(self, batch: FeatureBatch) -> Rankings | None:
        return batch.rankings if self.likelihood.joint_rankings else None

    def predict_pairs(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return p(first preferred), the mean over members or over the last layer's posterior."""
        if self.last_layer is not None:
            mean, _, variance = self.pair_uncertainty(batch)
            return self.likelihood.expected_probability(mean, variance)
        return self.likelihood.probability(self.member_deltas(batch)).mean(0)

    def pair_uncertainty(self, batch: FeatureBatch) -> PairUncertainty:
        """Return mean and variance of Delta, each (N,).

        The epistemic part is the variance of Delta over members (divisor M - 1), or that of the
        last layer's posterior; it is 0 for a single member without one. There are no latents, so
        the ambiguity is 0.
        """
        deltas = self.member_deltas(batch)
        mean = deltas.mean(0)
        zero = torch.zeros_like(mean)
        if self.last_layer is not None:
            inputs = self.last_inputs(batch.responses)
            gap = inputs[batch.pair_first] - inputs[batch.pair_second]
            return PairUncertainty(mean, zero, self.last_layer.variance(gap))
        return PairUncertainty(mean, zero, deltas.var(0) if self.ensemble_size > 1 else zero)

    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return rewards with no spread: there are no latents that leave one open.

        What members disagree on is a matter of pairs, :meth:`pair_uncertainty`: the spread of
        their rewards for one response is mostly that of their arbitrary levels.
        """
        reward = self.rewards(batch.responses)
        zero = torch.zeros_like(reward)
        return ResponsePrediction(Moments(reward, zero, zero, zero, zero, zero))

    def draw_rewards(
        self, batch: FeatureBatch, num_draws: int, streams: TextStreams
    ) -> Float[Tensor, "draws responses"]:
        """Return rewards of members drawn at random, the same member for all responses.

        With a posterior of the last layer, the same draw of it for all responses.
        """
        rewards = self.member_rewards(batch.responses)
        if self.last_layer is not None:
            offsets = self.last_layer.draw(num_draws, streams.head)
            return rewards + offsets @ self.last_inputs(batch.responses).T
        member = torch.randint(len(rewards), (num_draws,), generator=streams.head)
        return rewards[member.to(rewards.device)]

    def reward_mixture(
        self, batch: FeatureBatch, num_nodes: int
    ) -> tuple[MixturePart, MixturePart]:
        """Return the members' rewards as means without variance: a single node each.

        With a posterior of the last layer, those at its fixed draws.
        """
        rewards = self.member_rewards(batch.responses)
        if self.last_layer is not None:
            rewards = rewards + self.last_layer.offsets @ self.last_inputs(batch.responses).T
        rewards = rewards.unsqueeze(1)
        return rewards, torch.zeros_like(rewards)
