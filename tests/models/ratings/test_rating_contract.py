"""One contract for every entry of the table of rating likelihoods."""

from dataclasses import replace

import pyro
import pytest
import torch
from helpers.problems import assert_within, by_prompt, small_batch, small_model
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.models.conjugate import features_given_ratings, rating_log_prob
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.objectives import (
    IntegratedObjective,
    PairwiseObjective,
    SampledObjective,
    Weights,
)
from vrm_pyro.models.ratings import RATING_LIKELIHOODS, RatingValues

NAMES = sorted(RATING_LIKELIHOODS)
EACH = pytest.mark.parametrize("name", NAMES)
# What a rating can be; others take any real number.
LEVELS = {"BernoulliRatings": torch.linspace(0, 1, 2), "OrdinalRatings": torch.linspace(0, 1, 5)}
SCORES = torch.linspace(-3, 3, 7, dtype=torch.float64)
POWER = 0.4


def build(name, power=POWER, seed=0, num_objectives=3):
    """Return the module with every parameter moved off its start."""
    module = RATING_LIKELIHOODS[name]().build(num_objectives, power).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.3 * noise)
    return module


def elementwise(name):
    """Whether a rating depends on its own score alone."""
    return type(build(name)()).log_prob is not RatingValues.log_prob


# Ratings known up to a level of their prompt have no marginal distribution: test_difference.py.
ALONE = pytest.mark.parametrize("name", [name for name in NAMES if elementwise(name)])


def rated_batch(name, **settings):
    """Return a batch with missing ratings, all of them within the scale of the likelihood."""
    batch = small_batch(**settings)
    if RATING_LIKELIHOODS[name].scale_kind != "unit":
        return batch
    ratings = torch.sigmoid(batch.ratings)
    levels = LEVELS.get(name)
    if levels is not None:  # every other one a level, the rest between two
        nearest = (ratings.unsqueeze(-1) - levels).abs().argmin(-1)
        ratings = torch.where(ratings > 0.5, levels[nearest].double(), ratings)
    return replace(batch, ratings=ratings)


def problem(name, **settings):
    """Return a model with this rating likelihood, a batch and the heads of both."""
    model, batch = small_model(), rated_batch(name, **settings)
    model.ratings = build(name)
    return model, batch, model.conditionals(batch)


@EACH
def test_what_ratings_say_of_scores_counts_by_their_power(name):
    """The site that updates z: lambda times the precision, at the same target."""
    model, batch, heads = problem(name)
    scores = heads.reward.scores(heads.features.mean)
    (once, target), (tempered, same) = (
        build(name, power)().site(batch, scores) for power in (1.0, POWER)
    )
    assert once.max() > 0
    assert torch.allclose(tempered, POWER * once)
    assert torch.allclose(torch.where(once > 0, same - target, 0.0), torch.zeros_like(target))


def law_of_rating(name, values):
    """Return possible ratings (S, 1, 1), their probabilities (S, scores, K), at SCORES."""
    if name in LEVELS:
        ratings = LEVELS[name].double()
        step = torch.ones(len(ratings)).double()
    else:
        ratings = torch.linspace(-30, 30, 60_001, dtype=torch.float64)
        step = torch.full((60_001,), 60 / 60_000, dtype=torch.float64)
    ratings, step = ratings[:, None, None], step[:, None, None]
    scores = SCORES[:, None].expand(-1, 3)
    return ratings, step * values.log_prob(scores, ratings).exp(), scores


@ALONE
def test_mass_is_one_and_the_mean_is_the_mean(name):
    values = build(name)()
    ratings, mass, scores = law_of_rating(name, values)
    assert torch.allclose(mass.sum(0), torch.ones(7, 3).double(), atol=1e-9)
    assert torch.allclose((mass * ratings).sum(0), values.mean(scores), atol=1e-9)


@ALONE
def test_slope_is_the_derivative(name):
    values = build(name)()
    scores = torch.randn(40, 3).double().requires_grad_()
    ratings = rated_batch(name, num_prompts=20).ratings[:40]
    (gradient,) = torch.autograd.grad(values.log_prob(scores, ratings).sum(), scores)
    slope = values.slope(scores, ratings).detach()
    assert torch.allclose(slope, gradient, rtol=1e-8, atol=1e-10)
    step = 1e-5
    difference = values.log_prob(scores + step, ratings) - values.log_prob(scores - step, ratings)
    assert torch.allclose(slope, difference / (2 * step), rtol=1e-5, atol=1e-6)


