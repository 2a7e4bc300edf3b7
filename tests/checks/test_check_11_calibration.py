"""Check 11: simulation-based calibration, calibrated predictions, label noise recovered."""

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
from helpers.configs import network_config
from helpers.exact import exact_draws, rated_pairs
from helpers.problems import Arrays, small_batch, small_model

from vrm_pyro.diagnostics.metrics.pair_metrics import expected_calibration_error
from vrm_pyro.models.distributions import Gaussian, as_gaussian
from vrm_pyro.models.guides import FullCovarianceGuide
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.prediction.posterior.refine import refine
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

NUM_PROMPTS = 1000
NUM_RANKS = 99  # draws a rank is taken among: 100 possible ranks
NUM_SIMULATIONS = 4000  # of the band


def quantities(batch, heads, w, z):
    """Return all w_k, s_k and Delta, one row a prompt, shape (..., P, number of quantities)."""
    scores = heads.reward.scores(z)
    first, second = scores[..., batch.pair_first, :], scores[..., batch.pair_second, :]
    delta = heads.reward.delta(w, first, second)
    return torch.cat([w, first, second, delta.unsqueeze(-1)], -1)


def ranks(truth, draws):
    return (draws < truth).sum(0).numpy()  # (P, quantities), 0..NUM_RANKS


def band_width(num_quantities):
    """Return the limit of sup |ECDF - uniform| over ranks at level 1 - .01 / quantities."""
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, NUM_RANKS + 1, size=(NUM_SIMULATIONS, NUM_PROMPTS))
    return np.quantile(distances(drawn.T[:, :, None]).ravel(), 1 - 0.01 / num_quantities)


def distances(rank):
    """Return sup |ECDF - uniform| of ranks (P, ...) for each column."""
    values = np.arange(NUM_RANKS + 1)
    ecdf = np.stack([(rank <= value).mean(0) for value in values])
    uniform = ((values + 1) / (NUM_RANKS + 1)).reshape(-1, *[1] * (rank.ndim - 1))
    return np.abs(ecdf - uniform).max(0)


@pytest.fixture(scope="module")
def simulated():
    batch, heads, w, z = rated_pairs(NUM_PROMPTS, seed=5)
    return batch, heads, quantities(batch, heads, w, z)


@pytest.fixture(scope="module")
def refined(simulated):
    batch, heads, _ = simulated
    model = small_model(num_objectives=4, latent_dim=4)
    model.guide = FullCovarianceGuide().build(1, 4, 4).double()
    return refine(model, batch, heads, num_steps=20, num_nodes=32).guide.distributions


def guide_ranks(simulated, laws):
    batch, heads, truth = simulated
    torch.manual_seed(2)
    w, z = (law.sample((NUM_RANKS,)) for law in laws)
    return ranks(truth, quantities(batch, heads, w, z))


def test_exact_draws_stay_inside_the_band(simulated):
    batch, heads, truth = simulated
    w, z = exact_draws(batch, heads, NUM_RANKS)
    found = distances(ranks(truth, quantities(batch, heads, w, z)))
    assert (found < band_width(len(found))).all()


def test_refined_guide_stays_inside_the_band(simulated, refined):
    found = distances(guide_ranks(simulated, refined))
    assert (found < band_width(len(found))).all()


def test_too_narrow_a_guide_leaves_the_band(simulated, refined):
    q_weights, q_features = refined
    gaussian = as_gaussian(q_features)
    # sd of a Dirichlet falls with the root of its total concentration.
    narrow = (
        dist.Dirichlet(q_weights.concentration / 0.6**2),
        Gaussian(gaussian.loc, 0.6 * gaussian.scale).distribution(),
    )
    found = distances(guide_ranks(simulated, narrow))
    assert (found > band_width(len(found))).mean() > 0.5


def well_specified(num_prompts, num_pairs, seed, rate=0.0):
    """Return prompts of two pairs with labels from a fixed model, and p(first preferred).

    With flipped labels rewards are wider: only labels against a large Delta tell the rate.
    """
    truth = small_model(ratings=False, dtype=torch.float32)
    with torch.no_grad():
        truth.reward.log_scale.fill_(2.5 if rate else 1.5)
    batch = small_batch(num_prompts, ratings=False, single_use=True, seed=seed).to(torch.float32)
    assert batch.num_pairs == num_pairs
    batch = replace(batch, pair_weight=torch.ones(num_pairs))
    with torch.no_grad():
        chance = truth.predict_pairs(batch)
    generator = torch.Generator().manual_seed(seed + 1)
    label = torch.bernoulli(chance, generator=generator)
    flip = torch.bernoulli(torch.full_like(label, rate), generator=generator)
    return replace(batch, preference=(label - flip).abs()), chance


@pytest.mark.slow
def test_predictions_of_a_well_specified_model_are_calibrated(tmp_path):
    """20,000 held-out pairs: ECE < .02, slope in [.9, 1.1], log loss within .01 of the oracle."""
    fitted = fit(tmp_path, network_config(objective="pairwise", **SMALL), 0.0)
    batch, chance = well_specified(10_000, 20_000, 21)
    with torch.no_grad():
        p = fitted.predict_pairs(batch).double().numpy()
    label, oracle = batch.preference.double().numpy(), chance.double().numpy()
    weight = np.ones_like(p)
    assert expected_calibration_error(p, label, weight) < 0.02
    assert log_loss(p, label) < log_loss(oracle, label) + 0.01
    assert 0.9 < calibration_slope(p, label) < 1.1


@pytest.mark.slow
def test_label_noise_is_recovered(tmp_path):
    """Labels flipped at eps = .1: the learned rate is within .03."""
    config = network_config(objective="pairwise", likelihood=Lapse(0.05), **SMALL)
    fitted = fit(tmp_path, config, 0.1)
    assert abs(fitted.likelihood.rate.item() - 0.1) < 0.03


SMALL = {
    "num_objectives": 3,
    "latent_dim": 2,
    "hyperprior_weight": 0.0,
    "num_draws": 8,
}


def fit(tmp_path, config, rate):
    """Train on 8,000 pairs of the same distribution of states."""
    data, _ = well_specified(4000, 8000, 11, rate)
    validation, _ = well_specified(1000, 2000, 12, rate)
    arguments = TrainArguments(
        output_dir=str(tmp_path / "run"), num_train_epochs=60, use_cpu=True, disable_tqdm=True,
        learning_rate=5e-3, weight_decay=0.0, per_device_train_batch_size=256,
        early_stopping_patience=10,
    )  # fmt: skip
    return train(config, arguments, Arrays(data), Arrays(validation)).loaded.model


def log_loss(p, label):
    return -(label * np.log(p) + (1 - label) * np.log1p(-p)).mean()


def calibration_slope(p, label):
    """Return the slope of a logistic regression of the label on logit(p), no intercept."""
    x = torch.from_numpy(np.log(p) - np.log1p(-p))
    y = torch.from_numpy(label)
    slope = torch.ones((), dtype=torch.float64)
    for _ in range(20):  # Newton
        chance = torch.sigmoid(slope * x)
        slope = slope + ((y - chance) * x).sum() / (chance * (1 - chance) * x**2).sum()
    return slope.item()
