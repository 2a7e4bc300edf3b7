"""Check 9: ratings on weights and on scores, their power lambda and their mask."""

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import HIDDEN_SIZE, Arrays, small_batch, small_model
from pyro import poutine

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.guides import FullCovarianceGuide, LabelBlindGuide
from vrm_pyro.models.likelihoods.weight_supervision import weight_targets
from vrm_pyro.models.objectives import IntegratedObjective, Weights
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.objectives.integrated import expected_rating, integrated_terms
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.vrm import VRM
from vrm_pyro.names import RATING
from vrm_pyro.prediction.posterior.refine import FixedGuide


def without_pairs(batch):
    names = ("pair_first", "pair_second", "preference", "pair_weight")
    return replace(batch, **{name: getattr(batch, name)[:0] for name in names})


def maximise(parameters, value):
    """Climb to the top of a smooth function without noise."""
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=1000,
        tolerance_grad=1e-11,
        tolerance_change=1e-16,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimiser.zero_grad()
        result = -value()
        result.backward()
        return result

    optimiser.step(loss)


@pytest.mark.parametrize("power", [0.3, 4.0])
def test_supervised_weights_end_at_the_prior_plus_lambda_targets(power):
    """alpha = alpha_prior + lambda t to 1e-6; value log B(alpha) - log B(alpha_prior)."""
    prior = torch.tensor([0.8, 2.0, 0.5], dtype=torch.float64)
    model = VRM(
        HIDDEN_SIZE, 3, 2, DirichletPrior(prior.tolist()), NormalPrior(), LabelBlindGuide(4),
        LinearReward(3, 2), weight_power=power,
    ).double()  # fmt: skip
    model.weight_prior.concentration.copy_(prior)  # float32 holds no .8
    model.rating_loc.fill_(3.0)
    batch = without_pairs(small_batch())
    conditionals = model.conditionals(batch).detach()
    raw = torch.zeros(batch.num_prompts, 3, dtype=torch.float64, requires_grad=True)

    def value():
        model.guide = FixedGuide(dist.Dirichlet(raw.exp()), conditionals.features)
        return (
            IntegratedObjective(1)
            .terms(model, model.guide, batch, conditionals, Weights())
            .objective
        )

    maximise([raw], value)
    target, present = weight_targets(batch, model.rating_loc, model.rating_scale)
    assert present.all()
    best = prior + power * target
    assert (raw.exp() - best).abs().max() < 1e-6

    def log_beta(alpha):
        return alpha.lgamma().sum(-1) - alpha.sum(-1).lgamma()

    assert value().item() == pytest.approx(
        (log_beta(best) - log_beta(prior)).sum().item(), abs=1e-9
    )


def test_power_and_variance_of_gaussian_ratings_are_one_parameter_of_the_latents():
    """(lambda, tau^2) and (2 lambda, 2 tau^2): the same gradient of every number of q."""
    batch, conditionals = golden.batch(True), golden.conditionals()
    numbers = [
        torch.tensor([[2.4, 1.0]], dtype=torch.float64),
        torch.tensor([[0.7, 0.1], [-0.3, 0.4]], dtype=torch.float64),
        torch.tensor([[0.6, 0.5], [0.7, 0.9]], dtype=torch.float64),
    ]

    def gradient(factor):
        ratings = replace(
            conditionals.ratings,
            power=0.3 * factor,
            scale=conditionals.ratings.scale * factor**0.5,
        )
        alpha, loc, scale = (number.clone().requires_grad_() for number in numbers)
        nodes, log_mass = golden.jacobi_nodes(alpha)
        value = integrated_terms(
            batch,
            replace(conditionals, ratings=ratings),
            dist.Dirichlet(alpha),
            dist.Normal(loc, scale).to_event(1),
            nodes,
            log_mass,
            Weights(),
        ).objective
        return value, torch.autograd.grad(value, [alpha, loc, scale])

    (one, before), (two, after) = gradient(1.0), gradient(2.0)
    for x, y in zip(before, after, strict=True):
        assert (x - y).abs().max() < 1e-10
        assert x.abs().max() > 0.1
    assert abs(one - two) > 0.01  # the values differ: by a constant


