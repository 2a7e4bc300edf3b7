import numpy as np
import pytest
from scipy import stats
from scipy.special import expit
from scipy.stats import norm

from vrm_pyro.diagnostics.metrics.clustered_tests import mean_test, residual_z, residuals_vanish


def test_mean_test_is_the_t_test():
    values = np.random.default_rng(0).standard_normal(40) + 0.3
    found = mean_test(values)
    known = stats.ttest_1samp(values, 0.0)
    assert found.p_value == pytest.approx(known.pvalue)
    assert found.standard_error == pytest.approx(values.std(ddof=1) / 40**0.5)
    assert found.p_above == pytest.approx(
        stats.ttest_1samp(values, 0, alternative="greater").pvalue
    )
    assert found.p_above + found.p_below == pytest.approx(1)


def predictions(num=120, each=3, seed=0, spread=3.0, common=0.0):
    """Return p, labels that follow it (alike within a prompt), and prompts."""
    rng = np.random.default_rng(seed)
    delta = spread * rng.standard_normal((num, each))
    alike = norm.cdf(
        common**0.5 * rng.standard_normal((num, 1))
        + (1 - common) ** 0.5 * rng.standard_normal((num, each))
    )
    p = expit(delta)
    return p.ravel(), (alike < p).ravel().astype(float), np.repeat(np.arange(num), each)


@pytest.mark.parametrize(("spread", "common"), [(1.0, 0.0), (4.0, 0.0), (1.0, 0.5)])
def test_level_of_the_score_test(spread, common):
    """Also where predictions are confident, and where labels of a prompt go together."""
    found = []
    for seed in range(400):
        p, c, prompt = predictions(seed=seed, spread=spread, common=common)
        side = np.stack([np.sign(p - 0.5), np.ones_like(p)], 1)
        found.append(residuals_vanish(side, c - p, p, prompt))
    assert (np.array(found) < 0.05).mean() < 0.05 + 4 * (0.05 * 0.95 / 400) ** 0.5
    assert (np.array(found) < 0.05).mean() > 0.01


def test_rows_of_one_prompt_are_no_independent_rows():
    """Labels that are all the same within a prompt: as many rows as units break the level."""
    found = []
    for seed in range(200):
        p, c, _ = predictions(each=10, seed=seed, spread=0.01, common=0.99)
        found.append(residuals_vanish(np.ones((1200, 1)), c - p, p, np.arange(1200)))
    assert (np.array(found) < 0.05).mean() > 0.3


def test_sure_predictions_that_come_true_are_no_fault():
    """Fifty pairs at p = .98 without an error: probability .36. By what is seen, t is infinite."""
    p = np.full(50, 0.98)
    assert residuals_vanish(np.ones((50, 1)), 1 - p, p, np.arange(50)) > 0.2


def test_one_direction_has_the_sign_of_its_score():
    p, c, prompt = predictions(spread=1.0)
    z = residual_z(np.ones_like(p), np.maximum(c, 0.9) - p, p, prompt)
    assert z > 3
    assert residual_z(-np.ones_like(p), np.maximum(c, 0.9) - p, p, prompt) == pytest.approx(-z)


def test_repeated_and_empty_directions_do_not_count():
    p, c, prompt = predictions()
    side = np.random.default_rng(3).standard_normal((len(p), 2))
    more = np.concatenate([side, side[:, :1], np.zeros((len(p), 1))], axis=1)
    assert residuals_vanish(more, c - p, p, prompt) == pytest.approx(
        residuals_vanish(side, c - p, p, prompt)
    )


def test_too_few_prompts_give_no_test():
    values = np.random.default_rng(4).standard_normal(19)
    half = np.full(19, 0.5)
    assert np.isnan(mean_test(values).p_value)
    assert np.isnan(residuals_vanish(values[:, None], half, half, np.arange(19)))
    assert np.isnan(mean_test(np.ones(50)).p_value)  # no spread
