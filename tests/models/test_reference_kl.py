import pyro.distributions as dist
import torch

from vrm_pyro.models.reference_kl import kl_features, kl_weights


def test_values_of_the_specification():
    # spec 2.6, sizes to keep in mind
    laws = dist.Dirichlet(
        torch.tensor([[1.0] * 4, [2.5] * 4, [25.0] * 4, [0.1] * 4, [10.0, 1, 1, 1]])
    )
    expected = torch.tensor([0, 0.58, 3.67, 18.3, 2.93], dtype=torch.float64)
    assert torch.allclose(kl_weights(laws), expected, atol=0.05)


def test_sum_over_dimensions_against_monte_carlo():
    loc, scale = torch.randn(3, 4), torch.rand(3, 4) + 0.3
    law = dist.Normal(loc, scale).to_event(1)
    z = law.sample((100_000,))
    ratio = law.log_prob(z) - dist.Normal(0.0, 1.0).log_prob(z).sum(-1)
    error = ratio.std(0) / len(z) ** 0.5
    assert ((kl_features(law) - ratio.mean(0)).abs() < 4.5 * error).all()


def test_float64_keeps_the_digits_of_a_sure_law():
    concentration = torch.tensor([[4000.0, 3000.0, 2000.0]])
    exact = kl_weights(dist.Dirichlet(concentration.double()))
    assert kl_weights(dist.Dirichlet(concentration)).dtype == torch.float64
    assert torch.equal(kl_weights(dist.Dirichlet(concentration)), exact)