@pytest.mark.parametrize("other", [0.0, -7.5, 1e6])
def test_masked_values_change_nothing(other):
    model, batch = small_model(), small_batch()
    assert not batch.rating_mask.all()
    changed = replace(batch, ratings=torch.where(batch.rating_mask, batch.ratings, other))
    results = []
    for data in (batch, changed):
        conditionals = model.conditionals(data)
        torch.manual_seed(3)
        terms = IntegratedObjective(4).terms(model, model.guide, data, conditionals, Weights())
        torch.manual_seed(3)
        trace = poutine.trace(model.program).get_trace(data, conditionals)
        gradient = torch.autograd.grad(terms.objective, list(model.guide.parameters()))
        results.append([terms.objective, trace.log_prob_sum(), *gradient])
    for x, y in zip(*results, strict=True):
        assert torch.equal(x, y)


def test_an_objective_rated_on_some_prompts_is_learned_from_these():
    """Its offset and tau have the gradient that the rated prompts alone give."""
    model, batch = small_model(), small_batch(8)
    mask = batch.rating_mask.clone()
    mask[:, 1] &= batch.response_prompt < 4
    assert mask[:, 1].any()
    dataset = PromptDataset(Arrays(replace(batch, rating_mask=mask)))

    def gradients(prompts):
        data = dataset.batch(np.arange(prompts)).to(torch.float64)
        conditionals = model.conditionals(data)
        q_features = model.guide.posterior(data, conditionals)[1]
        value = expected_rating(data, conditionals, q_features).sum()
        parameters = [model.ratings.offset, model.ratings.scale.log_scale]
        return torch.autograd.grad(value, parameters)

    for whole, part in zip(gradients(8), gradients(4), strict=True):
        assert (whole[1] - part[1]).abs() < 1e-10
        assert (whole[0] - part[0]).abs() > 1e-3


def test_nothing_rated_is_no_rating_site():
    model = small_model()
    for ratings in (True, False):
        batch = small_batch(ratings=ratings)
        trace = poutine.trace(model.program).get_trace(batch, model.conditionals(batch))
        assert (RATING in trace.nodes) == ratings


@pytest.mark.parametrize("power", [1.0, 0.4])
def test_features_given_ratings_are_conjugate(power):
    """The best Gaussian q(z), and the full-covariance guide's: both to 1e-6."""
    model, batch = small_model(power=power), without_pairs(small_batch())
    conditionals = model.conditionals(batch).detach()
    prior, reward, ratings = conditionals.gaussian, conditionals.reward, conditionals.ratings
    loc = prior.loc.clone().requires_grad_()
    factor = torch.diag_embed(prior.scale).requires_grad_()

    def law():
        return dist.MultivariateNormal(loc, scale_tril=factor.tril(), validate_args=False)

    def value():
        kl = kl_terms(conditionals.weights, law(), conditionals)[1]
        return (expected_rating(batch, conditionals, law()) - kl).sum()

    maximise([loc, factor], value)
    q_features = (
        FullCovarianceGuide().build(HIDDEN_SIZE, 3, 2).double().features(batch, conditionals)
    )
    for row in range(batch.num_responses):
        # Bayes' rule for the rows of A that were rated, by hand.
        seen = batch.rating_mask[row]
        loading, noise = reward.loading[seen], power / ratings.scale[seen] ** 2
        precision = torch.diag(prior.scale[row] ** -2) + loading.T @ torch.diag(noise) @ loading
        residual = (batch.ratings[row] - ratings.offset - reward.intercept)[seen]
        natural = prior.loc[row] / prior.scale[row] ** 2 + loading.T @ (noise * residual)
        mean, covariance = torch.linalg.solve(precision, natural), torch.linalg.inv(precision)
        for found in (law(), q_features):
            assert (found.loc[row] - mean).abs().max() < 1e-6
            assert (found.covariance_matrix[row] - covariance).abs().max() < 1e-6
