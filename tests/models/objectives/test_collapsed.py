import pyro.distributions as dist
import pytest
import torch
from helpers import golden
from helpers.problems import repeat, repeat_conditionals, small_batch, small_model, with_guide
from pyro.infer import RenyiELBO

from vrm_pyro.models.objectives import CollapsedObjective, IntegratedObjective, Weights
from vrm_pyro.models.objectives.collapsed import prompt_log_weights
from vrm_pyro.prediction.posterior.refine import FixedGuide


def golden_terms(ratings, alpha, num_draws, copies):
    """Return the collapsed value per prompt on many copies of the golden prompt."""
    batch = repeat(golden.batch(ratings), copies)
    conditionals = repeat_conditionals(golden.conditionals(), copies)
    q_weights = dist.Dirichlet(torch.tensor([alpha], dtype=torch.float64).repeat(copies, 1))
    guide = FixedGuide(q_weights, conditionals.features)
    model = with_guide(small_model(num_objectives=2), guide)
    with torch.no_grad():
        log_weights, _ = prompt_log_weights(model, batch, conditionals, num_draws)
        terms = CollapsedObjective(num_draws).terms(model, guide, batch, conditionals, Weights())
    per_prompt = log_weights.logsumexp(0) - torch.tensor(float(num_draws)).log()
    return per_prompt, terms


def test_golden_value_of_the_specification():
    """q(w) = Dir(2.2, 1) with 8 draws: -.63342 +- .0002 a prompt; every mean-field is below."""
    values, _ = golden_terms(False, [2.2, 1.0], 8, 4000)
    error = values.std() / 4000**0.5
    assert error < 4e-4
    assert abs(values.mean() - (-0.63342)) < 4 * (error**2 + 2e-4**2) ** 0.5
    assert values.mean() > golden.BEST_DIAGONAL[False] + 0.04
    assert values.mean() < golden.EVIDENCE + 4 * error


@pytest.mark.parametrize("ratings", [False, True])
def test_more_draws_close_the_gap_to_the_evidence(ratings):
    evidence = golden.EVIDENCE_JOINT if ratings else golden.EVIDENCE
    alpha = [1.0, 1.0]  # a poor proposal on purpose
    one, many = (golden_terms(ratings, alpha, draws, 300)[1] for draws in (1, 400))
    assert one.objective / 300 < many.objective / 300 - 0.003
    assert many.objective.item() / 300 == pytest.approx(evidence, abs=5e-3)


def test_it_is_the_importance_bound_of_pyro_for_one_prompt():
    """RenyiELBO at alpha 0 on the same pair of programs, as pitfall 23 asks."""
    model, batch = small_model(), small_batch(1, single_use=True)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        pyros = torch.tensor(
            [
                RenyiELBO(0, num_particles=16, vectorize_particles=True, max_plate_nesting=1).loss(
                    model.collapsed_program, model.collapsed_guide, batch, conditionals
                )
                for _ in range(100)
            ]
        ).double()
        ours = torch.stack(
            [
                CollapsedObjective(16)
                .terms(model, model.guide, batch, conditionals, Weights())
                .objective
                for _ in range(100)
            ]
        )
    error = (pyros.var() / 100 + ours.var() / 100).sqrt()
    assert abs(ours.mean() + pyros.mean()) < 4 * error + 1e-9


def test_it_lies_above_the_integrated_bound():
    model, batch = small_model(power=0.5), small_batch(20, single_use=True)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        collapsed, integrated = (
            torch.stack(
                [
                    kind(8).terms(model, model.guide, batch, conditionals, Weights()).objective
                    for _ in range(20)
                ]
            )
            for kind in (CollapsedObjective, IntegratedObjective)
        )
    error = (collapsed.var() / 20 + integrated.var() / 20).sqrt()
    assert collapsed.mean() > integrated.mean() + 4 * error


def test_prompts_have_their_own_weights():
    """A prompt whose pairs do not count has q = p and importance weights of one."""
    model, batch = small_model(), small_batch(4, single_use=True)
    silent = torch.where(batch.pair_prompt == 2, 0.0, batch.pair_weight)
    batch = type(batch)(**{**batch.as_dict(), "pair_weight": silent})
    log_weights, preference = prompt_log_weights(model, batch, model.conditionals(batch), 6)
    assert log_weights.shape == preference.shape == (6, 4)
    assert preference[:, 2].abs().max() < 1e-12
    assert log_weights[:, 2].abs().max() < 1e-12
    assert (preference[:, [0, 1, 3]] < 0).all()
    assert (log_weights[:, [0, 1, 3]] != preference[:, [0, 1, 3]]).all()
