import pytest
import torch

from vrm_pyro.models.priors import KernelDirichletPrior


def clusters(num_prompts, seed=0):
    """Return states in two directions and which of the two each has."""
    generator = torch.Generator().manual_seed(seed)
    kind = torch.arange(num_prompts) % 2
    states = 0.1 * torch.randn(num_prompts, 6, generator=generator)
    states[:, 0] += 1.0 * (kind == 0)
    states[:, 1] += 1.0 * (kind == 1)
    return states, kind


def fitted(states, rated=None, **settings):
    module = KernelDirichletPrior(**settings).build(6, 3)
    module.fit_states(states, rated)
    return module


def test_it_starts_at_its_initial_concentration_everywhere():
    module = fitted(clusters(100)[0], initial_concentration=2.5)
    alpha = module(torch.randn(7, 6)).concentration
    assert torch.allclose(alpha, torch.full((7, 3), 2.5), rtol=1e-5)


def test_centres_find_the_two_kinds_of_prompt():
    states, kind = clusters(100)
    module = fitted(states, num_centres=2)
    directions = torch.nn.functional.normalize(states)
    means = torch.stack([directions[kind == k].mean(0) for k in (0, 1)])
    distance = torch.cdist(module.centres[:, :6], means)
    assert distance.min(0).values.max() < 1e-3
    assert sorted(distance.argmin(1).tolist()) == [0, 1]


def test_fewer_prompts_than_centres_are_the_centres():
    states, _ = clusters(10)
    module = fitted(states, num_centres=25)
    directions = torch.nn.functional.normalize(states)
    assert torch.cdist(module.centres[:, :6], directions).min(-1).values.max() < 1e-3
    assert len(module.centres.unique(dim=0)) == 10
    assert module(states).concentration.isfinite().all()


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
    module = fitted(states, num_centres=2)
    own = int((module.centres[:, :6] @ torch.eye(6)[0]).argmax())  # a centre of kind 0
    with torch.no_grad():
        module.coefficients.weight[0, own] = 1.0
    moved = (module(states).mean[:, 0] - 1 / 3).abs()
    assert moved[kind == 0].min() > 3 * moved[kind == 1].max()
    assert moved[kind == 0].min() > 0.1


def kernel(module, states):
    """Return the kernel values of the centres: what a coefficient is multiplied by."""
    with torch.no_grad():
        module.coefficients.weight.zero_()
        values = []
        for centre in range(len(module.centres)):
            module.coefficients.weight[0, centre] = 0.01
            values.append(torch.log(module(states).mean[:, 0] / module(states).mean[:, 1]))
            module.coefficients.weight[0, centre] = 0.0
    return torch.stack(values, -1)


def test_a_wide_bandwidth_shares_among_all_prompts():
    states, _ = clusters(200)
    narrow, wide = (
        kernel(fitted(states, num_centres=2, bandwidth=width), states) for width in (0.1, 100.0)
    )
    assert narrow.max(-1).values.min() > 0.9  # the floor of the concentration takes a twentieth
    assert (wide[:, 0] - wide[:, 1]).abs().max() < 0.02


def test_the_kernel_falls_with_the_distance_to_centres_of_any_length():
    """Means of directions are shorter than 1, and shorter where prompts are spread more."""
    states = torch.eye(6)[:2]
    module = fitted(states, num_centres=2, bandwidth=0.5)
    with torch.no_grad():
        module.centres[:, :6] = torch.tensor([[0.9], [0.3]]) * torch.eye(6)[0]
    found = kernel(module, states)
    distance = torch.cdist(torch.eye(6)[:2], module.centres[:, :6]).square()
    expected = torch.softmax(-distance / 0.5, -1)
    assert torch.allclose(found / found.sum(-1, keepdim=True), expected, atol=0.01)


def rated_by_kind(states, kind):
    """Objective 0 is always rated, objective k on kind k - 1 only."""
    return torch.stack([kind >= 0, kind == 0, kind == 1], -1)


def test_relevances_are_read_off_the_prompt():
    states, kind = clusters(300)
    new, new_kind = clusters(100, seed=1)
    module = fitted(states, rated_by_kind(states, kind))
    relevance = module.relevances(new)
    assert (relevance[:, 0] == 0.5).all()  # rated everywhere: tells nothing apart
    assert ((relevance[:, 1] > 0.5) == (new_kind == 0)).all()
    assert ((relevance[:, 2] > 0.5) == (new_kind == 1)).all()


def test_relevance_is_calibrated_where_raters_skip_at_random():
    """A coin decides what is rated: the regression says so and does not read the state."""
    generator = torch.Generator().manual_seed(3)
    states = torch.randn(2000, 6, generator=generator)
    rated = torch.rand(2000, 3, generator=generator) < torch.tensor([0.2, 0.5, 0.9])
    module = fitted(states, rated)
    known = rated.any(-1)
    share = rated[known].float().mean(0)
    assert torch.allclose(module.relevances(states).mean(0), share, atol=0.02)
    assert module.relevances(states).std(0).max() < 0.05


def test_prompts_of_one_direction_part_by_what_is_rated_on_their_like():
    """Kinds a little apart in direction, wholly apart in what is rated: two centres."""
    states, kind = clusters(200)
    states[:, 2] = 2.0  # a large common direction
    module = fitted(states, rated_by_kind(states, kind), num_centres=2)
    own = kernel(module, states).argmax(-1)
    assert len(own[kind == 0].unique()) == 1
    assert own[kind == 0][0] != own[kind == 1][0]
    without = fitted(states, rated_by_kind(states, kind), num_centres=2, relevance=0.0)
    assert not without.relevance_weight.any()


def test_prompts_without_ratings_and_objectives_never_rated_are_left_out():
    states, kind = clusters(100)
    rated = rated_by_kind(states, kind)[:, :2]  # the third objective is an extra one
    rated[50:] = False
    module = fitted(states, rated)
    assert ((module.relevances(states)[:, 1] > 0.5) == (kind == 0)).all()
    assert (module.relevances(states)[:, 2] == 0.5).all()
    assert (fitted(states, torch.zeros(100, 0, dtype=torch.bool)).relevances(states) == 0.5).all()


def test_centres_and_relevances_travel_with_the_state():
    states, kind = clusters(60)
    one = fitted(states, rated_by_kind(states, kind))
    two = KernelDirichletPrior().build(6, 3)
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
