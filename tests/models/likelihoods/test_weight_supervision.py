import math
from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import HIDDEN_SIZE, small_batch
from scipy.integrate import quad
from scipy.special import gammaln
from torch.autograd import gradcheck

from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import LogisticNormal
from vrm_pyro.models.guides import LabelBlindGuide, LogisticNormalGuide
from vrm_pyro.models.likelihoods.weight_supervision import (
    WeightSupervision,
    dirichlet_kl,
    expected_cross_entropy,
    expected_squared_error,
    weight_targets,
)
from vrm_pyro.models.networks import CONCENTRATION_FLOOR
from vrm_pyro.models.objectives import IntegratedObjective, Weights
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.settings.compatibility import check_program
from vrm_pyro.models.vrm import VRM

ONE, ZERO = torch.ones(()).double(), torch.zeros(()).double()
ALPHA = torch.tensor([[2.0, 1.0, 0.5], [5.0, 9.0, 1.0]], dtype=torch.float64)
TARGET = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.4, 0.6]], dtype=torch.float64)
LOSSES = ("cross_entropy", "dirichlet_kl", "squared_error")


def supervised_model(loss, guide=None, power=0.7, total=6.0):
    torch.manual_seed(1)
    return VRM(
        HIDDEN_SIZE, 3, 2, DirichletPrior(), NormalPrior(), guide or LabelBlindGuide(4),
        LinearReward(3, 2), weight_power=power, weight_supervision=WeightSupervision(loss, total),
    ).double()  # fmt: skip


def test_expected_cross_entropy_by_draws():
    alpha = torch.tensor([[2.0, 1.0, 0.5], [5.0, 9.0, 1.0]]).double()
    target = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.4, 0.6]]).double()
    log_w = dist.Dirichlet(alpha).sample((200_000,)).log()
    values = (target * log_w).sum(-1)
    error = values.std(0) / 200_000**0.5
    exact = expected_cross_entropy(dist.Dirichlet(alpha), target)
    assert ((values.mean(0) - exact).abs() < 4.5 * error).all()


def test_targets_are_mean_shares_of_the_raw_ratings():
    batch = small_batch(3)
    loc, scale = torch.tensor(3.0).double(), torch.tensor(2.0).double()
    target, present = weight_targets(batch, loc, scale)
    assert target.shape == (3, 3)
    for prompt in range(3):
        shares = []
        for row in (batch.response_prompt == prompt).nonzero().squeeze(-1):
            raw = torch.where(batch.rating_mask[row], batch.ratings[row] * 2 + 3, 0.0).clamp(min=0)
            if raw.sum() > 0:
                shares.append(raw / raw.sum())
        assert bool(present[prompt]) == bool(shares)
        if shares:
            assert torch.allclose(target[prompt], torch.stack(shares).mean(0))


def test_prompts_without_ratings_have_no_target():
    batch = small_batch(3, ratings=False)
    target, present = weight_targets(batch, ZERO, ONE)
    assert not present.any()
    assert target.isfinite().all()


@pytest.mark.parametrize(
    ("alpha", "share", "total"), [((2.0, 3.0), 0.4, 7.0), ((0.6, 1.2), 0.9, 30.0)]
)
def test_dirichlet_kl_of_two_objectives_by_quadrature(alpha, share, total):
    first, second = total * share, total * (1 - share)

    def log_beta(a, b, x):
        norm = gammaln(a + b) - gammaln(a) - gammaln(b)
        return norm + (a - 1) * math.log(x) + (b - 1) * math.log1p(-x)

    def integrand(x):
        log_p = log_beta(first, second, x)
        return math.exp(log_p) * (log_p - log_beta(*alpha, x))

    exact, _ = quad(integrand, 0, 1, epsabs=1e-12, epsrel=1e-12, limit=500)
    weights = dist.Dirichlet(torch.tensor([alpha], dtype=torch.float64))
    value = dirichlet_kl(weights, torch.tensor([[share, 1 - share]], dtype=torch.float64), total)
    assert value.item() == pytest.approx(exact, abs=1e-8)


