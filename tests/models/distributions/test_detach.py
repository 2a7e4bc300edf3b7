"""Copies of a distribution: held fixed, or in float64, down to its innermost parameter."""

import pyro.distributions as dist
import pytest
import torch
from pyro.distributions import transforms

from vrm_pyro.models.distributions import LogisticNormal, detach, to_double

PARAMETER = torch.tensor([[0.5, 1.5, 2.0], [1.0, 0.3, 4.0]])
W = torch.tensor([[0.2, 0.5, 0.3], [0.6, 0.1, 0.3]])


def made_of(parameter):
    """Return distributions of every make whose parameters all come from one tensor (2, 3)."""
    square = torch.diag_embed(parameter[:, :2])
    both = torch.stack([parameter, parameter + 1], 1)
    return {
        "Dirichlet": dist.Dirichlet(parameter),
        "LogisticNormal": LogisticNormal(parameter[:, :2], square),
        "Normal": dist.Normal(parameter, parameter).to_event(1),
        "MultivariateNormal": dist.MultivariateNormal(
            parameter, scale_tril=torch.diag_embed(parameter)
        ),
        "Delta": dist.Delta(parameter, event_dim=1),
        "Mixture": dist.MixtureSameFamily(
            dist.Categorical(logits=both.sum(-1)), dist.Dirichlet(both)
        ),
        "Transformed": dist.TransformedDistribution(
            dist.Normal(parameter, 1.0).to_event(1),
            [
                transforms.AffineTransform(parameter, parameter, event_dim=1),
                transforms.ComposeTransform([transforms.AffineTransform(0.0, parameter, 1)]),
            ],
        ),
    }


NAMES = sorted(made_of(PARAMETER))


@pytest.mark.parametrize("name", NAMES)
def test_detached_law_is_the_same_without_gradient(name):
    law = made_of(PARAMETER.clone().requires_grad_())[name]
    value = law.sample().detach() if name != "Transformed" else W
    fixed = detach(law)
    assert type(fixed) is type(law)
    assert torch.equal(fixed.log_prob(value), law.log_prob(value))
    assert law.log_prob(value).requires_grad or (name == "Delta" and law.mean.requires_grad)
    assert not fixed.log_prob(value).requires_grad
    draw = fixed.rsample() if fixed.has_rsample else fixed.sample()
    assert not draw.requires_grad


@pytest.mark.parametrize("name", NAMES)
def test_double_law_is_the_law_of_double_parameters(name):
    law = to_double(made_of(PARAMETER)[name])
    wanted = made_of(PARAMETER.double())[name]
    value = wanted.sample() if name != "Transformed" else W.double()
    assert law.sample().dtype == torch.float64
    assert torch.allclose(law.log_prob(value), wanted.log_prob(value), rtol=1e-6)
    assert law.log_prob(value).dtype == torch.float64


def test_gradient_of_a_double_law_reaches_the_parameters():
    parameter = PARAMETER.clone().requires_grad_()
    to_double(dist.Dirichlet(parameter)).log_prob(W.double()).sum().backward()
    assert parameter.grad.abs().min() > 0


def test_a_network_inside_is_refused():
    law = dist.TransformedDistribution(
        dist.Normal(torch.zeros(3), 1.0).to_event(1), [transforms.Planar(3)]
    )
    with pytest.raises(TypeError, match="Planar is a network inside a distribution"):
        detach(law)
