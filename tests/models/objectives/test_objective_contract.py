"""One contract for every entry of the table of objectives."""

import pytest
import torch
from helpers.problems import small_batch, small_model
from pyro.infer import Trace_ELBO
from pyro.infer.elbo import ELBOModule

from vrm_pyro.models.objectives import OBJECTIVES, Weights

EACH = pytest.mark.parametrize("name", sorted(OBJECTIVES))


def problem(name, mode="conditional", **settings):
    kind = OBJECTIVES[name]
    model = small_model(mode)
    batch = small_batch(single_use=kind.single_use_responses, **settings)
    return kind(num_draws=4), model, batch, model.conditionals(batch)


@EACH
def test_names_and_bounds(name):
    kind = OBJECTIVES[name]
    assert kind.name == name
    assert kind.bound
    # Only a composite may be no bound, and it must say so.
    assert ("no bound" in kind.bound) == (name == "pairwise")


@EACH
def test_loss_is_minus_the_objective_per_prompt(name):
    objective, model, batch, conditionals = problem(name)
    values = []
    for evaluate in (
        lambda: -objective.terms(model, model.guide, batch, conditionals, Weights()).objective / 5,
        lambda: objective.differentiable_loss(model, model.guide, batch, conditionals),
        lambda: torch.tensor(objective.loss(model, model.guide, batch, conditionals)).double(),
        lambda: torch.tensor(
            objective.loss_and_grads(model, model.guide, batch, model.conditionals(batch))
        ).double(),
        lambda: objective(model, model.guide)(batch, conditionals),
    ):
        torch.manual_seed(8)
        values.append(evaluate().item())
    assert values == pytest.approx([values[0]] * 5, rel=1e-6)


@EACH
def test_it_is_a_module_that_owns_model_and_guide(name):
    """Pyro's ELBOModule: a torch optimiser and DDP see every parameter through it."""
    objective, model, _, _ = problem(name)
    module = objective(model, model.guide)
    assert isinstance(module, ELBOModule)
    assert {id(p) for p in module.parameters()} == {id(p) for p in model.parameters()}


@EACH
@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_gradients_reach_model_and_guide(name, mode):
    if mode == "vib" and OBJECTIVES[name].outcome_aware_only:
        mode = "conditional"
    objective, model, batch, conditionals = problem(name, mode)
    objective.differentiable_loss(model, model.guide, batch, conditionals).backward()
    for parameter_name, parameter in model.named_parameters():
        if name == "collapsed" and "feature_site" in parameter_name:
            continue  # z is integrated out: nothing proposes it
        if name == "collapsed" and mode == "vib" and "to_normal" in parameter_name:
            continue
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@EACH
def test_parts_add_up_to_the_elbo(name):
    objective, model, batch, conditionals = problem(name)
    terms = objective.terms(model, model.guide, batch, conditionals, Weights())
    total = terms.preference + terms.rating - terms.kl_weights - terms.kl_features
    assert terms.elbo.item() == pytest.approx(total.item())
    if name in ("sampled", "integrated"):
        assert terms.objective.item() == pytest.approx(terms.elbo.item(), rel=1e-10)
    assert terms.kl_weights >= 0
    assert terms.kl_features >= 0
    assert terms.preference < 0


@EACH
def test_pairs_or_ratings_may_be_missing(name):
    for ratings in (True, False):
        objective, model, batch, conditionals = problem(name, ratings=ratings)
        terms = objective.terms(model, model.guide, batch, conditionals, Weights())
        assert terms.objective.isfinite()
        assert (terms.rating == 0) == (not ratings)
        none = type(batch)(
            **{
                **batch.as_dict(),
                **{key: getattr(batch, key)[:0] for key in ("pair_first", "pair_second")},
                **{key: getattr(batch, key)[:0] for key in ("preference", "pair_weight")},
            }
        )
        terms = objective.terms(model, model.guide, none, conditionals, Weights())
        assert terms.objective.isfinite()
        assert terms.preference == 0


@EACH
def test_float32_agrees_with_float64(name):
    kind = OBJECTIVES[name]
    values = []
    for dtype in (torch.float64, torch.float32):
        model = small_model(dtype=dtype)
        batch = small_batch(single_use=kind.single_use_responses).to(dtype)
        objective = kind(num_draws=500)
        torch.manual_seed(2)
        with torch.no_grad():
            value = objective.terms(
                model, model.guide, batch, model.conditionals(batch), Weights()
            )
        values.append(value.objective.item())
    # Draws differ by dtype: 500 of them leave this much.
    assert values[0] == pytest.approx(values[1], rel=0.03)


def test_tempering_is_told_from_an_elbo():
    assert not Weights().tempered
    for weights in (Weights(0.5), Weights(1, 0.5), Weights(free_weights=0.1)):
        assert weights.tempered


def test_pyro_can_trace_program_and_guide_itself():
    """The programs are ordinary Pyro programs: any estimator of Pyro takes them."""
    model, batch = small_model(), small_batch()
    loss = Trace_ELBO().loss(model.program, model.guide, batch, model.conditionals(batch))
    assert loss == loss
