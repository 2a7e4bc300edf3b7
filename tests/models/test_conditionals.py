import torch
from helpers.problems import small_batch, small_model

from vrm_pyro.models.objectives import IntegratedObjective


def tensors(conditionals):
    normal = conditionals.features.base_dist
    return [
        conditionals.weights.concentration,
        normal.loc,
        normal.scale,
        conditionals.reward.loading,
        conditionals.reward.intercept,
        conditionals.reward.scale,
        conditionals.ratings.offset,
        conditionals.ratings.scale,
    ]


def test_detached_heads_have_the_values_and_no_gradient():
    model, batch = small_model(), small_batch()
    conditionals = model.conditionals(batch)
    fixed = conditionals.detach()
    for free, held in zip(tensors(conditionals), tensors(fixed), strict=True):
        assert torch.equal(free, held)
        assert free.requires_grad
        assert not held.requires_grad
    assert fixed.ratings.power == conditionals.ratings.power
    assert fixed.likelihood is conditionals.likelihood


def test_an_objective_on_detached_heads_trains_the_guide_alone():
    model, batch = small_model(), small_batch()
    loss = IntegratedObjective(1).differentiable_loss(
        model, model.guide, batch, model.conditionals(batch).detach()
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("guide"), name


def test_heads_without_ratings_detach_too():
    model, batch = small_model(ratings=False), small_batch(ratings=False)
    assert model.conditionals(batch).detach().ratings is None
