import math

import pytest
import torch
from torch import nn

from vrm_pyro.models.networks import (
    CONCENTRATION_CAP,
    CONCENTRATION_FLOOR,
    SCALE_FLOOR,
    DirichletNetwork,
    NormalNetwork,
    Standardize,
    concentration_from,
    inverse_softplus,
    mlp,
    scale_from,
)


@pytest.mark.parametrize("value", [1e-4, 0.5, 3.0, 40.0, 4000.0])
def test_inverse_softplus(value):
    back = nn.functional.softplus(torch.tensor(inverse_softplus(value)).double())
    assert back.item() == pytest.approx(value, rel=1e-6)


def test_standardize_centres_and_scales_but_leaves_constants():
    states = torch.randn(500, 4) * torch.tensor([1.0, 10.0, 0.1, 0.0]) + 5
    scaler = Standardize(4)
    assert torch.equal(scaler(states), states)
    scaler.set_statistics(states.mean(0), states.std(0, unbiased=False))
    out = scaler(states)
    assert torch.allclose(out.mean(0), torch.zeros(4), atol=1e-4)
    assert torch.allclose(out[:, :3].std(0, unbiased=False), torch.ones(3), atol=1e-3)
    assert (out[:, 3].abs() < 1e-5).all()
    assert set(scaler.state_dict()) == {"loc", "scale"}
    assert not list(scaler.parameters())


def test_standardize_returns_float32_for_half_precision_states():
    """A Dirichlet has no bf16 sampler, and its KL in bf16 is off by percents."""
    assert Standardize(4)(torch.randn(2, 4, dtype=torch.bfloat16)).dtype == torch.float32


def test_mlp_without_hidden_units_is_linear():
    network, x = mlp(3, 0, 2), torch.randn(5, 3)
    assert torch.allclose(network(2 * x), 2 * network(x), atol=1e-6)
    assert not torch.allclose(mlp(3, 8, 2)(2 * x), 2 * mlp(3, 8, 2)(x), atol=1e-3)


def test_mlp_drops_units_in_training_only():
    network, x = mlp(3, 64, 2, dropout=0.5), torch.randn(5, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_mean_and_total_concentration_are_separate():
    logits = torch.tensor([0.3, -1.0, 2.0])
    totals = torch.tensor([[1.0], [5.0], [300.0]])
    alpha = concentration_from(logits, totals)
    above = alpha - CONCENTRATION_FLOOR
    assert torch.allclose(above.sum(-1), nn.functional.softplus(totals).squeeze(-1), rtol=1e-5)
    shares = above / above.sum(-1, keepdim=True)
    assert torch.allclose(shares, torch.softmax(logits, -1).expand(3, -1), atol=1e-4)
    assert concentration_from(logits, torch.tensor([1e6])).max() == CONCENTRATION_CAP


def test_scale_keeps_its_floor():
    raw = torch.tensor([-200.0, 0.0, 5.0])
    assert scale_from(raw).tolist() == pytest.approx(
        [SCALE_FLOOR, SCALE_FLOOR + math.log(2), SCALE_FLOOR + 5.0067153], rel=1e-6
    )


@pytest.mark.parametrize("initial", [0.4, 1.0, 30.0])
def test_dirichlet_network_starts_at_its_initial_concentration(initial):
    network = DirichletNetwork(6, 5, 0, 0.0, initial).double()
    alpha = network(torch.zeros(1, 6).double())  # the mean of standardised states
    assert alpha.squeeze(0).tolist() == pytest.approx([initial] * 5, rel=1e-6)
    alpha = network(torch.randn(7, 6).double())
    assert alpha.shape == (7, 5)
    assert alpha.std(0).min() > 0.01 * initial  # it does read the state


def test_normal_network_starts_at_its_initial_scale():
    network = NormalNetwork(6, 3, 0, 0.0, 0.5).double()
    loc, scale = network(torch.zeros(1, 6).double())
    assert loc.abs().max() == 0
    assert scale.squeeze(0).tolist() == pytest.approx([0.5] * 3, rel=1e-6)
    loc, scale = network(torch.randn(7, 6).double())
    assert loc.shape == scale.shape == (7, 3)
