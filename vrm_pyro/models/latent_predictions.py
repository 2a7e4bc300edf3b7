"""What a model with latent variables predicts on new text, where no outcome is known."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions import Delta
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import (
    Gaussian,
    Streams,
    TextStreams,
    as_gaussian,
    draw_features,
    draw_weights,
    weight_moments,
    weight_nodes,
)
from vrm_pyro.models.epistemic.shrinkage import ShrinkagePosterior
from vrm_pyro.models.group_mixture import centred, group_means
from vrm_pyro.models.guides import GuideModule, LabelBlindModule
from vrm_pyro.models.networks import Standardize
from vrm_pyro.models.predictive import (
    PairUncertainty,
    ResponsePrediction,
    mixed_predictions,
    preference_probability,
)
from vrm_pyro.models.priors.shrinkage_normal import ShrinkageNormal
from vrm_pyro.models.reward import (
    LinearReward,
    Moments,
    delta_moments,
    mixed_moments,
    reward_moments,
)
from vrm_pyro.models.reward_model import MixturePart, PredictiveLatents, RewardModel

T = TypeVar("T")


class Latents(NamedTuple):
    """Distributions of the latents of a batch at the parameters' values.

    Attributes:
        weights: Of w, batch (P,).
        features: Of z, R rows.
        components: What a map V with a Gaussian posterior reads, (R, size), where V is to be
            integrated out; else None.
    """

    weights: dist.Distribution
    features: Gaussian
    components: Tensor | None = None


class LatentPredictions(RewardModel):
    """Predictions of a model with latent w and z; batches hold raw states.

    Source: spec 2.9. The posterior of the parameters is averaged over fixed draws
    (:meth:`over_parameters`). That of the map V of a ``ShrinkageNormalPrior`` is Gaussian, and so
    is E z, which is linear in V: moments and probabilities take it in closed form instead.
    """

    prompt_scaler: Standardize
    weight_prior: nn.Module
    feature_prior: nn.Module
    guide: GuideModule
    reward: LinearReward

    def predictive_weights(self, prompts: Float[Tensor, "prompts hidden"]) -> dist.Distribution:
        """Return w's distribution given the prompt: p_theta, or the label-blind q of ``vib``."""
        states = self.prompt_scaler(prompts)
        if isinstance(self.guide, LabelBlindModule) and self.num_objectives > 1:
            return self.guide.predict_weights(states)
        return self.weight_prior(states)

    def predictive_features(
        self, responses: Float[Tensor, "responses hidden"]
    ) -> dist.Distribution:
        """Return z's distribution given the texts: p_theta, or the label-blind q of ``vib``."""
        states = self.response_scaler(responses)
        if isinstance(self.guide, LabelBlindModule):
            return self.guide.predict_features(states)
        return self.feature_prior(states)

    def predictive_latents(self, batch: FeatureBatch) -> PredictiveLatents:
        """Return the distributions of w and z on new text, raw states in."""
        return PredictiveLatents(
            self.predictive_weights(batch.prompts), self.predictive_features(batch.responses)
        )

    def predict_pairs(self, batch: FeatureBatch) -> Float[Tensor, " pairs"]:
        """Return p(first preferred) on new text, w and z integrated out.

        The batch holds raw states; its preferences and ratings are not read.
        """
        found = self.over_latents(batch, lambda latents: self._pair_probability(batch, latents))
        return torch.stack(found).mean(0)

    def predict_responses(self, batch: FeatureBatch) -> ResponsePrediction:
        """Return reward moments, weights and scores of every response on new text."""
        return mixed_predictions(
            self.over_latents(batch, lambda latents: self._response_prediction(batch, latents))
        )

    def pair_uncertainty(self, batch: FeatureBatch) -> PairUncertainty:
        """Return mean and variance of Delta on new text, each (N,): ambiguity and epistemic."""
        return _uncertainty(
            self.over_latents(batch, lambda latents: self._delta_moments(batch, latents))
        )

    def assess_pairs(self, batch: FeatureBatch) -> tuple[Float[Tensor, " pairs"], PairUncertainty]:
        """Return what both of these do, at the cost of the first."""
        chances, moments = zip(
            *self.over_latents(
                batch,
                lambda latents: (
                    self._pair_probability(batch, latents),
                    self._delta_moments(batch, latents),
                ),
            ),
            strict=True,
        )
        return torch.stack(chances).mean(0), _uncertainty(moments)

    def delta_moments(self, batch: FeatureBatch) -> Moments:
        """Return the moments of Delta at the parameters' values, raw states in, each (N,)."""
        return self._delta_moments(batch, self._latents(batch))

    def draw_latents(
        self, batch: FeatureBatch, num_draws: int, prompts: Streams, responses: Streams
    ) -> tuple[
        Float[Tensor, "draws prompts objectives"], Float[Tensor, "draws responses objectives"]
    ]:
        """Return draws of w and s at the parameters' values, raw states in."""
        w = draw_weights(self.predictive_weights(batch.prompts), num_draws, prompts)
        features = as_gaussian(self.predictive_features(batch.responses))
        return w, self.reward().scores(draw_features(features, num_draws, responses))

    def draw_rewards(
        self, batch: FeatureBatch, num_draws: int, streams: TextStreams
    ) -> Float[Tensor, "draws responses"]:
        """Return joint draws of r = beta w'(A z + b); responses to one prompt share w."""

        def rewards_of(count: int) -> tuple[Tensor]:
            w, scores = self.draw_latents(batch, count, streams.prompts, streams.responses)
            return (self.reward().rewards(w[:, batch.response_prompt], scores),)

        return self.draws_over_parameters(streams.head, rewards_of, num_draws)[0]

    def reward_mixture(
        self, batch: FeatureBatch, num_nodes: int
    ) -> tuple[MixturePart, MixturePart]:
        """Return mean and variance of r given each fixed draw of w and of the parameters.

        Draws of a map V with a posterior of its own share all but E z.
        """
        posterior = self._map_posterior
        if posterior is None:
            parts = self.over_parameters(
                lambda: self._given_nodes(batch, self._latents(batch), num_nodes)[:2]
            )
            loc, variance = (torch.stack(part) for part in zip(*parts, strict=True))
            return loc, variance
        latents = self._latents(batch, integrated=True)
        loc, variance, direction = self._given_nodes(batch, latents, num_nodes)
        assert latents.components is not None
        shifts = posterior.shifts(self, latents.components)  # (M, R, d)
        moved = torch.einsum("srd,mrd->msr", direction, shifts)
        return loc + moved, variance.expand_as(moved)

    def group_mixture(
        self, batch: FeatureBatch, num_nodes: int, share: Float[Tensor, " responses"]
    ) -> tuple[MixturePart, MixturePart]:
        """Return r minus the group's mean given each fixed draw of w.

        A map V with a posterior of its own is integrated exactly; other parameters by draws.
        """
        posterior = self._map_posterior
        if posterior is None:
            return super().group_mixture(batch, num_nodes, share)
        latents = self._latents(batch, integrated=True)
        loc, variance, direction = self._given_nodes(batch, latents, num_nodes)
        loc, variance = centred(loc, variance, batch, share)
        phi = latents.components
        assert phi is not None
        gap = phi - group_means(phi.T, batch, share).T
        doubt = (direction.square() * posterior.map_of(self).variance(gap)).sum(-1)
        return loc.unsqueeze(0), (variance + doubt).unsqueeze(0)

    def over_latents(self, batch: FeatureBatch, function: Callable[[Latents], T]) -> list[T]:
        """Return a function of the latents at every draw of the parameters, or once.

        Once where none is uncertain, or a map that ``function`` integrates by itself.
        """
        if self._map_posterior is not None:
            return [function(self._latents(batch, integrated=True))]
        return self.over_parameters(lambda: function(self._latents(batch)))

    @property
    def _map_posterior(self) -> ShrinkagePosterior | None:
        """The posterior of the map that gives E z, where the map has one."""
        posterior = self.parameter_posterior
        if isinstance(posterior, ShrinkagePosterior) and not isinstance(
            self.guide, LabelBlindModule
        ):
            return posterior
        return None

    def _latents(self, batch: FeatureBatch, integrated: bool = False) -> Latents:
        weights = self.predictive_weights(batch.prompts)
        posterior = self._map_posterior
        if posterior is None or not integrated:
            return Latents(weights, as_gaussian(self.predictive_features(batch.responses)))
        prior: ShrinkageNormal = posterior.map_of(self)
        phi = prior.components(self.response_scaler(batch.responses))
        return Latents(weights, as_gaussian(prior.given_components(phi)), phi)

    def _doubt(
        self, latents: Latents, first: Tensor | None = None, second: Tensor | None = None
    ) -> Tensor | None:
        """Return the variance over V of E z, or of E z_first - E z_second; None at a value."""
        posterior, phi = self._map_posterior, latents.components
        if posterior is None or phi is None:
            return None
        if first is not None and second is not None:
            phi = phi[first] - phi[second]
        return posterior.map_of(self).variance(phi)

    def _pair_probability(self, batch: FeatureBatch, latents: Latents) -> Tensor:
        return preference_probability(
            latents.weights,
            latents.features,
            (batch.pair_prompt, batch.pair_first, batch.pair_second),
            self.reward(),
            self.likelihood,
            extra_variance=self._doubt(latents, batch.pair_first, batch.pair_second),
        )

    def _response_prediction(self, batch: FeatureBatch, latents: Latents) -> ResponsePrediction:
        weights = weight_moments(latents.weights).rows(batch.response_prompt)
        features, reward, doubt = latents.features, self.reward(), self._doubt(latents)
        moments = reward_moments(weights, features, reward, doubt)
        scores = reward.scores(features.loc)
        if doubt is not None:
            features = features.widened(doubt)
        sd = features.mapped_variance(reward.loading).sqrt()
        return ResponsePrediction(moments, weights.mean, scores, sd)

    def _delta_moments(self, batch: FeatureBatch, latents: Latents) -> Moments:
        weights = weight_moments(latents.weights).rows(batch.pair_prompt)
        first, second = (latents.features.rows(i) for i in (batch.pair_first, batch.pair_second))
        doubt = self._doubt(latents, batch.pair_first, batch.pair_second)
        return delta_moments(weights, first, second, self.reward(), doubt)

    def _given_nodes(
        self, batch: FeatureBatch, latents: Latents, num_nodes: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return mean and variance of r given nodes of w, (S, R), and beta A'w, (S, R, d)."""
        reward, features = self.reward(), latents.features
        if isinstance(latents.weights, Delta):
            num_nodes = 1  # all would be equal
        nodes = weight_nodes(latents.weights, num_nodes)
        w = nodes[:, batch.response_prompt]
        loc = reward.scale * (w * reward.scores(features.loc)).sum(-1)
        direction = reward.scale * w @ reward.loading
        return loc, features.projected_variance(direction), direction


def _uncertainty(draws: Sequence[Moments]) -> PairUncertainty:
    moments = draws[0] if len(draws) == 1 else mixed_moments(draws)
    ambiguity = moments.from_weights + moments.from_features + moments.interaction
    return PairUncertainty(moments.mean, ambiguity, moments.epistemic)
