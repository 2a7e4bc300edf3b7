"""What every preference likelihood of the table has to hold, fixed and learned (spec 2.4)."""

import copy

import pytest
import torch
from torch import nn

from vrm_pyro.models.likelihoods import (
    PREFERENCE_LIKELIHOODS,
    Davidson,
    GaussianDelta,
    Graded,
    Lapse,
    Preference,
    RaoKupper,
)

FAR = torch.tensor([-700.0, -30.0, -2.0, 0.0, 0.5, 25.0, 700.0]).double()
NEAR = torch.linspace(-6, 6, 25).double()

TABLE = {name: kind() for name, kind in PREFERENCE_LIKELIHOODS.items()}
# Even and odd numbers of levels, gaps that differ, and one far below the rest.
GRADED = {
    "Graded3": Graded(3, (0.7,)),
    "Graded4": Graded(4, (1.5,)),
    "Graded6": Graded(6, (0.4, 2.0)),
    "Graded7": Graded(7, (0.3, 1e-3, 1.7)),
}
LEARNABLE = {
    name: likelihood
    for name, likelihood in {**TABLE, **GRADED}.items()
    if isinstance(likelihood.build(), nn.Module)
}
BUILT = {name: likelihood.build() for name, likelihood in {**TABLE, **GRADED}.items()}
# An entry of the table is a likelihood without being built, too.
FIXED = {f"{name} fixed": likelihood for name, likelihood in LEARNABLE.items()}
CASES = {**BUILT, **FIXED}
ALL = pytest.mark.parametrize("likelihood", CASES.values(), ids=list(CASES))
# Kinds with parameters, at known values and at the start of a fit.
PARAMETRIC = {
    "Lapse": (Lapse(0.12), Lapse(0.05)),
    "Davidson": (Davidson(1.3), Davidson(0.5)),
    "RaoKupper": (RaoKupper(0.8), RaoKupper(0.5)),
    "Graded": (Graded(5, (0.4, 1.6)), Graded()),
    "Graded4": (Graded(4, (0.9,)), Graded(4)),
}


def labels(likelihood):
    """Yield every outcome, and soft labels between and near them."""
    outcomes = outcomes_of(likelihood)
    between = 0.7 * outcomes[:-1] + 0.3 * outcomes[1:]
    return torch.cat([outcomes, between, outcomes[1:] - 1e-9])


def outcomes_of(likelihood, dtype=torch.float64):
    return torch.tensor(likelihood.outcomes, dtype=dtype)


@pytest.fixture(autouse=True)
def no_gradient_left():
    yield
    for likelihood in BUILT.values():
        if isinstance(likelihood, nn.Module):
            likelihood.zero_grad()


def test_every_parametric_kind_of_the_table_is_fitted_below():
    kinds = {name for name, kind in TABLE.items() if isinstance(kind.build(), nn.Module)}
    assert kinds <= set(PARAMETRIC)


@ALL
def test_outcomes_are_symmetric(likelihood):
    outcomes = outcomes_of(likelihood)
    assert outcomes[0] == 0
    assert outcomes[-1] == 1
    assert (outcomes.diff() > 0).all()
    assert torch.allclose(1 - outcomes.flip(0), outcomes, rtol=0, atol=1e-15)


@ALL
def test_expectations_over_a_normal_difference(likelihood):
    """Closed or by nodes: against a fine grid, for every outcome and soft label."""
    loc, variance = NEAR, torch.linspace(0.01, 6, 25).double()
    z = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    mass = torch.softmax(-(z**2) / 2, 0)
    delta = loc.unsqueeze(-1) + variance.sqrt().unsqueeze(-1) * z
    with torch.no_grad():
        exact = likelihood.probability(delta) @ mass
        found = likelihood.expected_probability(loc, variance)
        assert torch.allclose(found, exact, rtol=0, atol=2e-6)
        for label in labels(likelihood):
            exact = likelihood.log_prob(delta, label) @ mass
            found = likelihood.expected_log_prob(loc, variance, label.expand_as(loc))
            assert torch.allclose(found, exact, rtol=0, atol=5e-6)


@ALL
def test_outcomes_are_normalised(likelihood):
    with torch.no_grad():
        terms = [likelihood.log_prob(FAR, c).exp() for c in outcomes_of(likelihood)]
        assert torch.allclose(sum(terms), torch.ones_like(FAR), rtol=0, atol=1e-12)
        stacked = likelihood.outcome_probabilities(FAR)
    assert torch.equal(stacked, torch.stack(terms, -1))