def test_dirichlet_kl_is_least_at_mean_and_spread_of_the_target():
    """Zero at q = Dir(nu t), larger for another mean and for another concentration."""
    target, total = TARGET[:1], 8.0
    at_target = dist.Dirichlet(total * target)
    assert dirichlet_kl(at_target, target, total).abs().item() < 1e-12
    for other in (total * target * 1.3, total * target / 1.3, total * target.flip(-1)):
        assert dirichlet_kl(dist.Dirichlet(other), target, total).item() > 0.01
    alpha = (total * target).requires_grad_()
    (slope,) = torch.autograd.grad(dirichlet_kl(dist.Dirichlet(alpha), target, total).sum(), alpha)
    assert slope.abs().max() < 1e-12


def test_a_share_of_zero_counts_as_the_floor_of_concentrations():
    weights = dist.Dirichlet(ALPHA)
    value = dirichlet_kl(weights, TARGET, 10.0)
    assert value.isfinite().all()
    floored = torch.tensor([CONCENTRATION_FLOOR, 4.0, 6.0], dtype=torch.float64)
    exact = torch.distributions.kl_divergence(dist.Dirichlet(floored), dist.Dirichlet(ALPHA[1]))
    assert value[1].item() == pytest.approx(exact.item(), rel=1e-12)


def test_expected_squared_error_by_draws():
    w = dist.Dirichlet(ALPHA).sample((200_000,))
    values = (w - TARGET).square().sum(-1)
    error = values.std(0) / 200_000**0.5
    exact = expected_squared_error(dist.Dirichlet(ALPHA), TARGET)
    assert ((values.mean(0) - exact).abs() < 4.5 * error).all()


def test_expected_squared_error_takes_other_laws():
    law = LogisticNormal(torch.tensor([[0.4, -0.3]]).double(), 0.5 * torch.eye(2).double()[None])
    w = law.rsample(torch.Size([200_000]))
    values = (w - TARGET[:1]).square().sum(-1)
    error = values.std(0) / 200_000**0.5
    # Moments by fixed nodes: their own error is far below that of the draws.
    assert (values.mean(0) - expected_squared_error(law, TARGET[:1])).abs() < 5 * error


@pytest.mark.parametrize("loss", LOSSES)
def test_gradient_of_every_loss_against_finite_differences(loss):
    supervision = WeightSupervision(loss, 4.0)
    assert gradcheck(
        lambda alpha: supervision.score(dist.Dirichlet(alpha, validate_args=False), TARGET),
        ALPHA.clone().requires_grad_(),
    )


@pytest.mark.parametrize("loss", LOSSES)
def test_objective_adds_lambda_times_the_score_of_rated_prompts(loss):
    model, batch = supervised_model(loss), small_batch()
    mask = batch.rating_mask & (batch.response_prompt != 1).unsqueeze(-1)
    batch = replace(batch, rating_mask=mask)
    model.rating_loc.fill_(3.0)
    model.rating_scale.fill_(2.0)
    conditionals = model.conditionals(batch)

    def objective(power):
        model.weight_power = power
        torch.manual_seed(4)
        terms = IntegratedObjective(2).terms(model, model.guide, batch, conditionals, Weights())
        return terms.objective

    target, present = weight_targets(batch, model.rating_loc, model.rating_scale)
    assert present.tolist() == [True, False, True, True, True]
    law = model.guide.weights(batch, conditionals)
    score = {
        "cross_entropy": expected_cross_entropy(law, target),
        "dirichlet_kl": -dirichlet_kl(law, target, 6.0),
        "squared_error": -expected_squared_error(law, target),
    }[loss]
    added = (objective(0.7) - objective(0.0)).item()
    assert added == pytest.approx(0.7 * score[present].sum().item(), rel=1e-10)


def test_dirichlet_kl_refuses_another_law_before_training():
    guide = LogisticNormalGuide(4)
    with pytest.raises(InputError, match="needs a Dirichlet q.w., but model.guide gives a Logist"):
        check_program(supervised_model("dirichlet_kl", guide), "integrated")
    check_program(supervised_model("squared_error", guide), "integrated")
    check_program(supervised_model("dirichlet_kl", guide, power=0.0), "integrated")  # not used
