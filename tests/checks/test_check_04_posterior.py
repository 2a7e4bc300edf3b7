"""Check 4: the guide's posterior against exact draws and NUTS."""

import numpy as np
import pyro
import pyro.distributions as dist
import pytest
import torch
from arviz_stats.base import array_stats
from helpers.exact import exact_draws, rated_pairs
from helpers.problems import small_model
from pyro.infer import MCMC, NUTS

from vrm_pyro.diagnostics.metrics.power_scaling import smooth
from vrm_pyro.models.distributions import Gaussian, as_gaussian
from vrm_pyro.models.guides import FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.names import FEATURES, WEIGHTS
from vrm_pyro.prediction.posterior.evidence import weighted_draws
from vrm_pyro.prediction.posterior.refine import FixedGuide, refine

NUM_PROMPTS = 20
EXACT_DRAWS = 20_000
KHAT_DRAWS = 4000


@pytest.fixture(scope="module")
def problem():
    batch, heads, _, _ = rated_pairs(NUM_PROMPTS)
    w, z = exact_draws(batch, heads, EXACT_DRAWS)
    return batch, heads, w, heads.reward.scores(z)


def refined(guide, batch, heads):
    model = small_model(num_objectives=4, latent_dim=4)
    model.guide = guide.build(1, 4, 4).double()
    model.guide = refine(model, batch, heads).guide
    return model


def moments(model, batch, heads):
    """Return mean and sd of q for w (P, K) and s (R, K); w by draws, s in closed form."""
    with torch.no_grad():
        q_weights, q_features = model.guide.posterior(batch, heads)
        gaussian = as_gaussian(q_features)
        w = q_weights.sample((EXACT_DRAWS,))
        sd = gaussian.mapped_variance(heads.reward.loading).sqrt()
        return w.mean(0), w.std(0), heads.reward.scores(gaussian.loc), sd


def khats(model, batch, heads):
    torch.manual_seed(1)
    with torch.no_grad():
        _, _, log_probs = weighted_draws(model, batch, heads, KHAT_DRAWS)
    return smooth(log_probs["log_weight"].numpy()).khat


def test_full_covariance_guide_is_near_the_exact_posterior(problem):
    batch, heads, w, s = problem
    model = refined(FullCovarianceGuide(), batch, heads)
    w_mean, w_sd, s_mean, s_sd = moments(model, batch, heads)
    for draws, mean, sd in ((w, w_mean, w_sd), (s, s_mean, s_sd)):
        assert ((mean - draws.mean(0)).abs() / draws.std(0)).max() < 0.1
        ratio = sd / draws.std(0)
        assert ratio.min() > 0.8
        assert ratio.max() < 1.1
    assert (khats(model, batch, heads) < 0.7).mean() >= 0.95


def test_halved_spread_is_caught(problem):
    batch, heads, _, _ = problem
    model = refined(FullCovarianceGuide(), batch, heads)
    q_weights, q_features = model.guide.distributions
    gaussian = as_gaussian(q_features)
    # Four times the concentration halves the sd of a Dirichlet, about.
    narrow = Gaussian(gaussian.loc, 0.5 * gaussian.scale).distribution()
    model.guide = FixedGuide(dist.Dirichlet(4 * q_weights.concentration), narrow)
    assert np.median(khats(model, batch, heads)) > 0.7


def test_diagonal_guide_has_the_means_but_not_the_spreads(problem):
    batch, heads, w, s = problem
    model = refined(OutcomeAwareGuide(), batch, heads)
    w_mean, _, s_mean, s_sd = moments(model, batch, heads)
    assert ((w_mean - w.mean(0)).abs() / w.std(0)).max() < 0.1
    assert ((s_mean - s.mean(0)).abs() / s.std(0)).max() < 0.1
    ratio = s_sd / s.std(0)
    assert ratio.min() > 0.5
    assert ratio.max() < 1.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit:DeprecationWarning")
def test_nuts_agrees_with_the_exact_draws(problem):
    """Four chains from starts of their own. All prompts are in one: they are independent."""
    batch, heads, w, s = problem
    model = small_model(num_objectives=4, latent_dim=4)
    chains = []
    for seed in range(4):
        pyro.set_rng_seed(seed)
        kernel = NUTS(
            lambda: model.program(batch, heads),
            max_tree_depth=6,
            jit_compile=True,  # a third of the time
            ignore_jit_warnings=True,
        )
        mcmc = MCMC(kernel, num_samples=1000, warmup_steps=300, disable_progbar=True)
        mcmc.run()
        chains.append(mcmc.get_samples())
    drawn = {
        "w": ([chain[WEIGHTS] for chain in chains], w),
        "s": ([heads.reward.scores(chain[FEATURES]) for chain in chains], s),
    }
    for name, (parts, exact) in drawn.items():
        values = torch.stack(parts).flatten(2).numpy()  # (chain, draw, quantity)
        columns = range(values.shape[-1])
        ess = np.array([array_stats.ess(values[..., k]) for k in columns])
        assert ess.min() > 400, name
        rhat = np.array([array_stats.rhat(values[..., k]) for k in columns])
        assert rhat.max() < 1.01, name
        values, exact = values.reshape(-1, values.shape[-1]), exact.flatten(1)
        error = values.std(0) / ess**0.5 + exact.std(0).numpy() / EXACT_DRAWS**0.5
        z = np.abs(values.mean(0) - exact.mean(0).numpy()) / error
        # 80 or 160 means at once: 4.5 standard errors are exceeded once in 900 such tests.
        assert z.max() < 4.5, name
