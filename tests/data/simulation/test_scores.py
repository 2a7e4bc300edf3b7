import numpy as np
import pytest
from scipy.optimize import minimize

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.simulation import simulate_scores
from vrm_pyro.errors import InputError

WEIGHTS = np.array([0.5, 0.3, 0.15, 0.05])
# Spec 2.8: K = 4, n = 4000, d_k ~ N(0, 2), beta = 3.
REFERENCE_SE = np.array([0.0104, 0.0090, 0.0092, 0.0099])


def fit_gamma(scores, sim, pairs=slice(None)):
    """Maximum likelihood of gamma = beta w in P(first) = sigmoid(gamma'd)."""
    d = (scores[sim.pair_first] - scores[sim.pair_second])[pairs]
    sign = 2 * sim.preference[pairs] - 1

    def loss(gamma):
        margin = sign * (d @ gamma)
        gradient = -(d * (sign * np.exp(-np.logaddexp(0, margin)))[:, None]).sum(axis=0)
        return np.logaddexp(0, -margin).sum(), gradient

    return minimize(loss, np.ones(d.shape[1]), jac=True).x


def test_known_scores_identify_weights_and_scale_within_reference_errors():
    sim = simulate_scores(seed=1)
    gamma = fit_gamma(sim.ratings, sim)
    assert (abs(gamma / gamma.sum() - WEIGHTS) < 4 * REFERENCE_SE).all()
    assert abs(gamma.sum() - 3) < 0.4
    d = sim.responses[sim.pair_first] - sim.responses[sim.pair_second]
    p = 1 / (1 + np.exp(-sim.delta))
    information = (d * (p * (1 - p))[:, None]).T @ d
    jacobian = (np.eye(4) - WEIGHTS[:, None]) / 3
    se = np.diag(jacobian @ np.linalg.inv(information) @ jacobian.T) ** 0.5
    np.testing.assert_allclose(se, REFERENCE_SE, rtol=0.05)


def test_clusters_have_weights_of_their_own():
    weights = np.array([[0.7, 0.1, 0.1, 0.1], [0.1, 0.1, 0.2, 0.6]])
    sim = simulate_scores(8000, weights, seed=2)
    cluster = sim.cluster[sim.response_prompt[sim.pair_first]]
    assert (sim.prompts.argmax(axis=1) == sim.cluster).all()
    assert np.bincount(cluster).tolist() == [4000, 4000]
    for c in (0, 1):
        gamma = fit_gamma(sim.responses, sim, cluster == c)
        assert (abs(gamma / gamma.sum() - weights[c]) < 0.05).all()


def test_labels_of_mean_ratings_hide_the_weights():
    sim = simulate_scores(weights=(0.97, 0.01, 0.01, 0.01), labels="mean_rating", seed=3)
    mean = sim.ratings.mean(axis=1)
    assert ((mean[sim.pair_first] > mean[sim.pair_second]) == (sim.preference == 1)).all()
    assert (abs(np.corrcoef(mean, sim.ratings.T)[0, 1:] - 0.5) < 0.05).all()


def test_labels_come_at_their_probabilities():
    sim = simulate_scores(20_000, seed=4, label_noise=0.1)
    p = 0.1 + 0.8 / (1 + np.exp(-sim.delta))
    for group in np.array_split(np.argsort(p), 5):
        standard_error = (p[group] * (1 - p[group])).sum() ** 0.5
        assert abs((sim.preference[group] - p[group]).sum()) < 4 * standard_error


def test_scores_have_the_given_correlation_and_ratings_the_given_noise():
    sim = simulate_scores(10_000, correlation=0.9, tau=0.3, rating_missing=0.25, seed=5)
    n = len(sim.responses)
    correlation = np.corrcoef(sim.responses.T)[np.triu_indices(4, 1)]
    assert (abs(correlation - 0.9) < 5 * (1 - 0.81) / n**0.5).all()
    residual = sim.ratings - sim.responses
    assert abs(np.isnan(residual).mean() - 0.25) < 4 * (0.1875 / residual.size) ** 0.5
    assert abs(np.nanstd(residual) - 0.3) < 4 * 0.3 / (1.5 * residual.size) ** 0.5


def test_it_is_a_feature_source():
    sim = simulate_scores(10, pairs_per_prompt=3, rating_missing=0.5, seed=6)
    batch = PromptDataset(sim).batch(range(4))
    assert (batch.num_prompts, batch.num_responses, batch.num_pairs) == (4, 20, 10)
    d = batch.responses[batch.pair_first] - batch.responses[batch.pair_second]
    delta = 3 * d.double().numpy() @ WEIGHTS
    np.testing.assert_allclose(delta, sim.delta, atol=1e-5)
    assert (batch.rating_mask.numpy() == ~np.isnan(sim.ratings)).all()


def test_same_seed_same_data():
    one, two = simulate_scores(50, seed=7), simulate_scores(50, seed=7)
    np.testing.assert_array_equal(one.ratings, two.ratings)
    np.testing.assert_array_equal(one.preference, two.preference)
    assert (simulate_scores(50, seed=8).responses != one.responses).all()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"weights": (0.5, 0.6)}, "not on the simplex"),
        ({"weights": (1.5, -0.5)}, "not on the simplex"),
        ({"num_pairs": 0}, "number of pairs is 0"),
        ({"pairs_per_prompt": 0}, "pairs_per_prompt is 0"),
        ({"correlation": 1.2}, "correlation is 1.2"),
        ({"beta": 0.0}, "beta is 0"),
        ({"tau": -1.0}, "tau is -1"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        simulate_scores(**options)
