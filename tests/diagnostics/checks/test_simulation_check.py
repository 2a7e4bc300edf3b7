"""Simulation check and coverage, on exact draws and on guides of a wrong spread (check 11)."""

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers.exact import exact_draws, rated_pairs
from helpers.problems import small_model

from vrm_pyro.diagnostics.checks.coverage import coverage
from vrm_pyro.diagnostics.checks.simulated import rank_values, truth_ranks
from vrm_pyro.diagnostics.checks.simulation_check import shape, simulation_check
from vrm_pyro.models.distributions import Gaussian, as_gaussian
from vrm_pyro.models.guides import FullCovarianceGuide
from vrm_pyro.prediction.posterior.refine import refine

NAMES = ("a", "b", "c", "d")


class Drawn(torch.distributions.Distribution):
    """Draws made beforehand, in the place of a distribution."""

    def __init__(self, draws):
        super().__init__(validate_args=False)
        self.draws = draws

    def sample(self, shape=()):
        return self.draws[: shape[0]]


@pytest.fixture(scope="module")
def simulated():
    batch, heads, w, z = rated_pairs(160, seed=5)
    return batch, heads, (w, z)


@pytest.fixture(scope="module")
def refined(simulated):
    batch, heads, _ = simulated
    model = small_model(num_objectives=4, latent_dim=4)
    model.guide = FullCovarianceGuide().build(1, 4, 4).double()
    return refine(model, batch, heads, num_steps=12, num_nodes=16).guide.distributions


def scaled(laws, factor):
    """Return the distributions with standard deviations times a factor."""
    q_weights, q_features = laws
    gaussian = as_gaussian(q_features)
    return (
        dist.Dirichlet(q_weights.concentration / factor**2),
        Gaussian(gaussian.loc, factor * gaussian.scale).distribution(),
    )


def test_exact_draws_are_inside_the_band(simulated):
    batch, heads, truth = simulated
    w, z = exact_draws(batch, heads, 99)
    ranks = truth_ranks(batch, heads, truth, (Drawn(w), Drawn(z)), NAMES, num_draws=99)
    assert len(ranks) == 9
    assert simulation_check(ranks).alarm is False
    assert coverage(ranks).alarm is False


def test_refined_guide_is_inside_the_band(simulated, refined):
    ranks = truth_ranks(*simulated, refined, NAMES)
    assert simulation_check(ranks).alarm is False
    assert coverage(ranks).alarm is False


@pytest.mark.parametrize(("factor", "word"), [(0.6, "narrow"), (1.8, "wide")])
def test_wrong_spread_is_caught_and_named(simulated, refined, factor, word):
    ranks = truth_ranks(*simulated, scaled(refined, factor), NAMES)
    found = simulation_check(ranks)
    assert found.alarm is True
    assert f"draws too {word}" in found.verdict
    assert len(found.detail["outside"]) > 4
    intervals = coverage(ranks)
    assert intervals.alarm is True
    assert word in intervals.verdict


def test_shifted_draws_are_caught_and_named(simulated, refined):
    batch, heads, (w, z) = simulated
    ranks = truth_ranks(batch, heads, (w, z + 0.5), refined, NAMES)
    found = simulation_check(ranks)
    assert found.alarm is True
    assert "too low" in found.verdict or "too high" in found.verdict


def test_ranks_are_uniform_with_ties():
    """Whole numbers 0..4: ties are taken at random, so ranks are uniform all the same."""
    rng = np.random.default_rng(0)
    truth, draws = rng.integers(0, 5, 4000), rng.integers(0, 5, (19, 4000))
    values = rank_values(truth, draws, rng)
    assert ((values > 0) & (values < 1)).all()
    counts = np.histogram(values, bins=20, range=(0, 1))[0]
    assert ((counts - 200) ** 2 / 200).sum() < 45  # chi squared with 19 degrees: p = .0007


def test_words_for_ranks():
    rng = np.random.default_rng(1)
    assert shape(rng.random(500)) == "no clear direction"
    assert shape(rng.beta(0.5, 0.5, 500)) == "draws too narrow"
    assert shape(rng.beta(2, 2, 500)) == "draws too wide"
    assert shape(rng.beta(2, 1, 500)) == "draws too low"


def test_coverage_counts():
    u = np.array([0.03, 0.3, 0.5, 0.7, 0.98] * 20)
    found = coverage({"q": u}, levels=(0.5, 0.95))
    row = found.detail["quantities"]["q"]
    assert row["0.5"]["observed"] == pytest.approx(0.6)
    assert row["0.95"]["observed"] == pytest.approx(0.8)
    assert found.alarm is True  # 80 of 100 in 95% intervals


def test_only_pairs_with_weight_and_one_response_a_prompt():
    batch, heads, w, z = rated_pairs(30, seed=6)
    batch.pair_weight[3] = 0.0
    law = heads.weights, heads.features
    ranks = truth_ranks(batch, heads, (w, z), law, NAMES)
    assert len(ranks["delta"]) == 29
    assert {len(v) for name, v in ranks.items() if name != "delta"} == {30}
    assert torch.equal(batch.pair_weight[:3], torch.ones(3).double())
