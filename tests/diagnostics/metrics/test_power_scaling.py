import math

import numpy as np
import pytest
from arviz_stats.base import array_stats
from scipy import stats
from scipy.integrate import quad

from vrm_pyro.diagnostics.metrics.power_scaling import (
    ALPHAS,
    cjs_distance,
    khat_limit,
    khat_of_power,
    power_scaling_index,
    smooth,
)

# An index has the noise of a few hundred effective draws; means over so many repetitions.
REPEATS = 60


def exact_index(base, scaled, num_draws):
    """The index by adaptive quadrature, from the distribution functions of exact posteriors.

    ``scaled`` maps a power to the power-scaled posterior. The range is what ``num_draws`` draws
    span. Written from the definition, sqrt of the sum of both divergences over their bound, with
    no call of the code under test.
    """
    low, high = base.ppf([1 / num_draws, 1 - 1 / num_draws])
    index = 0.0
    for alpha in ALPHAS:
        other = scaled(alpha)
        distances = []
        for function in ("cdf", "sf"):
            p, q = getattr(base, function), getattr(other, function)

            def divergence(x, p=p, q=q):
                a, b = p(x), q(x)
                middle = (a + b) / 2
                return a * math.log2(a / middle) + b * math.log2(b / middle)

            def bound(x, p=p, q=q):
                return p(x) + q(x)

            top = quad(divergence, low, high, epsabs=1e-13, epsrel=1e-8, limit=400)[0]
            distances.append(math.sqrt(max(top, 0) / quad(bound, low, high)[0]))
        index += max(distances) / abs(math.log2(alpha)) / 2
    return index


def same_weights(values):
    return np.full_like(values, 1 / len(values))


def assert_near(found, exact, bias):
    """Mean over repetitions within 4.5 standard errors, and the upward bias of a distance."""
    error = found.std() / math.sqrt(len(found))
    assert abs(found.mean() - exact) < 4.5 * error + bias * exact, (found.mean(), exact, error)


class Normals:
    """A Normal prior N(0, 1 / p0) and one observation y with precision p1."""

    def __init__(self, p0, p1, y):
        self.p0, self.p1, self.y = p0, p1, y

    def law(self, a=1.0, b=1.0):
        precision = a * self.p0 + b * self.p1
        return stats.norm(b * self.p1 * self.y / precision, precision**-0.5)

    def parts(self, x):
        return {
            "prior": -0.5 * self.p0 * x**2,
            "likelihood": -0.5 * self.p1 * (x - self.y) ** 2,
        }

    def exact(self, num_draws):
        return {
            "prior": exact_index(self.law(), lambda a: self.law(a=a), num_draws),
            "likelihood": exact_index(self.law(), lambda a: self.law(b=a), num_draws),
        }


NORMALS = [
    Normals(1, 1, 1.4),
    Normals(1, 10, 1.0),
    Normals(1, 10, 3.0),
    Normals(0.01, 1, 0.5),
]


@pytest.mark.parametrize("problem", NORMALS, ids=["even", "good data", "conflict", "vague prior"])
def test_normal_by_exact_draws(problem):
    x = problem.law().rvs((1500, REPEATS), random_state=1)
    found = power_scaling_index(x, same_weights(x), problem.parts(x))
    for name, exact in problem.exact(1500).items():
        # A pure change of spread moves no mean: the noise of the mean then adds to the distance.
        assert_near(found[name], exact, bias=0.07)


@pytest.mark.parametrize("problem", NORMALS, ids=["even", "good data", "conflict", "vague prior"])
@pytest.mark.parametrize(("shift", "width"), [(0.7, 2.0), (0.0, 3.0)])
def test_normal_by_weighted_draws_of_another_law(problem, shift, width):
    law = problem.law()
    proposal = stats.norm(law.mean() + shift * law.std(), width * law.std())
    x = proposal.rvs((1500, REPEATS), random_state=2)
    parts = problem.parts(x)
    ratio = parts["prior"] + parts["likelihood"] - proposal.logpdf(x)
    smoothed = smooth(ratio)
    assert (smoothed.khat < khat_limit(1500)).all()
    np.testing.assert_allclose(smoothed.weights.sum(0), 1)
    found = power_scaling_index(x, smoothed.weights, parts)
    unweighted = power_scaling_index(x, same_weights(x), parts)
    for name, exact in problem.exact(1500).items():
        assert_near(found[name], exact, bias=0.07)
        # The weights matter: without them the answer is another.
        assert abs(unweighted[name].mean() - exact) > 0.15 * exact


