import torch
from helpers.problems import small_batch, small_model

from vrm_pyro.models.objectives import IntegratedObjective


def tensors(heads):
    normal = heads.features.base_dist
    return [
        heads.weights.concentration,
        normal.loc,
        normal.scale,
        heads.reward.loading,
        heads.reward.intercept,
        heads.reward.scale,
        heads.ratings.offset,
        heads.ratings.scale,
    ]


def test_detached_heads_have_the_values_and_no_gradient():
    model, batch = small_model(), small_batch()
    heads = model.heads(batch)
    fixed = heads.detach()
    for free, held in zip(tensors(heads), tensors(fixed), strict=True):
        assert torch.equal(free, held)
        assert free.requires_grad
        assert not held.requires_grad
    assert fixed.ratings.power == heads.ratings.power
    assert fixed.likelihood is heads.likelihood


def test_an_objective_on_detached_heads_trains_the_guide_alone():
    model, batch = small_model(), small_batch()
    loss = IntegratedObjective(1).differentiable_loss(
        model, model.guide, batch, model.heads(batch).detach()
    )
    loss.backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == name.startswith("guide"), name


def test_heads_without_ratings_detach_too():
    model, batch = small_model(ratings=False), small_batch(ratings=False)
    assert model.heads(batch).detach().ratings is None
