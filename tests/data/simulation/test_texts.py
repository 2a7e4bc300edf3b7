import json
import subprocess
import sys

import numpy as np
import pytest
import xarray as xr

from vrm_pyro.data.simulation import SPLITS, simulate_texts
from vrm_pyro.data.simulation.kinds import KINDS
from vrm_pyro.errors import InputError


@pytest.fixture(scope="module")
def truth():
    return simulate_texts(12_000, seed=5, shared_responses=4, label_noise=0.05).truth


def test_program_holds_between_its_variables(truth):
    s = truth.z @ truth.loading + truth.intercept
    xr.testing.assert_allclose(s.transpose("response", "objective"), truth.s)
    w = truth.w.sel(prompt=truth.response_prompt).drop_vars("prompt")
    xr.testing.assert_allclose(truth.beta * (w * truth.s).sum("objective"), truth.r)
    first, second = (
        truth.r.sel(response=truth[name]).values for name in ("first_response", "second_response")
    )
    np.testing.assert_allclose(first - second, truth.delta, atol=1e-10)
    np.testing.assert_allclose(truth.p_first, 0.05 + 0.9 / (1 + np.exp(-truth.delta)))


def test_reward_differences_are_wide(truth):
    assert truth.delta.std() >= 3


def test_features_are_standard_normal(truth):
    z = truth.z.values
    assert (abs(z.mean(axis=0)) < 4 / len(z) ** 0.5).all()
    np.testing.assert_allclose(np.cov(z.T), np.eye(4), atol=5 * (2 / len(z)) ** 0.5)


def test_weights_follow_the_mean_of_their_kind(truth):
    for kind in KINDS:
        w = truth.w[truth.prompt_kind.values == kind.name].values
        assert len(w) in (500, 501)
        sd = (np.array(kind.weights) * (1 - np.array(kind.weights)) / 21) ** 0.5
        assert (abs(w.mean(axis=0) - kind.weights) < 4.5 * sd / len(w) ** 0.5).all()


def test_labels_come_at_their_probabilities(truth):
    p, label = truth.p_first.values, truth.first_preferred.values
    for group in np.array_split(np.argsort(p), 8):
        standard_error = (p[group] * (1 - p[group])).sum() ** 0.5
        assert abs(label[group].sum() - p[group].sum()) < 4 * standard_error
    np.testing.assert_allclose(truth.p_chosen, np.where(label, p, 1 - p))
    chosen = np.where(label, truth.first_response, truth.second_response)
    assert (chosen == truth.chosen_response.values).all()
    assert (truth.chosen_response != truth.rejected_response).all()


def test_ratings_scatter_around_scores(truth):
    residual = (truth.rating - truth.s - truth.rating_offset).values
    seen = residual[~np.isnan(residual)]
    assert abs(1 - seen.size / residual.size - 0.2) < 4 * (0.16 / residual.size) ** 0.5
    assert abs(seen.std() - truth.rating_scale) < 4 * 0.5 / (2 * seen.size) ** 0.5


def test_splits_deal_prompts_eighty_ten_ten(truth):
    counts = [int((truth.split == split).sum()) for split in SPLITS]
    assert counts == [2400, 300, 300]


def test_another_rating_noise_leaves_latents_labels_and_texts_alone():
    base = simulate_texts(60, seed=1)
    noisy = simulate_texts(60, seed=1, rating_noise=2.0, rating_missing=0.9)
    assert base.responses == noisy.responses
    xr.testing.assert_identical(
        base.truth.drop_vars(["rating", "rating_scale"]),
        noisy.truth.drop_vars(["rating", "rating_scale"]),
    )


def test_seeds_differ():
    one, two = simulate_texts(60, seed=1), simulate_texts(60, seed=2)
    assert not set(one.responses) & set(two.responses)
    assert not set(one.truth.pair.values) & set(two.truth.pair.values)


def test_same_seed_gives_the_same_texts_in_another_process():
    code = (
        "import json; from vrm_pyro.data.simulation import simulate_texts;"
        "print(json.dumps(simulate_texts(20, seed=9).rows('train')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert json.loads(done.stdout) == simulate_texts(20, seed=9).rows("train")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"num_pairs": 0}, "number of pairs is 0"),
        ({"num_pairs": 8}, "make 2 prompt.* at least 9 pairs"),
        ({"seed": -1}, "seed is -1"),
        ({"pairs_per_prompt": 0}, "pairs_per_prompt is 0"),
        ({"shared_responses": 3}, "3 shared .* do not make 4"),
        ({"shared_responses": 1}, "1 shared .* do not make 4"),
        ({"shared_responses": -4}, "shared_responses is -4"),
        ({"concentration": 0.0}, "concentration is 0"),
        ({"beta": -1.0}, "beta is -1"),
        ({"rating_noise": -0.1}, "rating_noise is -0.1"),
        ({"rating_missing": 1.1}, "rating_missing is 1.1"),
        ({"label_noise": 0.6}, "label_noise is 0.6"),
    ],
)
def test_settings_out_of_range_are_refused(options, words):
    with pytest.raises(InputError, match=words):
        simulate_texts(**({"num_pairs": 40} | options))


def test_smallest_size_of_the_message_works():
    simulation = simulate_texts(9)
    assert all(simulation.rows(split) for split in SPLITS)
