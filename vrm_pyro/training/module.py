"""The module that transformers.Trainer trains: a batch to a loss, with its parts logged."""

from collections import defaultdict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.local_parameters import local_parameters
from vrm_pyro.models.objectives import IntegratedObjective, SampledObjective, Terms, Weights
from vrm_pyro.models.predictive import count_active, log_loss_values
from vrm_pyro.models.priors.shrinkage import ShrinkageMap
from vrm_pyro.models.rating_scores import rating_scores
from vrm_pyro.models.reference_kl import (
    FEATURE_THRESHOLD,
    kl_features,
    kl_weights,
    weight_threshold,
)
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.config import ModelConfig, build_objective
from vrm_pyro.models.vrm import VRM

# Where warm-up starts: Pyro's scale handler refuses 0.
_FIRST_KL_WEIGHT = 0.01
_VALIDATION_DRAWS = 8


class TrainingModule(nn.Module):
    """Model and objective in one module: ``forward(**batch)`` returns ``{"loss": ...}``.

    All computation with trained parameters is inside ``forward``, so that DDP's hooks run.

    Args:
        model: VRM, ensemble or baseline.
        config: Settings.
        population: Number of training prompts. The prior of global parameters counts once for
            the whole data set, so each prompt has 1 / population of it.
    """

    def __init__(self, model: RewardModel, config: ModelConfig, population: int) -> None:
        super().__init__()
        self.model = model
        self.config = config
        self.objective = build_objective(config)
        #: Share of the steps done, set by the Trainer's callback; sets the KL warm-up.
        self.progress = 1.0
        self.population = population
        self._sums: dict[str, float] = defaultdict(float)
        self._steps = 0

    @local_parameters()
    def forward(
        self,
        prompts: Tensor,
        responses: Tensor,
        response_prompt: Tensor,
        pair_first: Tensor,
        pair_second: Tensor,
        preference: Tensor,
        pair_weight: Tensor,
        ratings: Tensor,
        rating_mask: Tensor,
        pair_margin: Tensor | None = None,
        pair_ranking: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Return the loss per prompt; in evaluation mode, the log loss and sums per prompt."""
        batch = FeatureBatch(
            prompts,
            responses,
            response_prompt,
            pair_first,
            pair_second,
            preference,
            pair_weight,
            ratings,
            rating_mask,
            pair_margin,
            pair_ranking,
        )
        # Every distribution in float32 at least: Dirichlet has no half-precision sampler.
        with torch.autocast(prompts.device.type, enabled=False):
            if not self.training:
                return self._evaluate(batch)
            losses = [self._vrm_loss(member, batch) for member in latent_members(self.model)]
            if losses:  # of an ensemble, the sum: each member has the gradient it has alone
                return {"loss": sum(losses[1:], losses[0])}
            each = self.model.member_log_likelihoods(batch)
            # Mean over members, comparable for any ensemble size.
            log_likelihood = each.detach().mean() / max(batch.num_pairs, 1)
            self._note({"log_lik_preference": log_likelihood})
            return {"loss": -each.sum() / batch.num_prompts}

    def _evaluate(self, batch: FeatureBatch) -> dict[str, Tensor]:
        """Return the log loss and sums per prompt: pairs, ELBO, ratings.

        Sums of log score, hits and weight of the pairs; the ELBO and its part of preferences; log
        score and number of the ratings.
        """
        probability = self.model.predict_pairs(batch)
        log_prob = -log_loss_values(probability, batch.preference)
        right = ((probability > 0.5) == (batch.preference > 0.5)).to(log_prob.dtype)
        right = torch.where(probability == 0.5, 0.5, right)
        weight = batch.pair_weight
        zero = torch.zeros_like(weight)
        sums = log_prob.new_zeros(batch.num_prompts, 7).index_add(
            0,
            batch.pair_prompt,
            torch.stack([weight * log_prob, weight * right, weight, *[zero] * 4], dim=-1),
        )
        sums[:, 3], sums[:, 4] = self._validation_elbo(batch)
        if self.model.scores_are_ratings and batch.has_ratings:
            scores = rating_scores(self.model, batch)
            each = torch.stack([scores.log_prob.sum(-1), scores.counts.sum(-1)], dim=-1)
            sums[:, 5:].index_add_(0, batch.response_prompt, each.to(sums.dtype))
        return {"loss": -sums[:, 0].sum() / sums[:, 2].sum().clamp(min=1e-12), "sums": sums}

    @torch.no_grad()
    def _validation_elbo(self, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
        """Return the ELBO per prompt, and its part of preferences and weights alone.

        The guide conditions on the outcomes; the seed of w is fixed. The second number leaves out
        the rating terms and KL(q(z) || p(z)): it measures how well p(w | x) explains the
        preferences *given* the ratings. For a Bradley-Terry model both are the log-likelihood,
        for an ensemble the mean over members.
        """
        members = latent_members(self.model)
        if not members:
            value = self.model.log_likelihood(batch) / batch.num_prompts
            return value, value
        found = [_elbo(member, batch) for member in members]
        elbo, given_ratings = (sum(each) / len(members) for each in zip(*found, strict=True))
        return elbo / batch.num_prompts, given_ratings / batch.num_prompts

    def _vrm_loss(self, model: VRM, batch: FeatureBatch) -> Tensor:
        loss = model.with_drawn_head(lambda: self._loss_at_head(model, batch))
        if isinstance(model.weight_prior, ShrinkageMap):  # that of features is a posterior below
            divergence, tau = model.weight_prior.divergence(), model.weight_prior.tau
            self._note({"kl_map": divergence.detach(), "tau": tau.detach()}, step=False)
            loss = loss + divergence / self.population
        if model.parameter_posterior is None:
            return loss
        # The penalty counts once for the data set, and the loss is per prompt.
        penalty = model.parameter_posterior.penalty(model)
        self._note({model.parameter_posterior.penalty_name: penalty.detach()}, step=False)
        return loss + penalty / self.population

    def _loss_at_head(self, model: VRM, batch: FeatureBatch) -> Tensor:
        batch = model.standardize(batch)
        conditionals = model.conditionals(batch)
        terms = self.objective.terms(model, model.guide, batch, conditionals, self.weights())
        objective = terms.objective
        penalty = objective.new_zeros(())
        if self.config.mode == "conditional" and self.config.hyperprior_weight > 0:
            penalty = self.config.hyperprior_weight * hyperprior_divergence(conditionals)
        self._note(self._parts(model, batch, conditionals, terms, penalty))
        log_prior = conditionals.likelihood.log_prior() / self.population
        return (penalty - objective) / batch.num_prompts - log_prior

    def weights(self) -> Weights:
        """Return the KL weights of this step; only mode ``vib`` has warm-up and free bits."""
        if self.config.mode == "conditional":
            return Weights()
        ramp = 1.0
        if self.config.warmup_fraction > 0:
            ramp = min(1.0, self.progress / self.config.warmup_fraction)
        factor = _FIRST_KL_WEIGHT + (1 - _FIRST_KL_WEIGHT) * ramp
        return Weights(
            self.config.kl_weights * factor,
            self.config.kl_features * factor,
            self.config.free_bits_weights,
            self.config.free_bits_features,
        )

    @torch.no_grad()
    def _parts(
        self,
        model: VRM,
        batch: FeatureBatch,
        conditionals: Conditionals,
        terms: Terms,
        penalty: Tensor,
    ) -> dict[str, Tensor | float]:
        """Return the logged values in nats per prompt; kl_features in nats per response."""
        prompts, pairs = batch.num_prompts, max(batch.num_pairs, 1)
        if self.config.mode == "conditional":
            weight_mean, feature_mean = conditionals.weights.mean, conditionals.features.mean
        else:
            q_weights, q_features = model.guide.posterior(batch, conditionals)
            weight_mean, feature_mean = q_weights.mean, q_features.mean
        score = conditionals.reward.scores(feature_mean)
        delta = conditionals.reward.delta(
            weight_mean[batch.pair_prompt], score[batch.pair_first], score[batch.pair_second]
        )
        right = ((delta > 0) == (batch.preference > 0.5)).float()
        return {
            "objective": terms.objective / prompts,
            "elbo": terms.elbo / prompts,
            "log_lik_preference": terms.preference / pairs,
            "log_lik_rating": terms.rating / prompts,
            "kl_weights": terms.kl_weights / prompts,
            "kl_features": terms.kl_features / batch.num_responses,
            "hyperprior_penalty": penalty / prompts,
            "kappa_weights": self.weights().kl_weights,
            "active_units_weights": count_active(
                weight_mean, weight_threshold(weight_mean.shape[-1])
            ),
            "active_units_features": count_active(feature_mean, FEATURE_THRESHOLD),
            "accuracy": right.mean() if batch.num_pairs else 0.0,
        }

    def _note(self, parts: Mapping[str, Tensor | float], step: bool = True) -> None:
        for name, value in parts.items():
            self._sums[name] += float(value)
        self._steps += step

    def take_log(self) -> dict[str, float]:
        """Return the logged values averaged over the steps since the last call, and reset."""
        values = {name: total / self._steps for name, total in self._sums.items()}
        self._sums.clear()
        self._steps = 0
        return values


def _elbo(model: VRM, batch: FeatureBatch) -> tuple[Tensor, Tensor]:
    """Return the ELBO of a batch and its part of preferences and weights alone, seed fixed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        batch = model.standardize(batch)
        conditionals = model.conditionals(batch)
        closed = model.guide.gaussian and conditionals.joint_rankings(batch) is None
        kind = IntegratedObjective if closed else SampledObjective
        objective = kind(_VALIDATION_DRAWS)
        terms = objective.terms(model, model.guide, batch, conditionals, Weights())
    return terms.elbo, terms.preference - terms.kl_weights


def hyperprior_divergence(conditionals: Conditionals) -> Tensor:
    """Return KL(p_theta(w, z | x, y) || Dir(1) x N(0, I)), summed over the batch (spec 2.2)."""
    divergence = kl_weights(conditionals.weights).sum() + kl_features(conditionals.features).sum()
    return divergence.to(conditionals.reward.scale.dtype)
