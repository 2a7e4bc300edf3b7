"""Check 3: gradients of the objectives against finite differences, exact values and limits."""

from dataclasses import replace

import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import (
    assert_within,
    repeat,
    repeat_conditionals,
    small_batch,
    small_model,
    with_guide,
)

from vrm_pyro.models.networks import CONCENTRATION_FLOOR, concentration_from, scale_from
from vrm_pyro.models.objectives import IntegratedObjective, SampledObjective, Weights
from vrm_pyro.models.objectives.integrated import integrated_terms
from vrm_pyro.prediction.posterior.refine import FixedGuide

STEP = 1e-5


def moving_nodes(concentration, base):
    """Return fixed Gauss-Jacobi nodes of ``base`` with the mass a Dirichlet gives them.

    Nodes that move with alpha would hide its gradient: they carry none. Here the log mass does,
    through the ratio of densities; at ``concentration`` equal to ``base`` it is Gauss-Jacobi.
    """
    nodes, log_mass = golden.jacobi_nodes(base, 32)
    ratio = dist.Dirichlet(concentration).log_prob(nodes) - dist.Dirichlet(base).log_prob(nodes)
    return nodes, log_mass + ratio


@pytest.mark.parametrize("mode", ["conditional", "vib"])
@pytest.mark.parametrize("weights", [Weights(), Weights(0.3, 0.7)], ids=["elbo", "tempered"])
def test_every_parameter_against_central_differences(mode, weights):
    model = small_model(mode, num_objectives=2, power=0.6)
    batch = small_batch(3, num_objectives=2)
    base = model.guide.posterior(batch, model.conditionals(batch))[0].concentration.detach()

    class Value(torch.nn.Module):
        """The integrated ELBO per prompt as a function of all parameters."""

        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self):
            conditionals = self.model.conditionals(batch)
            q_weights, q_features = self.model.guide.posterior(batch, conditionals)
            nodes, log_mass = moving_nodes(q_weights.concentration, base)
            terms = integrated_terms(
                batch, conditionals, q_weights, q_features, nodes, log_mass, weights
            )
            return terms.objective / batch.num_prompts

    value = Value()
    names = [name for name, _ in value.named_parameters()]
    families = ("guide", "reward.loading", "reward.intercept", "reward.log_scale", "ratings")
    families += ("weight_prior", "feature_prior") if mode == "conditional" else ()
    for family in families:
        assert any(name.startswith(f"model.{family}") for name in names), family
    gradients = dict(
        zip(names, torch.autograd.grad(value(), list(value.parameters())), strict=True)
    )
    with torch.no_grad():
        for name, parameter in value.named_parameters():
            for index in range(parameter.numel()):
                entry = parameter.view(-1)[index]
                kept = entry.item()
                sides = []
                for side in (STEP, -STEP):
                    entry.fill_(kept + side)
                    sides.append(value().item())
                entry.fill_(kept)
                exact = gradients[name].view(-1)[index].item()
                error = abs((sides[0] - sides[1]) / (2 * STEP) - exact)
                assert error / max(abs(exact), 1e-3) < 1e-6, f"{name}[{index}]"
    assert all(gradient.abs().max() > 1e-6 for gradient in gradients.values())


def exact_gradients(ratings):
    """Return d ELBO / d alpha, mu, log sd at the listed guide, by quadrature and differences."""
    q_weights, q_features = golden.guide(ratings)
    normal = q_features.base_dist
    point = {
        "alpha": q_weights.concentration,
        "loc": normal.loc,
        "log_scale": normal.scale.log(),
    }

    def value(alpha, loc, log_scale):
        nodes, log_mass = golden.jacobi_nodes(alpha)
        q_features = dist.Normal(loc, log_scale.exp()).to_event(1)
        return integrated_terms(
            golden.batch(ratings), golden.conditionals(), dist.Dirichlet(alpha), q_features,
            nodes, log_mass, Weights(),
        ).objective  # fmt: skip

    gradients = {}
    for name, tensor in point.items():
        gradient = torch.zeros_like(tensor)
        for index in range(tensor.numel()):
            shift = torch.zeros_like(tensor)
            shift.view(-1)[index] = STEP
            up = value(**{**point, name: tensor + shift})
            down = value(**{**point, name: tensor - shift})
            gradient.view(-1)[index] = (up - down) / (2 * STEP)
        gradients[name] = gradient
    return gradients


