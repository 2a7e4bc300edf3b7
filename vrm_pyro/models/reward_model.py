"""The base class of reward models."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeVar

import torch
import torch.distributions as dist
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.epistemic.base import ParameterPosterior, run_with
from vrm_pyro.models.group_mixture import centred
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.networks import Standardize
from vrm_pyro.models.predictive import PairUncertainty, ResponsePrediction

T = TypeVar("T")
ByObjective = Float[Tensor, "responses objectives"]
MixturePart = Float[Tensor, "parameters nodes responses"]


class PredictiveLatents(NamedTuple):
    """Distributions of the latent variables on new text (spec 2.2).

    Attributes:
        weights: Distribution of w given the prompt: batch (P,), event (K,).
        features: Distribution of z given prompt and response: batch (R,), event (d_z,).
    """

    weights: dist.Distribution
    features: dist.Distribution


class RewardModel(nn.Module, ABC):
    """A reward model on backbone states: a VRM, an ensemble of them, or a Bradley-Terry model.

    Prediction, diagnostics and training ask a model through these methods and need not know which
    of the three it is. Every batch that goes in holds raw states; its preferences and ratings are
    not read. Only code about the latent program itself (objectives, posterior draws, weights by
    objective) asks for a :class:`VRM`.

    Source: spec 2.9, the moments and probabilities that a model predicts.
    """

    response_scaler: Standardize
    likelihood: PreferenceLikelihood

    def __init__(self) -> None:
        super().__init__()
        #: K and d_z; K is 0 without weights, d_z without latent variables.
        self.num_objectives = 0
        self.latent_dim = 0
        #: Whether the distribution of w that predicts can depend on the prompt at all.
        self.weights_follow_prompt = False
        #: Posterior of the global parameters; None for point estimates of them.
        self.parameter_posterior: ParameterPosterior | None = None

    @property
    def members(self) -> "tuple[RewardModel, ...]":
        """The models that an ensemble of VRMs consists of; else the model itself."""
        return (self,)

    def aligned(
        self, member: int, values: Float[Tensor, "*rows objectives"]
    ) -> Float[Tensor, "*rows objectives"]:
        """Return a member's values by objective in the order of ``objectives``."""
        return values

    @property
    def num_parameter_draws(self) -> int:
        """Number of fixed draws of the parameters that a prediction averages; 0 for none."""
        return 0 if self.parameter_posterior is None else self.parameter_posterior.num_draws

    @property
    def scores_are_ratings(self) -> bool:
        """Whether ratings act on scores, so that scores are expected ratings."""
        return False

    @property
    def rating_unit(self) -> tuple[float, float]:
        """Location and scale of ratings: raw = standardised * scale + location."""
        return 0.0, 1.0

    def set_rating_unit(self, loc: float, scale: float) -> None:
        """Store the unit of the training ratings; a model without scores has none."""

    def in_rating_unit(
        self,
        mean: ByObjective,
        sd: ByObjective,
    ) -> tuple[ByObjective, ByObjective]:
        """Return mean and sd of scores in model units as expected raw ratings.

        As they are where scores are no ratings.
        """
        return mean, sd

    def drawn_in_rating_unit(
        self, scores: Float[Tensor, "draws responses objectives"]
    ) -> Float[Tensor, "draws responses objectives"]:
        """Return draws of scores in model units as expected raw ratings; else as they are."""
        return scores

    def without_lapse(self, probability: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
        """Return the probability of the label before label noise, from that of the label."""
        return self.likelihood.without_lapse(probability)

    def rename_state(self, state: dict[str, Tensor], prefix: str = "") -> None:
        """Rename tensors of a file of an older version, in place."""

    def predictive_latents(self, batch: FeatureBatch) -> PredictiveLatents | None:
        """Return the distributions of w and z on new text; None without latent variables.

        An ensemble has none of its own: ask its members.
        """
        return None

    @abstractmethod
    def predict_pairs(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return p(first preferred) on new text."""

    @abstractmethod
    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return reward moments of every response; weights and scores where there are any."""

    @abstractmethod
    def pair_uncertainty(self, batch: FeatureBatch) -> PairUncertainty:
        """Return mean and variance of Delta on new text, ambiguity and epistemic part apart."""

    def assess_pairs(self, batch: FeatureBatch) -> tuple[Float[Tensor, " pairs"], PairUncertainty]:
        """Return what :meth:`predict_pairs` and :meth:`pair_uncertainty` do."""
        return self.predict_pairs(batch), self.pair_uncertainty(batch)

    @abstractmethod
    def draw_rewards(
        self, batch: FeatureBatch, num_draws: int, streams: TextStreams
    ) -> Float[Tensor, "draws responses"]:
        """Return joint draws of the rewards of all responses at the module's current mode."""

    @abstractmethod
    def reward_mixture(
        self, batch: FeatureBatch, num_nodes: int
    ) -> tuple[MixturePart, MixturePart]:
        """Return each reward as an equal mixture of Normals: their means and variances.

        The mixture runs over values of the parameters and over ``num_nodes`` fixed draws of w
        that all responses to a prompt share; given both, rewards are independent Normals.
        """

    def group_mixture(
        self, batch: FeatureBatch, num_nodes: int, share: Float[Tensor, " responses"]
    ) -> tuple[MixturePart, MixturePart]:
        """Return r_i - sum_j p_j r_j over the responses to a prompt, a mixture of Normals.

        As :meth:`reward_mixture`, but the Normals of a group depend on each other: each alone is
        to be used. Parameters may be integrated out instead of drawn.

        Args:
            batch: Raw states.
            num_nodes: Number of fixed draws of w.
            share: p, adds up to 1 over the responses to a prompt.
        """
        return centred(*self.reward_mixture(batch, num_nodes), batch, share)

    def member_log_likelihoods(self, batch: FeatureBatch) -> Float[Tensor, " members"]:
        """Return each member's weighted log-likelihood of the preferences, which training takes.

        A model with latent variables is trained by an objective instead.
        """
        raise NotImplementedError

    def log_likelihood(self, batch: FeatureBatch) -> Float[Tensor, ""]:
        """Return the weighted log-likelihood of the preferences under the prediction."""
        raise NotImplementedError

    def over_parameters(self, function: Callable[[], T]) -> list[T]:
        """Return ``function()`` at every fixed draw of the parameters, or at their values."""
        if self.parameter_posterior is None:
            return [function()]
        draws = self.parameter_posterior.prediction_draws(self)
        return [run_with(self, values, function) for values in draws]

    def draws_over_parameters(
        self,
        stream: torch.Generator,
        function: Callable[[int], tuple[Tensor, ...]],
        num_draws: int,
    ) -> tuple[Tensor, ...]:
        """Return tensors of draws (S, ...), each draw at a value of the uncertain parameters.

        The parameters are drawn afresh for each draw up to the number that a prediction averages
        (``head_draws``), then in turn.

        Args:
            stream: Stream of the parameters, on the CPU.
            function: Returns as many draws as it is asked for, at the current parameters.
            num_draws: S.
        """
        if self.parameter_posterior is None:
            return function(num_draws)
        distinct = min(num_draws, self.parameter_posterior.num_draws)
        parameters = [self.parameter_posterior.draw(self, stream) for _ in range(distinct)]
        parts = [
            run_with(self, values, partial(function, len(range(i, num_draws, distinct))))
            for i, values in enumerate(parameters)
        ]
        return tuple(interleaved(same, num_draws) for same in zip(*parts, strict=True))

    def draws_over_members(
        self,
        stream: torch.Generator,
        function: Callable[[int, int], tuple[Tensor, ...]],
        num_draws: int,
    ) -> tuple[Tensor, ...]:
        """Return tensors of draws (S, ...) of all members.

        Args:
            stream: Stream of the order of members, on the CPU.
            function: Returns draws of a member, as many as it is asked for.
            num_draws: S.
        """
        return function(0, num_draws)


def interleaved(parts: tuple[Tensor, ...], num_draws: int) -> Tensor:
    """Return draws (S, ...) of which part i holds every i-th out of ``len(parts)``."""
    draws = parts[0].new_empty(num_draws, *parts[0].shape[1:])
    for i, part in enumerate(parts):
        draws[i :: len(parts)] = part
    return draws
