"""Log scores of ratings against draws of the scores, mixtures and hand-made numbers."""

from dataclasses import replace

import pytest
import torch
from helpers.problems import assert_within, small_batch, small_model

from vrm_pyro.models.distributions.gaussian import as_gaussian
from vrm_pyro.models.ensemble import VRMEnsemble
from vrm_pyro.models.priors import ShrinkageNormalPrior
from vrm_pyro.models.rating_scores import rating_scores
from vrm_pyro.models.ratings import DifferenceRatings, GaussianRatings, OrdinalRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig

POWER = 0.1


@pytest.mark.parametrize("kind", [GaussianRatings(0.7), OrdinalRatings()])
@torch.no_grad()
def test_a_rating_scores_by_its_density_given_the_text(kind):
    """The power of training plays no part."""
    model = small_model()
    model.ratings = kind.build(3, POWER).double()
    batch = small_batch()
    if isinstance(kind, OrdinalRatings):
        batch = replace(batch, ratings=batch.ratings.sigmoid().round())
    found = rating_scores(model, batch)
    features = as_gaussian(model.predictive_features(batch.responses))
    reward, values = model.reward(), kind.build(3, 1.0).double()
    values.load_state_dict(model.ratings.state_dict())
    sd = features.mapped_variance(reward.loading).sqrt()
    grid = torch.linspace(-8, 8, 2001, dtype=torch.float64)[:, None, None]
    mass = torch.exp(-0.5 * grid**2) * (16 / 2000) / (2 * torch.pi) ** 0.5
    each = values().log_prob(reward.scores(features.loc) + sd * grid, batch.ratings)
    exact = (mass * each.exp()).sum(0).log()
    assert torch.equal(found.counts, batch.rating_mask)
    assert torch.allclose(found.log_prob, exact.where(batch.rating_mask, exact * 0), atol=1e-5)


@torch.no_grad()
def test_an_ensemble_scores_by_the_mean_of_its_members_densities():
    members = [small_model(seed=seed) for seed in (1, 2)]
    batch = small_batch()
    each = torch.stack([rating_scores(member, batch).log_prob for member in members])
    found = rating_scores(VRMEnsemble(members), batch)
    mean = each.exp().mean(0).log().where(batch.rating_mask, torch.zeros(()).double())
    assert torch.allclose(found.log_prob, mean)


@torch.no_grad()
def test_differences_within_a_prompt_score_where_levels_are_unknown():
    model = small_model(num_objectives=1, latent_dim=1)
    model.ratings = DifferenceRatings(0.5).build(1, POWER).double()
    batch = small_batch(num_prompts=1, num_objectives=1)
    batch = replace(batch, rating_mask=torch.ones_like(batch.rating_mask))  # of 2 responses
    found = rating_scores(model, batch)
    moved = rating_scores(model, replace(batch, ratings=batch.ratings + 7))
    assert torch.allclose(found.log_prob, moved.log_prob)  # the level plays no part
    features = as_gaussian(model.predictive_features(batch.responses))
    reward = model.reward()
    gap = (batch.ratings - reward.scores(features.loc))[:, 0]
    variance = features.mapped_variance(reward.loading).sum() + 2 * 0.5**2
    exact = torch.distributions.Normal(0.0, variance.sqrt()).log_prob(gap[0] - gap[1])
    assert found.log_prob.sum() == pytest.approx(float(exact), rel=1e-6)
    alone = replace(batch, rating_mask=torch.tensor([[True], [False]]))
    assert not rating_scores(model, alone).counts.any()


@torch.no_grad()
def test_the_map_of_a_shrinkage_prior_is_integrated_out_of_differences():
    """The closed form is the mean density over draws of the map, where a prompt has two."""
    torch.manual_seed(0)
    config = ModelConfig(
        scores="identity",
        latent_dim=3,
        feature_prior=ShrinkageNormalPrior(),
        rating_likelihood=DifferenceRatings(0.5),
        head_draws=4000,
    )
    model = build_model(config, 3, 3, rated=True).eval().double()
    batch = replace(
        small_batch(num_prompts=1),
        rating_mask=torch.ones(2, 3, dtype=torch.bool),
    )
    found = rating_scores(model, batch).log_prob.sum(0)
    density = density_of_the_difference(model, batch)
    drawn = torch.stack(model.over_parameters(density)).exp()
    assert_within(found.exp(), drawn.mean(0), drawn.std(0) / 4000**0.5, 4.5)


def density_of_the_difference(model, batch):
    """Return the log density of the difference of the two ratings at a value of the map."""

    def density():
        features = as_gaussian(model.predictive_features(batch.responses))
        variance = features.mapped_variance(model.reward().loading).sum(0)
        gap = batch.ratings - model.reward().scores(features.loc)
        noise = 2 * model.ratings().scale ** 2
        return torch.distributions.Normal(0.0, (variance + noise).sqrt()).log_prob(gap[0] - gap[1])

    return density
