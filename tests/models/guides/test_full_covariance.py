"""The guide with all of the covariance of z, and what the best one of its kind reaches."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import random_conditionals, small_batch

from vrm_pyro.models.distributions import weight_nodes
from vrm_pyro.models.guides import FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.models.objectives import Weights
from vrm_pyro.models.objectives.integrated import integrated_terms

RATINGS = pytest.mark.parametrize("ratings", [False, True], ids=["labels", "ratings"])
BEST_FULL = {False: -0.6812317575, True: -5.1864443984}


def bound(ratings, q_weights, q_features):
    """Return the integrated ELBO with w by Gauss-Jacobi: a number without noise."""
    nodes, log_mass = golden.jacobi_nodes(q_weights.concentration)
    return integrated_terms(
        golden.batch(ratings),
        golden.conditionals(),
        q_weights,
        q_features,
        nodes,
        log_mass,
        Weights(),
    ).objective


@RATINGS
def test_the_best_free_gaussian_reaches_the_golden_number(ratings):
    """By turns: LBFGS in loc and factor of z, a Newton step by differences in alpha."""
    start = golden.guide(ratings)
    loc = start[1].base_dist.loc.clone().requires_grad_()
    factor = torch.diag_embed(start[1].base_dist.scale).requires_grad_()
    log_alpha = start[0].concentration.log().clone()

    def value(raw):
        q_features = dist.MultivariateNormal(loc, scale_tril=factor.tril(), validate_args=False)
        return bound(ratings, dist.Dirichlet(raw.exp()), q_features)

    for _ in range(8):
        optimiser = torch.optim.LBFGS([loc, factor], max_iter=40, line_search_fn="strong_wolfe")

        def loss(optimiser=optimiser):
            optimiser.zero_grad()
            result = -value(log_alpha)
            result.backward()
            return result

        optimiser.step(loss)
        with torch.no_grad():  # one Newton step in each log concentration
            for k in range(2):
                step = torch.zeros_like(log_alpha)
                step[0, k] = 1e-3
                low, mid, high = (value(log_alpha + t * step).item() for t in (-1, 0, 1))
                curvature = (high - 2 * mid + low) / 1e-6
                log_alpha[0, k] -= 0.5 * (high - low) / 1e-3 / min(curvature, -1e-3)
    best = value(log_alpha).item()
    assert best == pytest.approx(BEST_FULL[ratings], abs=1e-6)
    assert best > golden.BEST_DIAGONAL[ratings] + 1e-4


@RATINGS
def test_the_amortized_guide_comes_near_it(ratings):
    """Its own parameters fitted to this one prompt; with the full covariance above diagonal."""
    reached = {}
    for kind in (FullCovarianceGuide, OutcomeAwareGuide):
        torch.manual_seed(0)
        guide = kind().build(1, 2, 2).double()
        optimiser = torch.optim.Adam(guide.parameters(), lr=0.05)
        batch, conditionals = golden.batch(ratings), golden.conditionals()
        even = torch.full((64,), 1 / 64).double().log()
        for _ in range(60):
            q_weights, q_features = guide.posterior(batch, conditionals)
            nodes = weight_nodes(q_weights, 64)  # unlike Gauss-Jacobi nodes, they follow alpha
            terms = integrated_terms(
                batch, conditionals, q_weights, q_features, nodes, even, Weights()
            )
            optimiser.zero_grad()
            (-terms.objective).backward()
            optimiser.step()
        reached[kind] = bound(ratings, *guide.posterior(batch, conditionals)).item()
    best = BEST_FULL[ratings]
    assert best - 0.02 < reached[FullCovarianceGuide] < best + 1e-6
    assert reached[OutcomeAwareGuide] < golden.BEST_DIAGONAL[ratings] + 1e-6


def test_a_correlated_prior_keeps_its_correlation():
    """Ratings on a dense prior covariance: Bayes' rule on the scores, row by row."""
    batch = small_batch(num_objectives=4)
    pairs = ("pair_first", "pair_second", "preference", "pair_weight")
    batch = replace(batch, **{key: getattr(batch, key)[:0] for key in pairs})
    conditionals = random_conditionals(batch.num_prompts, batch.num_responses)
    factor = torch.randn(batch.num_responses, 4, 4).double().tril(-1)
    factor = factor + torch.diag_embed(torch.rand(batch.num_responses, 4).double() + 0.4)
    prior = dist.MultivariateNormal(conditionals.features.mean, scale_tril=factor)
    conditionals = replace(conditionals, features=prior)
    q = FullCovarianceGuide().build(3, 4, 4).double().features(batch, conditionals)
    for row in range(batch.num_responses):
        seen = batch.rating_mask[row]
        loading = conditionals.reward.loading[seen]
        cross = prior.covariance_matrix[row] @ loading.T
        noise = torch.diag(conditionals.ratings.scale[seen] ** 2)
        gain = cross @ torch.linalg.inv(loading @ cross + noise)
        expected = conditionals.reward.scores(prior.loc[row]) + conditionals.ratings.offset
        mean = prior.loc[row] + gain @ (batch.ratings[row] - expected)[seen]
        covariance = prior.covariance_matrix[row] - gain @ cross.T
        assert torch.allclose(q.loc[row], mean, atol=1e-9)
        assert torch.allclose(q.covariance_matrix[row], covariance, atol=1e-9)