def test_dirichlet_multinomial():
    # Dir(a)^alpha is Dir(1 + alpha (a - 1)), counts to the power alpha are alpha times the counts.
    a, counts, width = np.array([3.0, 2.0, 1.5]), np.array([4.0, 1.0, 9.0]), 0.7
    proposal = width * (a + counts)
    w = stats.dirichlet(proposal).rvs(1500 * REPEATS, random_state=3)
    parts = {
        "prior": ((a - 1) * np.log(w)).sum(-1).reshape(1500, REPEATS),
        "likelihood": (counts * np.log(w)).sum(-1).reshape(1500, REPEATS),
    }
    own = ((proposal - 1) * np.log(w)).sum(-1).reshape(1500, REPEATS)
    weights = smooth(parts["prior"] + parts["likelihood"] - own).weights

    def marginal(k, prior=1.0, likelihood=1.0):
        concentration = 1 + prior * (a - 1) + likelihood * counts
        return stats.beta(concentration[k], concentration.sum() - concentration[k])

    for k in range(3):
        found = power_scaling_index(w[:, k].reshape(1500, REPEATS), weights, parts)
        for name in parts:
            exact = exact_index(
                marginal(k), lambda alpha, k=k, name=name: marginal(k, **{name: alpha}), 1500
            )
            assert_near(found[name], exact, bias=0.08)


@pytest.mark.parametrize(
    ("information", "conflict", "strong_prior"),
    [(0.01, 0.00, 1.00), (0.1, 0.32, 0.68), (1, 0.84, 0.05), (10, 0.33, 0.00), (100, 0.00, 0.00)],
)
def test_what_the_rule_says_of_data_that_fit(information, conflict, strong_prior):
    # The table in docs/explanation/sensitivity.md: observations drawn from the model, by what
    # they tell beside the prior.
    rng, cases = np.random.default_rng(0), 400
    problem = Normals(1, information, rng.normal(scale=(1 + 1 / information) ** 0.5, size=cases))
    law = problem.law()
    x = law.mean() + law.std() * rng.normal(size=(1000, cases))
    found = power_scaling_index(x, same_weights(x), problem.parts(x))
    prior, likelihood = found["prior"] >= 0.05, found["likelihood"] >= 0.05
    for share, expected in (
        ((prior & likelihood).mean(), conflict),
        ((prior & ~likelihood).mean(), strong_prior),
    ):
        error = math.sqrt(max(expected * (1 - expected), 0.01) / cases)
        assert abs(share - expected) < 4.5 * error


def test_equal_weights_give_the_index_of_arviz():
    rng = np.random.default_rng(0)
    x = rng.gamma(2.0, size=(300, 6))
    part = -(x**2) + rng.normal(size=x.shape)
    found = power_scaling_index(x, same_weights(x), {"part": part})["part"]
    for case in range(6):
        lower, upper = (np.exp((alpha - 1) * part[None, :, case]) for alpha in ALPHAS)
        expected = array_stats.power_scale_sense(x[None, :, case], lower, upper, *ALPHAS)
        assert found[case] == pytest.approx(float(expected), abs=1e-9)


def test_location_unit_and_sign_do_not_matter():
    rng = np.random.default_rng(1)
    x = rng.gamma(2.0, size=(400, 3))
    weights = smooth(rng.normal(size=x.shape)).weights
    parts = {"part": np.log(x)}
    expected = power_scaling_index(x, weights, parts)["part"]
    for other in (5 - 3 * x, 1e4 * x - 7):
        found = power_scaling_index(other, weights, parts)["part"]
        np.testing.assert_allclose(found, expected, rtol=1e-6)
    louder = power_scaling_index(x, weights, {"part": parts["part"] + 1e3})["part"]
    np.testing.assert_allclose(louder, expected, rtol=1e-6)