@ALL
def test_exchanging_the_answers_negates_delta_and_flips_the_label(likelihood):
    with torch.no_grad():
        for c in labels(likelihood):
            direct, swapped = (
                [law(sign * FAR, c if sign > 0 else 1 - c) for sign in (1, -1)]
                for law in (likelihood.log_prob, likelihood.score)
            )
            assert torch.allclose(direct[0], direct[1], rtol=1e-12, atol=1e-12)
            assert torch.allclose(swapped[0], -swapped[1], rtol=1e-12, atol=1e-15)
        total = likelihood.probability(FAR) + likelihood.probability(-FAR)
        assert (total - 1).abs().max() < 1e-12
        forth, back = likelihood.information(FAR), likelihood.information(-FAR)
        assert torch.allclose(forth, back, rtol=1e-10, atol=1e-15)


@ALL
def test_probability_counts_a_tie_half(likelihood):
    outcomes = outcomes_of(likelihood)
    half = torch.where(outcomes == 0.5, 0.5, (outcomes > 0.5).double())
    with torch.no_grad():
        expected = (likelihood.outcome_probabilities(NEAR) * half).sum(-1)
        chance = likelihood.probability(NEAR)
        assert torch.allclose(chance, expected, rtol=1e-10)
        assert (chance.diff() > 0).all()
        even = likelihood.probability(torch.zeros(()).double())
        assert even.item() == pytest.approx(0.5, abs=1e-15)


@ALL
def test_outcomes_sum_to_one_under_gaussian_delta(likelihood):
    """Spec check 8; and swapping the answers of a pair maps c to 1 - c in distribution."""
    loc = torch.linspace(-20, 20, 81).double()
    scale = torch.linspace(0, 8, 81).double()
    with torch.no_grad():
        law, swapped = (GaussianDelta(sign * loc, scale, likelihood) for sign in (1, -1))
        outcomes = outcomes_of(likelihood)
        total = sum(law.log_prob(c).exp() for c in outcomes.expand(81, -1).T)
        assert (total - 1).abs().max() < 1e-12
        assert (law.mean + swapped.mean - 1).abs().max() < 1e-12
        for c in outcomes:
            mirrored = swapped.log_prob((1 - c).expand(81)).exp()
            assert torch.allclose(law.log_prob(c.expand(81)).exp(), mirrored, rtol=0, atol=1e-12)


@ALL
def test_soft_labels_interpolate_between_neighbouring_outcomes(likelihood):
    outcomes = outcomes_of(likelihood)
    with torch.no_grad():
        for law in (likelihood.log_prob, likelihood.score):
            for low, high in zip(outcomes[:-1], outcomes[1:], strict=True):
                below, above = law(FAR, low), law(FAR, high)
                for share in (0.0, 0.3, 0.5, 1 - 1e-7, 1.0):
                    soft = law(FAR, low + share * (high - low))
                    mixed = (1 - share) * below + share * above
                    assert torch.allclose(soft, mixed, rtol=1e-9, atol=1e-12)


@ALL
def test_labels_broadcast_against_differences(likelihood):
    label = labels(likelihood)
    table = torch.stack([likelihood.log_prob(NEAR, c) for c in label]).detach()
    wide = likelihood.log_prob(NEAR.expand(2, len(label), -1), label.unsqueeze(-1)).detach()
    assert wide.shape == (2, len(label), len(NEAR))
    assert torch.allclose(wide, table.expand(2, -1, -1), rtol=1e-14)


@ALL
def test_score_is_the_gradient_of_the_log_probability(likelihood):
    step = 1e-5
    for c in labels(likelihood):
        delta = NEAR.clone().requires_grad_()
        likelihood.log_prob(delta, c).sum().backward()
        with torch.no_grad():
            score = likelihood.score(NEAR, c)
            up, down = (likelihood.log_prob(NEAR + s * step, c) for s in (1, -1))
        assert torch.allclose(score, delta.grad, rtol=1e-6, atol=1e-9)
        assert torch.allclose(score, (up - down) / (2 * step), rtol=1e-6, atol=1e-8)


@ALL
def test_information_is_the_variance_of_the_score(likelihood):
    with torch.no_grad():
        chance = likelihood.outcome_probabilities(NEAR)
        score = torch.stack([likelihood.score(NEAR, c) for c in outcomes_of(likelihood)], -1)
        mean, square = (chance * score).sum(-1), (chance * score**2).sum(-1)
        assert mean.abs().max() < 1e-10
        assert torch.allclose(likelihood.information(NEAR), square, rtol=1e-6)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_overflows_far_out(likelihood, dtype):
    for c in (*likelihood.outcomes, 0.3):
        delta = FAR.to(dtype).requires_grad_()
        log_prob = likelihood.log_prob(delta, torch.full_like(delta, c))
        assert log_prob.dtype == dtype
        assert log_prob.isfinite().all()
        log_prob.sum().backward()
        assert delta.grad.isfinite().all()
        assert likelihood.score(delta, torch.full_like(delta, c)).isfinite().all()
    assert likelihood.information(delta).isfinite().all()
    assert (likelihood.information(delta) >= 0).all()
    assert likelihood.probability(delta).dtype == dtype
    if isinstance(likelihood, nn.Module):
        assert all(p.grad.isfinite().all() for p in likelihood.parameters())


