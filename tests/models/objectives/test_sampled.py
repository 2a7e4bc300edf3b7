import pyro
import pytest
import torch
from helpers.problems import small_batch, small_model
from pyro.infer import TraceMeanField_ELBO

from vrm_pyro.models.objectives import SampledObjective, Weights


@pytest.mark.parametrize("validate", [True, False])
@pytest.mark.parametrize("mode", ["conditional", "vib"])
@pytest.mark.parametrize("num_draws", [1, 7])
def test_it_is_pyros_own_loss(mode, num_draws, validate):
    """Value and gradients; without validation, as in training, it takes a path of its own."""
    model, batch = small_model(mode), small_batch()
    pyros = TraceMeanField_ELBO(num_draws, vectorize_particles=True, max_plate_nesting=1)

    def ours(conditionals):
        objective = SampledObjective(num_draws)
        return objective.terms(
            model, model.guide, batch, conditionals, Weights(0.4, 0.9)
        ).objective

    def expected(conditionals):
        return -pyros.differentiable_loss(
            model.program, model.guide, batch, conditionals, 0.4, 0.9
        )

    with pyro.validation_enabled(validate):
        found = []
        for function in (ours, expected):
            torch.manual_seed(6)
            model.zero_grad()
            value = function(model.conditionals(batch))
            value.backward()
            found.append([value.detach(), *(p.grad.clone() for p in model.parameters())])
    for x, y in zip(*found, strict=True):
        assert torch.allclose(x, y, rtol=1e-9, atol=1e-12)


def test_recorded_parts_do_not_depend_on_the_number_of_particles():
    """Log-likelihoods are means over particles, not sums."""
    model, batch = small_model(), small_batch()
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        few, many = (
            torch.stack(
                [
                    torch.stack([terms.preference, terms.rating])
                    for terms in (
                        SampledObjective(draws).terms(
                            model, model.guide, batch, conditionals, Weights()
                        )
                        for _ in range(repeats)
                    )
                ]
            )
            for draws, repeats in ((2, 150), (100, 4))
        )
    error = few.std(0) / 150**0.5 + many.std(0) / 2
    assert ((few.mean(0) - many.mean(0)).abs() < 4 * error).all()


def test_gradients_flow_through_both_kinds_of_draws():
    """w by pathwise Dirichlet gradients, z by reparametrisation: no score function."""
    model, batch = small_model("vib"), small_batch()
    conditionals = model.conditionals(batch)
    SampledObjective(1).differentiable_loss(model, model.guide, batch, conditionals).backward()
    for parameter in model.guide.parameters():
        assert parameter.grad.abs().max() > 0