@ALONE
def test_information_is_the_variance_of_the_slope(name):
    values = build(name)()
    ratings, mass, scores = law_of_rating(name, values)
    slope = values.slope(scores.expand(len(ratings), 7, 3), ratings)
    assert (mass * slope).sum(0).abs().max() < 1e-8
    information = values.information(scores)
    assert torch.allclose((mass * slope**2).sum(0), information, rtol=1e-7)
    assert (information > 0).all()
    # Where a rating says nothing any more, the guide still divides by it.
    assert (values.information(torch.full((1, 3), 60.0).double()) > 0).all()


@ALONE
def test_draws_have_the_mean_and_the_frequencies(name):
    values = build(name)()
    scores = SCORES[:, None].expand(-1, 3)
    drawn = values.sample(scores.expand(40_000, 7, 3))
    assert not drawn.requires_grad
    assert_within(drawn.mean(0), values.mean(scores), drawn.std(0) / 40_000**0.5 + 1e-12, 4.5)
    for level in LEVELS.get(name, []):
        chance = values.log_prob(scores, level.double()).exp()
        error = (chance * (1 - chance) / 40_000).sqrt()
        assert_within((drawn == level).double().mean(0), chance, error, 4.5)


@EACH
def test_expected_log_prob_by_draws(name):
    model, batch, conditionals = problem(name)
    loc = torch.randn(batch.num_responses, 3).double()
    variance = torch.rand_like(loc) + 0.1
    scores = loc + variance.sqrt() * torch.randn(40_000, *loc.shape).double()
    log_prob = POWER * conditionals.ratings.given_scores(scores, batch).log_prob(batch.ratings)
    exact = conditionals.ratings.expected_log_prob(batch, loc, variance)

    if elementwise(name):
        assert_within(exact, log_prob.mean(0), log_prob.std(0) / 40_000**0.5 + 1e-12, 4.5)
    # What responses of a prompt share may be booked on any of them.
    drawn = by_prompt(batch, log_prob)
    assert_within(by_prompt(batch, exact), drawn.mean(0), drawn.std(0) / 40_000**0.5 + 1e-12, 4.5)


@ALONE
def test_composite_by_a_fine_grid(name):
    """The sum over ratings of log E p(y | s)^lambda, each with its own score integrated out."""
    values, batch = build(name)(), rated_batch(name)
    loc = torch.randn(batch.num_responses, 3).double()
    variance = torch.rand_like(loc) + 0.1
    grid = torch.linspace(-9, 9, 4001, dtype=torch.float64)[:, None, None]
    mass = torch.exp(-0.5 * grid**2) * (18 / 4000) / (2 * torch.pi) ** 0.5
    log_prob = values.log_prob(loc + variance.sqrt() * grid, batch.ratings)
    each = (mass * (POWER * log_prob).exp()).sum(0).log()
    exact = torch.where(batch.rating_mask, each, 0.0).sum(-1)
    # 32 nodes of Gauss-Hermite.
    assert torch.allclose(values.composite_log_prob(batch, loc, variance), exact, atol=1e-5)


@EACH
def test_what_stands_under_the_mask_never_matters(name):
    model, batch, conditionals = problem(name)
    ratings = conditionals.ratings
    other = replace(batch, ratings=torch.where(batch.rating_mask, batch.ratings, 0.987654e3))
    loc, variance = torch.randn(2, batch.num_responses, 3).double().abs()
    for read in (
        lambda b: ratings.given_scores(loc, b).log_prob(b.ratings),
        lambda b: ratings.expected_log_prob(b, loc, variance),
        lambda b: ratings.composite_log_prob(b, loc, variance),
        lambda b: rating_log_prob(b, conditionals),
        lambda b: ratings.site(b, loc)[0],
        lambda b: ratings.site(b, loc)[0] * ratings.site(b, loc)[1],
        lambda b: features_given_ratings(b, conditionals)[0],
    ):
        assert torch.equal(read(batch), read(other))


