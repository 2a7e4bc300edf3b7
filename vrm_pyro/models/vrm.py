"""The variational reward model: the generative program on three flat plates."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

import pyro
import torch
from jaxtyping import Float
from pyro import poutine
from torch import Tensor, nn

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.conjugate import features_given_ratings, marginal_ratings
from vrm_pyro.models.distributions import Gaussian
from vrm_pyro.models.epistemic.base import run_with
from vrm_pyro.models.epistemic.choose import choose_posterior
from vrm_pyro.models.epistemic.shrinkage import features_beside
from vrm_pyro.models.guides import Guide, GuideModule, LabelBlindModule
from vrm_pyro.models.latent_predictions import LatentPredictions
from vrm_pyro.models.likelihoods import (
    BradleyTerry,
    GaussianDelta,
    Preference,
    Ranking,
    observe,
    root,
)
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.likelihoods.weight_supervision import WeightSupervision
from vrm_pyro.models.local_parameters import local_parameters
from vrm_pyro.models.networks import Standardize
from vrm_pyro.models.predictive import rating_moments
from vrm_pyro.models.priors import FeaturePrior, WeightPrior
from vrm_pyro.models.priors.one_objective import OneObjective
from vrm_pyro.models.ratings import RatingModule
from vrm_pyro.models.reward import LinearReward, delta_given_weights
from vrm_pyro.models.reward_model import ByObjective

T = TypeVar("T")


class VRM(LatentPredictions):
    """Variational reward model: w of a prompt, z of a response, scores s = A z + b, r = beta w's.

    Source: spec 2.1, 2.2. A plain module on backbone states (pitfall: a backbone inside a
    PyroModule becomes hundreds of sites). Program, guide and objectives share one evaluation of
    the networks, :meth:`conditionals`.

    Args:
        hidden_size: Size of the backbone states.
        num_objectives: K; the weight of a single one is 1 under any prior (:class:`OneObjective`).
        latent_dim: d_z.
        weight_prior: Settings of p(w | x).
        feature_prior: Settings of p(z | x, y).
        guide: Settings of q.
        reward: Linear scores and reward.
        ratings: Rating model, when ratings act on scores; else None.
        likelihood: Preference likelihood.
        weight_power: lambda of the supervision of weights by ratings; 0 for none.
        head_prior_scale: Prior scale of a Gaussian distribution of A, b, beta and the last layers
            (a ``ParameterPosterior``); 0 for point estimates of them. A feature prior with a
            posterior of its own map takes its place (:class:`ShrinkagePosterior`).
        head_draws: Draws of them that a prediction averages.
        head_covariance: ``diagonal`` (:class:`DiagonalPosterior`) or ``laplace``
            (:class:`LaplacePosterior`).
        weight_supervision: Its loss; cross-entropy when omitted.
    """

    rating_loc: Tensor
    rating_scale: Tensor

    def __init__(
        self,
        hidden_size: int,
        num_objectives: int,
        latent_dim: int,
        weight_prior: WeightPrior,
        feature_prior: FeaturePrior,
        guide: Guide,
        reward: LinearReward,
        ratings: RatingModule | None = None,
        likelihood: PreferenceLikelihood | None = None,
        weight_power: float = 0.0,
        head_prior_scale: float = 0.0,
        head_draws: int = 32,
        head_covariance: str = "diagonal",
        weight_supervision: WeightSupervision | None = None,
    ) -> None:
        super().__init__()
        self.num_objectives, self.latent_dim = num_objectives, latent_dim
        self.prompt_scaler = Standardize(hidden_size)
        self.response_scaler = Standardize(hidden_size)
        self.weight_prior: nn.Module = OneObjective()
        if num_objectives > 1:
            self.weight_prior = weight_prior.build(hidden_size, num_objectives)
        self.feature_prior = feature_prior.build(hidden_size, latent_dim)
        self.guide: GuideModule = guide.build(hidden_size, num_objectives, latent_dim)
        reads = weight_prior.conditional or isinstance(self.guide, LabelBlindModule)
        self.weights_follow_prompt = reads and num_objectives > 1
        self.reward = reward
        self.ratings = ratings
        self.likelihood = (likelihood or BradleyTerry()).build()
        self.weight_power = weight_power
        given = (head_prior_scale, head_draws, head_covariance)
        self.parameter_posterior = choose_posterior(self, *given)
        self.weight_supervision = weight_supervision or WeightSupervision()
        # The one rating unit of the data set: raw = standardised * scale + loc.
        self.register_buffer("rating_loc", torch.zeros(()))
        self.register_buffer("rating_scale", torch.ones(()))
        self.register_load_state_dict_pre_hook(_rename_state)

    def standardize(self, batch: FeatureBatch) -> FeatureBatch:
        """Return the batch with standardised states, which every network here expects."""
        values = batch.as_dict()
        values["prompts"] = self.prompt_scaler(batch.prompts)
        values["responses"] = self.response_scaler(batch.responses)
        return FeatureBatch(**values)

    @local_parameters()
    def conditionals(self, batch: FeatureBatch) -> Conditionals:
        """Evaluate the priors and parameters on a standardised batch, once a step."""
        return Conditionals(
            self.weight_prior(batch.prompts),
            features_beside(self, batch),
            self.reward(),
            None if self.ratings is None else self.ratings(),
            self.likelihood,
        )

    @property
    def scores_are_ratings(self) -> bool:
        """Whether ratings act on scores, so that scores are expected ratings."""
        return self.ratings is not None

    @property
    def rating_unit(self) -> tuple[float, float]:
        """Location and scale of ratings: raw = standardised * scale + location."""
        return float(self.rating_loc), float(self.rating_scale)

    def set_rating_unit(self, loc: float, scale: float) -> None:
        """Store the one unit of all ratings of the training rows (spec 2.5)."""
        self.rating_loc.fill_(loc)
        self.rating_scale.fill_(scale)

    def in_rating_unit(
        self, mean: ByObjective, sd: ByObjective
    ) -> tuple[ByObjective, ByObjective]:
        """Return mean and sd of scores as expected raw ratings; as they are without ratings."""
        if self.ratings is None:
            return mean, sd
        mean, sd = rating_moments(self.ratings(), mean, sd)
        return mean * self.rating_scale + self.rating_loc, sd * self.rating_scale

    def drawn_in_rating_unit(
        self, scores: Float[Tensor, "draws responses objectives"]
    ) -> Float[Tensor, "draws responses objectives"]:
        """Return draws of scores as expected raw ratings; as they are without ratings."""
        if self.ratings is None:
            return scores
        return self.ratings().mean(scores) * self.rating_scale + self.rating_loc

    def rename_state(self, state: dict[str, Tensor], prefix: str = "") -> None:
        """Rename tensors of version 0.1.0: the parameter posterior was called ``head``."""
        old, new = f"{prefix}head.", f"{prefix}parameter_posterior."
        for name in [name for name in state if name.startswith(old)]:
            state[new + name.removeprefix(old)] = state.pop(name)

    def with_drawn_head(self, function: Callable[[], T]) -> T:
        """Return ``function()`` at the draw of the uncertain parameters that training takes."""
        if self.parameter_posterior is None:
            return function()
        return run_with(self, self.parameter_posterior.training_draw(self), function)

    @local_parameters()
    def program(
        self,
        batch: FeatureBatch,
        conditionals: Conditionals,
        kl_weights: float = 1.0,
        kl_features: float = 1.0,
        population: int | None = None,
    ) -> None:
        """Sample or score the full generative story (spec 2.1).

        Args:
            batch: Standardised batch; its preferences and ratings are the observations.
            conditionals: :meth:`conditionals` of the same batch.
            kl_weights: Weight kappa_w of the KL of w; the guide must get the same.
            kl_features: Weight kappa_z of the KL of z.
            population: Number of prompts N the batch of B stands for: local terms times N/B.
        """
        scale = (population or batch.num_prompts) / batch.num_prompts
        with poutine.scale(scale=scale):
            with (
                pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1),
                poutine.scale(scale=kl_weights),
            ):
                w = pyro.sample(names.WEIGHTS, conditionals.weights)
            with pyro.plate(names.RESPONSE_PLATE, batch.num_responses, dim=-1):
                with poutine.scale(scale=kl_features):
                    z = pyro.sample(names.FEATURES, conditionals.features)
                scores = conditionals.reward.scores(z)
                # No rating observed: no rating site, so nothing masked can leak in.
                if conditionals.ratings is not None and batch.has_ratings:
                    rating = conditionals.ratings.given_scores(scores, batch)
                    with poutine.scale(scale=conditionals.ratings.power):
                        pyro.sample(names.RATING, rating, obs=batch.ratings)
            delta = conditionals.reward.delta(
                w[..., batch.pair_prompt, :],
                scores[..., batch.pair_first, :],
                scores[..., batch.pair_second, :],
            )
            likelihood = conditionals.likelihood.given_margin(batch.pair_margin)
            rankings = conditionals.joint_rankings(batch)
            weight = batch.pair_weight
            if rankings is not None:
                reward = conditionals.reward.rewards(w[..., batch.response_prompt, :], scores)
                ranking = Ranking(reward[..., rankings.items], rankings.mask)
                ranked, plate = (rankings.order, rankings.weight), names.RANKING_PLATE
                observe(names.RANKING, plate, ranking, *ranked)
                weight = batch.plain_weight  # the ranking already counts its pairs
            pairs = Preference(delta, likelihood)
            observe(names.PREFERENCE, names.PAIR_PLATE, pairs, batch.preference, weight)

    def collapsed_program(self, batch: FeatureBatch, conditionals: Conditionals) -> None:
        """Sample or score the program with z integrated out; w is the only latent (spec 2.13).

        Exact where every response is in one pair at most and ratings are Gaussian.
        """
        conditionals.check_pairs_alone(batch, "objective collapsed")
        features = conditionals.gaussian
        with pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1):
            w = pyro.sample(names.WEIGHTS, conditionals.weights)
        if conditionals.ratings is not None and batch.has_ratings:
            distribution, _ = marginal_ratings(batch, conditionals)
            observed = torch.where(batch.rating_mask, batch.ratings, distribution.loc)
            with pyro.plate(names.RESPONSE_PLATE, batch.num_responses, dim=-1):
                pyro.sample(names.RATING, distribution, obs=observed)
            loc, covariance = features_given_ratings(batch, conditionals)
            features = Gaussian(loc, torch.linalg.cholesky(covariance))
        mean, var = delta_given_weights(
            w[..., batch.pair_prompt, :],
            features.rows(batch.pair_first),
            features.rows(batch.pair_second),
            conditionals.reward,
        )
        if batch.num_pairs == 0:
            return
        distribution = GaussianDelta(
            mean, root(var), conditionals.likelihood, batch.pair_weight, batch.pair_margin
        )
        with pyro.plate(names.PAIR_PLATE, batch.num_pairs, dim=-1):
            pyro.sample(names.PREFERENCE, distribution, obs=batch.preference)

    def collapsed_guide(self, batch: FeatureBatch, conditionals: Conditionals) -> None:
        """Sample w from q(w | x, outcomes): the proposal of the collapsed objective."""
        with pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1):
            pyro.sample(names.WEIGHTS, self.guide.weights(batch, conditionals))


def _rename_state(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    cast(VRM, module).rename_state(state, prefix)
