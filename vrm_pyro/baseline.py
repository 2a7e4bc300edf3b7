"""Bradley-Terry reward model: a scalar head on the same features, the baseline."""

import torch
from torch import Tensor, nn

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.likelihood import BradleyTerry
from vrm_pyro.networks import Standardize, mlp
from vrm_pyro.predictive import ResponsePrediction
from vrm_pyro.reward import Moments


class BradleyTerryModel(nn.Module):
    """r = head(h): linear or one hidden layer, trained by log sigmoid(r_first - r_second).

    Args:
        hidden_size: Size of the backbone states.
        head_size: Hidden units of the head; 0 for a linear head.
        dropout: Dropout before the last layer.
    """

    temperature: Tensor

    def __init__(self, hidden_size: int, head_size: int = 128, dropout: float = 0.0) -> None:
        super().__init__()
        self.response_scaler = Standardize(hidden_size)
        self.head = mlp(hidden_size, head_size, 1, dropout)
        self.likelihood = BradleyTerry()
        # Divides every reward difference; set after training by temperature scaling, else 1.
        self.register_buffer("temperature", torch.ones(()))

    def rewards(self, responses: Tensor) -> Tensor:
        """Return r, shape (R,), for raw response states (R, hidden)."""
        return self.head(self.response_scaler(responses)).squeeze(-1) / self.temperature

    def deltas(self, batch: FeatureBatch) -> Tensor:
        """Return r_first - r_second, shape (N,)."""
        reward = self.rewards(batch.responses)
        return reward[batch.pair_first] - reward[batch.pair_second]

    def log_likelihood(self, batch: FeatureBatch) -> Tensor:
        """Return the weighted log-likelihood of the preferences, a scalar."""
        log_prob = self.likelihood.log_prob(self.deltas(batch), batch.preference)
        return (batch.pair_weight * log_prob).sum()

    def predict_pairs(self, batch: FeatureBatch) -> Tensor:
        """Return p(first preferred), shape (N,)."""
        return self.likelihood.probability(self.deltas(batch))

    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return rewards with no spread: a point model claims none."""
        reward = self.rewards(batch.responses)
        zero = torch.zeros_like(reward)
        return ResponsePrediction(Moments(reward, zero, zero, zero, zero))
