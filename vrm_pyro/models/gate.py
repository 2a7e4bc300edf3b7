"""A gate over ratings: ridge scores, softmax weights of the prompt, point estimates."""

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.likelihoods import BradleyTerry
from vrm_pyro.models.networks import Standardize, mlp
from vrm_pyro.models.predictive import PairUncertainty, ResponsePrediction
from vrm_pyro.models.reward import Moments
from vrm_pyro.models.reward_model import ByObjective, MixturePart, RewardModel


class GateModel(RewardModel):
    """r = beta w(x)'s(x, y), the mixture of objectives of ArmoRM; the baseline for ratings.

    Scores s are a ridge regression of each objective's ratings on the response state. They are
    fitted before training (:func:`~vrm_pyro.training.gate_scores.fit_gate_scores`), then fixed.
    Weights w are the softmax of a network on the prompt state; it and beta are trained by
    log sigmoid(r_first - r_second). There is no distribution over anything.

    Source: Wang et al. (2024), "Interpretable Preferences via Multi-Objective Reward Modeling and
    Mixture-of-Experts", without the correction for length, which the published training does not
    apply either.

    Args:
        hidden_size: Size of the backbone states.
        num_objectives: Number K of rated objectives.
        head_size: Hidden units of the gate; 0 for a linear one.
        dropout: Dropout before its last layer.
        initial_scale: Initial beta.
    """

    ridge: Tensor
    offset: Tensor
    unit: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_objectives: int,
        head_size: int = 64,
        dropout: float = 0.0,
        initial_scale: float = 3.0,
    ) -> None:
        super().__init__()
        self.num_objectives = num_objectives
        self.weights_follow_prompt = True
        self.prompt_scaler, self.response_scaler = (
            Standardize(hidden_size),
            Standardize(hidden_size),
        )
        self.gate = mlp(hidden_size, head_size, num_objectives, dropout)
        self.log_scale = torch.nn.Parameter(torch.tensor(initial_scale).log())
        self.likelihood = BradleyTerry()
        self.register_buffer("ridge", torch.zeros(num_objectives, hidden_size))
        self.register_buffer("offset", torch.zeros(num_objectives))
        self.register_buffer("unit", torch.tensor([0.0, 1.0]))

    @property
    def rating_unit(self) -> tuple[float, float]:
        """Location and scale of ratings: raw = standardised * scale + location."""
        return float(self.unit[0]), float(self.unit[1])

    def set_rating_unit(self, loc: float, scale: float) -> None:
        """Store the unit of the training ratings."""
        self.unit.copy_(torch.tensor([loc, scale]))

    def in_rating_unit(
        self, mean: ByObjective, sd: ByObjective
    ) -> tuple[ByObjective, ByObjective]:
        """Return scores as raw ratings."""
        loc, scale = self.rating_unit
        return mean * scale + loc, sd * scale

    def weights(
        self, prompts: Float[Tensor, "prompts hidden"]
    ) -> Float[Tensor, "prompts objectives"]:
        """Return w(x) for raw prompt states; each row adds up to 1."""
        return torch.softmax(self.gate(self.prompt_scaler(prompts)), -1)

    def scores(
        self, responses: Float[Tensor, "responses hidden"]
    ) -> Float[Tensor, "responses objectives"]:
        """Return s(x, y) for raw response states, in standardised rating units."""
        return self.response_scaler(responses) @ self.ridge.T + self.offset

    def rewards(self, batch: FeatureBatch) -> Float[Tensor, " responses"]:
        """Return r of every response."""
        weights = self.weights(batch.prompts)[batch.response_prompt]
        return self.log_scale.exp() * (weights * self.scores(batch.responses)).sum(-1)

    def deltas(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return r_first - r_second."""
        rewards = self.rewards(batch)
        return rewards[batch.pair_first] - rewards[batch.pair_second]

    def log_likelihood(self, batch: FeatureBatch) -> Float[Tensor, ""]:
        """Return the weighted log-likelihood of the preferences."""
        log_prob = self.likelihood.log_prob(self.deltas(batch), batch.preference)
        return (batch.pair_weight * log_prob).sum()

    def member_log_likelihoods(self, batch: FeatureBatch) -> Float[Tensor, " members"]:
        """Return the same, which training takes."""
        return self.log_likelihood(batch).unsqueeze(0)

    def predict_pairs(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return p(first preferred)."""
        return self.likelihood.probability(self.deltas(batch))

    def pair_uncertainty(self, batch: FeatureBatch) -> PairUncertainty:
        """Return Delta; the model claims no variance."""
        mean = self.deltas(batch)
        return PairUncertainty(mean, torch.zeros_like(mean), torch.zeros_like(mean))

    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return rewards, weights and scores, with no spread."""
        reward, scores = self.rewards(batch), self.scores(batch.responses)
        zero = torch.zeros_like(reward)
        weights = self.weights(batch.prompts)[batch.response_prompt]
        moments = Moments(reward, zero, zero, zero, zero, zero)
        return ResponsePrediction(moments, weights, scores, torch.zeros_like(scores))

    def draw_rewards(
        self, batch: FeatureBatch, num_draws: int, streams: TextStreams
    ) -> Float[Tensor, "draws responses"]:
        """Return the rewards again and again: nothing is drawn."""
        return self.rewards(batch).expand(num_draws, -1).clone()

    def reward_mixture(
        self, batch: FeatureBatch, num_nodes: int
    ) -> tuple[MixturePart, MixturePart]:
        """Return the rewards as means without variance: a single node."""
        rewards = self.rewards(batch).expand(1, 1, -1)
        return rewards, torch.zeros_like(rewards)