@ALL
def test_draws_are_outcomes_with_their_probabilities(likelihood):
    delta, num_draws = torch.tensor([-1.5, 0.0, 0.4]).double(), 20_000
    laws = (Preference(delta, likelihood), GaussianDelta(delta, 0 * delta + 1.2, likelihood))
    for law in laws:
        drawn = law.sample(torch.Size([num_draws]))
        chance = law.probs.detach()
        seen = torch.stack([(drawn == c).double() for c in outcomes_of(likelihood)], -1)
        assert (seen.sum(-1) == 1).all()
        error = (chance * (1 - chance) / num_draws).sqrt()
        assert ((seen.mean(0) - chance).abs() < 4.5 * error).all()
        spread = drawn.std(0) / num_draws**0.5
        assert ((drawn.mean(0) - law.mean.detach()).abs() < 4.5 * spread).all()


@pytest.mark.parametrize("name", LEARNABLE)
def test_module_starts_where_the_fixed_one_is(name):
    likelihood, module = LEARNABLE[name], LEARNABLE[name].build()
    assert module.outcomes == likelihood.outcomes
    assert likelihood.log_prior() == 0
    with torch.no_grad():
        for c in labels(likelihood):
            fixed, learned = (law.log_prob(FAR, c) for law in (likelihood, module))
            assert torch.allclose(fixed, learned, rtol=1e-5, atol=1e-5)
        assert torch.allclose(likelihood.information(NEAR), module.information(NEAR), rtol=1e-4)


@pytest.mark.parametrize("name", LEARNABLE)
def test_held_fixed_a_module_is_the_same_and_takes_no_gradient(name):
    module = LEARNABLE[name].build()
    fixed = module.detach()
    delta = torch.linspace(-2, 2, 9, requires_grad=True)
    for c in module.outcomes:
        label = torch.full_like(delta, c)
        assert torch.equal(fixed.log_prob(delta, label), module.log_prob(delta, label))
    fixed.log_prob(delta, torch.ones_like(delta)).sum().backward()
    assert delta.grad.abs().min() > 0
    assert all(p.grad is None for p in [*module.parameters(), *fixed.parameters()])


@pytest.mark.parametrize("name", LEARNABLE)
def test_learned_parameters_receive_a_gradient_and_stay_positive(name):
    module = LEARNABLE[name].build()
    delta = torch.linspace(-2, 2, 9)
    c = torch.tensor(module.outcomes)[:, None]
    (module.log_prob(delta, c).sum() + module.log_prior()).backward()
    for parameter in module.parameters():
        assert (parameter.grad.abs() > 1e-4).all()
        with torch.no_grad():
            parameter -= 20  # far past anything that training finds
    with torch.no_grad():
        assert module.log_prob(FAR, torch.tensor(0.3).double()).isfinite().all()
        assert module.outcome_probabilities(FAR).isfinite().all()


@pytest.mark.parametrize("name", PARAMETRIC)
def test_learned_parameters_come_back_from_a_state_dict(name):
    truth, start = (copy.deepcopy(likelihood.build()) for likelihood in PARAMETRIC[name])
    c = outcomes_of(truth)[:, None]
    before = start.log_prob(NEAR, c)
    start.load_state_dict(truth.state_dict())
    assert not torch.allclose(before, start.log_prob(NEAR, c))
    assert torch.equal(truth.log_prob(NEAR, c), start.log_prob(NEAR, c))


@pytest.mark.parametrize("name", PARAMETRIC)
def test_learned_parameters_are_recovered(name):
    """20,000 simulated labels: the maximum is within 4 standard errors of the truth."""
    truth, module = (likelihood.build().double() for likelihood in PARAMETRIC[name])
    delta = 2 * torch.randn(20_000).double()
    label = Preference(delta, truth).sample()
    (parameter,) = module.parameters()
    for _ in range(20):
        loss = -module.log_prob(delta, label).sum()
        (gradient,) = torch.autograd.grad(loss, parameter, create_graph=True)
        rows = [torch.autograd.grad(g, parameter, retain_graph=True)[0] for g in gradient.view(-1)]
        hessian = torch.stack(rows).reshape(gradient.numel(), gradient.numel())
        step = torch.linalg.solve(hessian, gradient.detach().reshape(-1))
        with torch.no_grad():
            parameter -= step.clamp(-0.5, 0.5).reshape(parameter.shape)
    assert step.abs().max() < 1e-8
    error = torch.linalg.inv(hessian).diagonal().sqrt()
    (exact,) = truth.parameters()
    assert (error < 0.2).all()
    assert ((parameter - exact).detach().reshape(-1).abs() < 4 * error).all()