@pytest.mark.parametrize("objective", [SampledObjective, IntegratedObjective])
@pytest.mark.parametrize("ratings", [False, True], ids=["labels", "ratings"])
def test_mean_drawn_gradient(ratings, objective):
    """2e5 copies of the golden prompt, each with its own leaf: every leaf gets one draw."""
    copies, chunks = 50_000, 4
    batch = repeat(golden.batch(ratings), copies)
    conditionals = repeat_conditionals(golden.conditionals(), copies)
    q_weights, normal = golden.guide(ratings)[0], golden.guide(ratings)[1].base_dist
    draws = {"alpha": [], "loc": [], "log_scale": []}
    model = small_model(num_objectives=2)
    for _ in range(chunks):
        leaves = {
            "alpha": q_weights.concentration.repeat(copies, 1).requires_grad_(),
            "loc": normal.loc.repeat(copies, 1).requires_grad_(),
            "log_scale": normal.scale.log().repeat(copies, 1).requires_grad_(),
        }
        q_features = dist.Normal(leaves["loc"], leaves["log_scale"].exp()).to_event(1)
        guide = FixedGuide(dist.Dirichlet(leaves["alpha"]), q_features)
        model = with_guide(model, guide)
        objective(1).terms(model, guide, batch, conditionals, Weights()).objective.backward()
        for name, leaf in leaves.items():
            draws[name].append(leaf.grad)
    for name, exact in exact_gradients(ratings).items():
        gradient = torch.cat(draws[name]).view(copies * chunks, -1)
        error = gradient.std(0) / (copies * chunks) ** 0.5
        assert error.max() < 0.05
        assert_within(gradient.mean(0), exact.view(-1), error, 4.5)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("scale", [0.1, 0.5, 1.0, 5.0, 50.0])
def test_pathwise_gradient_of_a_dirichlet(scale, dtype):
    """E sum t_k w_k^2 has an exact derivative; the pathwise one is an approximation of torch's."""
    draws, target = 400_000, torch.tensor([0.2, -1.0, 0.5], dtype=dtype)
    alpha = (scale * torch.tensor([1.0, 1.3, 0.7], dtype=dtype)).clamp(min=CONCENTRATION_FLOOR)
    leaf = alpha.expand(draws, 3).clone().requires_grad_()
    ((dist.Dirichlet(leaf).rsample() ** 2) @ target).sum().backward()
    variable = alpha.double().requires_grad_()
    total = variable.sum()
    expected = variable * (variable + 1) / (total * (total + 1))
    (exact,) = torch.autograd.grad((expected * target.double()).sum(), variable)
    gradient = leaf.grad.double()
    assert_within(gradient.mean(0), exact, gradient.std(0) / draws**0.5, 4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_concentration_cannot_fall_below_the_floor(dtype):
    grid = torch.tensor([-60.0, -20.0, -1.0, 0.0, 1.0, 20.0, 60.0], dtype=dtype)
    logits = torch.cartesian_prod(grid, grid, grid)  # (343, 3)
    for raw_total in grid:
        alpha = concentration_from(logits, raw_total.expand(len(logits), 1))
        assert alpha.min() >= CONCENTRATION_FLOOR
        assert alpha.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", [IntegratedObjective, SampledObjective])
def test_loss_and_gradients_stay_finite_at_extreme_outputs(objective, dtype):
    """All corners of logits and totals in [-60, 60], for prior and guide, labels both ways."""
    grid = torch.tensor([-60.0, 0.0, 60.0], dtype=dtype)
    corners = torch.cartesian_prod(grid, grid, grid)  # logits of w_1, w_2 and the raw total
    num_prompts = len(corners)
    batch = repeat(golden.batch(True, dtype=dtype), num_prompts)
    for shift, label in ((0, 1.0), (7, 0.0), (14, 1.0)):
        leaves = [corners.clone().requires_grad_(), corners.roll(shift, 0).requires_grad_()]
        q_weights, p_weights = (
            dist.Dirichlet(concentration_from(leaf[:, :2], leaf[:, 2:])) for leaf in leaves
        )
        raw = torch.stack([corners[:, :2], corners[:, 1:]], 1).reshape(-1, 2)
        raw = raw.clone().requires_grad_()
        q_features = dist.Normal(raw.flip(0), scale_from(raw)).to_event(1)
        guide = FixedGuide(q_weights, q_features)
        model = with_guide(small_model(num_objectives=2), guide)
        conditionals = replace(
            repeat_conditionals(golden.conditionals(dtype), num_prompts), weights=p_weights
        )
        labelled = replace(batch, preference=torch.full_like(batch.preference, label))
        loss = objective(2).differentiable_loss(model, guide, labelled, conditionals)
        loss.backward()
        assert loss.isfinite()
        for leaf in (*leaves, raw):
            assert leaf.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_outcome_aware_guide_stays_finite_at_extreme_outputs(dtype):
    model = small_model(num_objectives=2, dtype=dtype)
    grid = torch.tensor([-60.0, 0.0, 60.0], dtype=dtype)
    corners = torch.cartesian_prod(grid, grid, grid).requires_grad_()
    batch = repeat(golden.batch(True, dtype=dtype), len(corners))
    raw = torch.stack([corners[:, :2], corners[:, 1:]], 1).reshape(-1, 2)
    conditionals = replace(
        repeat_conditionals(golden.conditionals(dtype), len(corners)),
        weights=dist.Dirichlet(concentration_from(corners[:, :2], corners[:, 2:])),
        features=dist.Normal(raw.flip(0), scale_from(raw)).to_event(1),
    )
    loss = IntegratedObjective(2).differentiable_loss(model, model.guide, batch, conditionals)
    loss.backward()
    assert loss.isfinite()
    assert corners.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in model.guide.parameters())