@EACH
def test_nothing_rated_says_nothing(name):
    model, batch, conditionals = problem(name, ratings=False)
    ratings, loc = conditionals.ratings, torch.randn(batch.num_responses, 3).double()
    zero = torch.zeros(batch.num_responses).double()
    for value in (
        ratings.given_scores(loc, batch).log_prob(batch.ratings),
        ratings.expected_log_prob(batch, loc, torch.ones_like(loc)),
        ratings.composite_log_prob(batch, loc, torch.ones_like(loc)),
        ratings.site(batch, loc)[0].sum(-1),
    ):
        assert torch.equal(value, zero)
    assert torch.allclose(
        features_given_ratings(batch, conditionals)[0], conditionals.gaussian.loc
    )


@EACH
def test_program_scores_draws_side_by_side(name):
    model, batch, conditionals = problem(name)
    with pyro.plate("draws", 7, dim=-2):
        trace = poutine.trace(model.program).get_trace(batch, conditionals)
    trace.compute_log_prob()
    site, z = trace.nodes[names.RATING], trace.nodes[names.FEATURES]["value"]
    assert site["log_prob"].shape == (7, batch.num_responses)
    for draw in range(7):
        law = conditionals.ratings.given_scores(conditionals.reward.scores(z[draw]), batch)
        single = POWER * law.log_prob(batch.ratings)
        assert torch.allclose(site["log_prob"][draw], single, rtol=1e-10)


@EACH
def test_law_is_one_of_pyro_s(name):
    _, batch, conditionals = problem(name)
    law = conditionals.ratings.given_scores(torch.randn(batch.num_responses, 3).double(), batch)
    assert law.batch_shape == (batch.num_responses,)
    assert law.event_shape == (3,)
    drawn = law.sample((5,))
    assert drawn.shape == (5, batch.num_responses, 3)
    each = torch.stack([law.log_prob(value) for value in drawn])
    assert torch.allclose(law.log_prob(drawn), each)
    wide = law.expand((4, batch.num_responses))
    assert wide.sample().shape == (4, batch.num_responses, 3)
    same = wide.log_prob(batch.ratings)
    assert torch.allclose(same, law.log_prob(batch.ratings).expand(4, -1))


# How far the mean of z may lie from the mode, in standard deviations of z: a few steps of
# Fisher scoring; alternating between the responses of a prompt takes more of them.
FROM_MODE = {"GaussianRatings": 1e-6, "DifferenceRatings": 0.1, "PromptLevelRatings": 0.1}


@EACH
def test_update_of_the_features_ends_near_the_mode(name):
    model, batch, _ = problem(name)
    model.ratings = build(name, power=1.0)
    conditionals = model.conditionals(batch).detach()
    prior = conditionals.gaussian
    z = prior.loc.clone().requires_grad_()
    optimiser = torch.optim.LBFGS(
        [z],
        max_iter=500,
        tolerance_grad=1e-10,
        tolerance_change=1e-14,
        line_search_fn="strong_wolfe",
    )

    def loss():
        optimiser.zero_grad()
        law = conditionals.ratings.given_scores(conditionals.reward.scores(z), batch)
        value = -conditionals.features.log_prob(z).sum() - law.log_prob(batch.ratings).sum()
        value.backward()
        return value

    optimiser.step(loss)
    loc, covariance = features_given_ratings(batch, conditionals)
    sd = covariance.diagonal(dim1=-2, dim2=-1).sqrt()
    off, moved = ((x - z).abs() / sd for x in (loc, prior.loc))
    assert off.max() < FROM_MODE.get(name, 0.02)
    assert moved.max() > 0.15  # ratings matter here
    assert (sd <= prior.variance.sqrt() + 1e-12).all()


@EACH
def test_settings_and_values_agree(name):
    kind, module = RATING_LIKELIHOODS[name], build(name)
    assert kind.conjugate == module().conjugate
    assert kind.scale_kind in ("standard", "unit")
    assert module().power == POWER
    assert kind() == kind()
    with pytest.raises(TypeError, match="unexpected keyword"):
        kind(tua=1.0)