def test_a_part_that_is_constant_moves_nothing():
    x = np.random.default_rng(2).normal(size=(500, 4))
    found = power_scaling_index(x, same_weights(x), {"none": np.full_like(x, -3.0), "some": x})
    assert found["none"].max() < 1e-6
    assert found["some"].min() > 0.05


def test_a_quantity_that_is_constant_has_index_zero():
    part = np.random.default_rng(3).normal(size=(200, 2))
    one = np.ones_like(part)
    assert (power_scaling_index(one, same_weights(one), {"part": part})["part"] == 0).all()


def test_distance_of_distributions_that_do_not_meet_is_the_largest():
    ones, zeros = np.ones((5, 1)), np.zeros((5, 1))
    assert cjs_distance(ones, ones, zeros)[0] == pytest.approx(1)
    assert cjs_distance(ones, ones / 3, ones / 3)[0] == 0
    both = np.random.default_rng(4).uniform(size=(2, 5, 1))
    forth, back = cjs_distance(ones, *both), cjs_distance(ones, *both[::-1])
    assert forth == pytest.approx(back)
    assert 0 < forth[0] < 1


class TestSmoothing:
    def test_is_that_of_arviz(self):
        ratio = np.random.default_rng(5).standard_t(5, size=(400, 3))
        found = smooth(ratio)
        log_weights, khat = array_stats.psislw(-ratio, axis=0)
        np.testing.assert_allclose(found.weights, np.exp(log_weights).T)
        np.testing.assert_allclose(found.khat, khat)

    def test_equal_ratios(self):
        ratio = np.zeros((200, 2))
        ratio[:100, 1] = -3.0  # equal in the tail only
        found = smooth(ratio)
        assert (found.khat == 0).all()
        np.testing.assert_allclose(found.weights[:, 0], 1 / 200)
        assert found.weights[150, 1] / found.weights[50, 1] == pytest.approx(math.exp(3))

    def test_rounding_is_no_tail_and_anything_above_it_is(self):
        noise = np.random.default_rng(8).standard_t(3, size=(400, 1))
        assert smooth(1e-12 * noise).khat[0] == 0
        _, khat = array_stats.psislw(-1e-7 * noise[:, 0])
        assert smooth(1e-7 * noise).khat[0] == pytest.approx(float(khat))
        assert khat > 0.1

    def test_a_ratio_that_is_not_finite_is_never_reliable(self):
        ratio = np.random.default_rng(6).normal(size=(200, 2))
        ratio[7, 1] = -np.inf
        found = smooth(ratio)
        assert np.isfinite(found.khat[0])
        assert found.khat[1] == np.inf
        part = np.zeros((200, 2))
        part[3, 0] = -np.inf
        assert (khat_of_power(np.zeros((200, 2)), part) == [np.inf, 0]).all()

    def test_a_proposal_that_is_too_narrow_is_unreliable(self):
        rng = np.random.default_rng(7)
        x = 0.35 * rng.normal(size=(1000, 20))
        ratio = stats.norm().logpdf(x) - stats.norm(scale=0.35).logpdf(x)
        khat = khat_of_power(ratio, -0.5 * x**2)
        assert np.median(khat) > khat_limit(1000)


def test_limit_of_khat():
    assert khat_limit(10**6) == 0.7
    assert khat_limit(200) == pytest.approx(1 - 1 / math.log10(200))


@pytest.mark.parametrize("alphas", [(1.01, 1.02), (0.9, 0.99), (0.0, 1.1)])
def test_powers_lie_on_both_sides_of_one(alphas):
    x = np.zeros((3, 1))
    with pytest.raises(ValueError, match="both sides of 1"):
        power_scaling_index(x, x, {}, alphas)
