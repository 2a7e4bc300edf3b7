import pytest
import torch

from vrm_pyro.priors import KernelDirichletPrior


def clusters(num_prompts, seed=0):
    """Return states in two directions and which of the two each has."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(num_prompts) % 2
    states = 0.1 * torch.randn(num_prompts, 6, generator=generator)
    states[:, 0] += 1.0 * (kind == 0)
    states[:, 1] += 1.0 * (kind == 1)
    return states, kind


def fitted(states, **settings):
    module = KernelDirichletPrior(**settings).build(6, 3)
    module.fit_states(states)
    return module


def test_it_starts_at_its_initial_concentration_everywhere():
    module = fitted(clusters(100)[0], initial_concentration=2.5)
    alpha = module(torch.randn(7, 6)).concentration
    assert torch.allclose(alpha, torch.full((7, 3), 2.5), rtol=1e-5)


def test_centres_are_training_prompts_on_the_sphere():
    states, _ = clusters(100)
    module = fitted(states, num_centres=20)
    directions = torch.nn.functional.normalize(states)
    nearest = torch.cdist(module.centres, directions).min(-1).values
    assert nearest.max() < 1e-3  # as near as float32 distances tell
    assert len(module.centres.unique(dim=0)) == 20


def test_fewer_prompts_than_centres_repeat():
    states, _ = clusters(10)
    module = fitted(states, num_centres=25)
    assert module.centres.shape == (25, 6)
    assert module(states).concentration.isfinite().all()
    assert module.bandwidth > 0


def test_only_the_direction_of_a_state_counts():
    states, _ = clusters(100)
    module = fitted(states)
    torch.nn.init.normal_(module.coefficients.weight, std=0.1)
    assert torch.allclose(
        module(states).concentration, module(5 * states).concentration, rtol=1e-4
    )


def test_a_coefficient_moves_the_neighbourhood_of_its_centre():
    """Prompts of one kind share what one of them learns; the other kind does not hear of it."""
    states, kind = clusters(200)
    module = fitted(states, num_centres=200, quantile=0.2)
    own = int((module.centres @ torch.eye(6)[0]).argmax())  # a centre of kind 0
    with torch.no_grad():
        module.coefficients.weight[0, own] = 1.0
    moved = (module(states).mean[:, 0] - 1 / 3).abs()
    assert moved[kind == 0].min() > 3 * moved[kind == 1].max()


def test_bandwidth_grows_with_the_quantile():
    states, _ = clusters(200)
    narrow, wide = (fitted(states, quantile=q).bandwidth for q in (0.02, 0.4))
    assert narrow < wide


def test_centres_and_bandwidth_travel_with_the_state():
    states, _ = clusters(60)
    one, two = fitted(states), KernelDirichletPrior().build(6, 3)
    torch.nn.init.normal_(one.coefficients.weight, std=0.1)
    two.load_state_dict(one.state_dict())
    assert torch.equal(one(states).concentration, two(states).concentration)
    assert {name for name, _ in one.named_parameters()} == {
        "coefficients.weight",
        "coefficients.bias",
    }


def test_gradients_reach_the_coefficients():
    states, _ = clusters(30)
    module = fitted(states)
    module(states).rsample().square().sum().backward()
    assert module.coefficients.weight.grad.abs().max() > 0
    assert module.coefficients.weight.grad.isfinite().all()


@pytest.mark.parametrize("num_prompts", [1, 3])
def test_very_few_prompts(num_prompts):
    states, _ = clusters(num_prompts)
    assert fitted(states)(states).concentration.isfinite().all()
