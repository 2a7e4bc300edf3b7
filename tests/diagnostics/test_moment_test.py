import numpy as np
import pytest
from scipy import stats

from vrm_pyro.diagnostics.moment_test import mean_test, moments_vanish, prompt_sums


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


def test_one_moment_is_the_t_test_of_the_sums():
    rng = np.random.default_rng(1)
    prompt = rng.integers(0, 50, 300)
    values = rng.standard_normal(300) + 0.1
    known = stats.ttest_1samp(prompt_sums(values, prompt), 0.0).pvalue
    assert moments_vanish(values[:, None], prompt) == pytest.approx(known)


def test_level_holds_with_dependent_rows_and_is_broken_by_rows_as_units():
    """Ten rows a prompt that are all the same: by prompt the level holds, by row it does not."""
    rng = np.random.default_rng(2)
    by_prompt, by_row = [], []
    for _ in range(400):
        values = np.repeat(rng.standard_normal((60, 3)), 10, axis=0)
        by_prompt.append(moments_vanish(values, np.repeat(np.arange(60), 10)))
        by_row.append(moments_vanish(values, np.arange(600)))
    assert abs((np.array(by_prompt) < 0.05).mean() - 0.05) < 4 * (0.05 * 0.95 / 400) ** 0.5
    assert (np.array(by_row) < 0.05).mean() > 0.3


def test_repeated_and_empty_moments_do_not_count():
    rng = np.random.default_rng(3)
    values = rng.standard_normal((80, 2))
    more = np.concatenate([values, values[:, :1], np.zeros((80, 1))], axis=1)
    prompt = np.arange(80)
    assert moments_vanish(more, prompt) == pytest.approx(moments_vanish(values, prompt))


def test_too_few_prompts_give_no_test():
    values = np.random.default_rng(4).standard_normal(19)
    assert np.isnan(mean_test(values).p_value)
    assert np.isnan(moments_vanish(values[:, None], np.arange(19)))
    assert np.isnan(mean_test(np.ones(50)).p_value)  # no spread