@EACH
def test_unit_of_the_ratings(name):
    raw = torch.tensor([1.0, 2.0, 4.0, 5.0]).double().numpy()
    kind = RATING_LIKELIHOODS[name]
    loc, scale = kind.unit(raw)
    standard = (raw - loc) / scale
    if kind.scale_kind == "unit":
        assert (standard.min(), standard.max()) == (0, 1)
    else:
        assert standard.mean() == pytest.approx(0)
        assert standard.std() == pytest.approx(1)
    assert kind.unit(raw[:0]) == (0.0, 1.0)
    assert kind.unit(raw[:1])[1] == 1.0


@EACH
def test_parameters_survive_saving(name):
    module, batch = build(name, seed=3), rated_batch(name)
    again = RATING_LIKELIHOODS[name]().build(3, POWER).double()
    again.load_state_dict(module.state_dict())
    loc = torch.randn(batch.num_responses, 3).double()
    one, two = (m().expected_log_prob(batch, loc, torch.ones_like(loc)) for m in (module, again))
    assert torch.equal(one, two)
    detached = module().detach().expected_log_prob(batch, loc, torch.ones_like(loc))
    assert torch.equal(one, detached)
    assert not detached.requires_grad


@EACH
def test_gradients_reach_every_parameter(name):
    model, batch, conditionals = problem(name)
    rating_log_prob(batch, conditionals).sum().backward()
    for parameter_name, parameter in model.ratings.named_parameters():
        assert (parameter.grad.abs() > 0).all(), parameter_name


@EACH
def test_an_objective_that_nobody_rated_leaves_gradients_finite(name):
    module, batch = build(name).float(), rated_batch(name).to(torch.float32)
    mask = batch.rating_mask.clone()
    mask[:, 1] = False
    batch = replace(batch, rating_mask=mask)
    loc = torch.randn(batch.num_responses, 3, requires_grad=True)
    variance = torch.ones_like(loc, requires_grad=True)
    values = module()
    total = values.expected_log_prob(batch, loc, variance).sum()
    total = total + values.composite_log_prob(batch, loc, variance).sum()
    total = total + values.given_scores(loc, batch).log_prob(batch.ratings).sum()
    precision, target = values.site(batch, loc)
    (total + (precision * target).sum()).backward()
    for tensor in (loc, variance, *module.parameters()):
        assert torch.isfinite(tensor.grad).all()


@EACH
def test_float32_agrees_with_float64(name):
    batch, loc = rated_batch(name), torch.randn(14, 3).double()
    results = []
    for dtype in (torch.float64, torch.float32):
        values, data, scores = build(name).to(dtype)(), batch.to(dtype), loc[: batch.num_responses]
        scores = scores.to(dtype)
        results.append(
            torch.stack(
                [
                    values.given_scores(scores, data).log_prob(data.ratings),
                    values.expected_log_prob(data, scores, torch.ones_like(scores)),
                    values.composite_log_prob(data, scores, torch.ones_like(scores)),
                    values.site(data, scores)[1].sum(-1),
                ]
            )
        )
        assert results[-1].dtype == dtype
        assert values.sample(scores).dtype == dtype
    assert torch.allclose(results[0].float(), results[1], rtol=1e-4, atol=1e-4)


@EACH
def test_integrated_equals_sampled_in_expectation(name):
    model, batch, conditionals = problem(name)
    estimates = []
    with torch.no_grad():
        for kind in (SampledObjective, IntegratedObjective):
            objective = kind(400)
            values = torch.stack(
                [
                    objective.terms(model, model.guide, batch, conditionals, Weights()).objective
                    for _ in range(10)
                ]
            )
            estimates.append((values.mean(), values.var() / 10))
    (sampled, variance), (integrated, other) = estimates
    error = (variance + other).sqrt()
    assert error < 0.15
    assert abs(sampled - integrated) < 4.5 * error


@pytest.mark.parametrize("objective", [IntegratedObjective, SampledObjective, PairwiseObjective])
@EACH
def test_training_brings_the_loss_down(name, objective):
    model, batch, _ = problem(name)
    objective = objective(8)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.03)

    def loss():
        torch.manual_seed(3)
        return objective.differentiable_loss(model, model.guide, batch, model.conditionals(batch))

    start = loss().item()
    for _ in range(8):
        optimiser.zero_grad()
        loss().backward()
        optimiser.step()
    assert loss().item() < start - 0.05
    q_features = as_gaussian(model.guide.features(batch, model.conditionals(batch)))
    assert q_features.loc.isfinite().all()
