import numpy as np
import pytest

from vrm_pyro.data.simulation import program
from vrm_pyro.errors import InputError

MEANS = np.array([[0.5, 0.3, 0.15, 0.05], [0.1, 0.1, 0.1, 0.7]])


def test_weights_have_the_moments_of_their_dirichlet():
    kind = np.repeat([0, 1], 20_000)
    w = program.draw_weights(np.random.default_rng(0), kind, MEANS, 12.0)
    np.testing.assert_allclose(w.sum(axis=1), 1.0, rtol=0, atol=1e-12)
    for k, mean in enumerate(MEANS):
        draws = w[kind == k]
        standard_error = draws.std(axis=0) / len(draws) ** 0.5
        assert (abs(draws.mean(axis=0) - mean) < 4 * standard_error).all()
        centred = draws - draws.mean(axis=0)
        products = centred[:, :, None] * centred[:, None, :]
        covariance = (np.diag(mean) - np.outer(mean, mean)) / (12.0 + 1)
        standard_error = products.std(axis=0) / len(draws) ** 0.5
        assert (abs(products.mean(axis=0) - covariance) < 4 * standard_error).all()


def test_infinite_concentration_fixes_weights_per_kind():
    w = program.draw_weights(np.random.default_rng(0), np.array([1, 0, 1]), MEANS, float("inf"))
    np.testing.assert_array_equal(w, MEANS[[1, 0, 1]])


def test_pairs_of_their_own_use_every_response_once():
    owner, first, second = program.draw_pairs(np.random.default_rng(0), 10, 4, 0)
    assert sorted([*first, *second]) == list(range(20))
    assert (owner[first] == owner[second]).all()
    assert np.bincount(owner[first]).tolist() == [4, 4, 2]


def test_shared_pairs_reuse_responses_of_one_prompt():
    owner, first, second = program.draw_pairs(np.random.default_rng(0), 4001, 5, 4)
    assert (owner[first] == owner[second]).all()
    assert (np.diff(owner) >= 0).all()
    assert np.bincount(owner[first]).tolist() == [5] * 800 + [1]
    assert set(first) | set(second) == set(range(len(owner)))
    # Five of the six pairs of four responses: each prompt has all four.
    assert np.bincount(owner).tolist() == [4] * 800 + [2]
    unordered = {(min(a, b), max(a, b)) for a, b in zip(first, second, strict=True)}
    assert len(unordered) == 4001
    # Neither place is favoured.
    assert abs((first < second).mean() - 0.5) < 4 * 0.5 / 4001**0.5


def test_ratings_have_offset_noise_and_gaps_at_the_given_rates():
    scores = np.random.default_rng(1).standard_normal((20_000, 2))
    offset = np.array([3.0, -1.0])
    y = program.draw_ratings(np.random.default_rng(2), scores, offset, 0.4, 0.3)
    n = y.size
    missing = np.isnan(y)
    assert abs(missing.mean() - 0.3) < 4 * (0.3 * 0.7 / n) ** 0.5
    residual = (y - scores - offset)[~missing]
    assert abs(residual.mean()) < 4 * 0.4 / residual.size**0.5
    assert abs(residual.std() - 0.4) < 4 * 0.4 / (2 * residual.size) ** 0.5


def test_preference_probability_is_stable_and_antisymmetric():
    delta = np.array([-800.0, -2.0, 0.0, 2.0, 800.0])
    p = program.preference_probability(delta)
    np.testing.assert_allclose(p, [0, 1 / (1 + np.exp(2)), 0.5, 1 / (1 + np.exp(-2)), 1])
    noisy = program.preference_probability(delta, 0.1)
    np.testing.assert_allclose(noisy + noisy[::-1], 1.0)
    np.testing.assert_allclose([noisy[0], noisy[-1]], [0.1, 0.9])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("tau", -1.0, 0.0), "tau is -1; it must be at least 0."),
        (("rate", 1.5, 0.0, 1.0), "at least 0 and at most 1"),
        (("beta", 0.0, 0.0, float("inf"), True), "above 0"),
        (("beta", float("nan"), 0.0), "beta is nan"),
    ],
)
def test_numbers_out_of_range_are_named(arguments, words):
    with pytest.raises(InputError, match=words):
        program.check_number(*arguments)


def test_numbers_at_the_limits_pass():
    program.check_number("rate", 0.0, 0.0, 1.0)
    program.check_number("rate", 1.0, 0.0, 1.0)
