import pytest
import torch
from helpers import golden
from helpers.problems import repeat, repeat_conditionals, small_batch, small_model, with_guide

from vrm_pyro.models.conjugate import rating_evidence
from vrm_pyro.models.objectives import IntegratedObjective, PairwiseObjective, Weights
from vrm_pyro.models.objectives.pairwise import pair_log_prob
from vrm_pyro.prediction.posterior.refine import FixedGuide


@pytest.mark.parametrize("preference", [1.0, 0.0])
def test_a_single_pair_is_its_evidence(preference):
    """With one pair a prompt and no ratings the composite is the joint evidence."""
    copies = 500
    batch = repeat(golden.batch(False, preference), copies)
    conditionals = repeat_conditionals(golden.conditionals(), copies)
    with torch.no_grad():
        values = pair_log_prob(batch, conditionals, 400)
    expected = golden.EVIDENCE if preference else golden.EVIDENCE_OTHER
    # log of a mean over 400 draws is low by its variance / 800.
    error = values.std() / copies**0.5
    assert abs(values.mean() - expected) < 4 * error + values.var() / 2


def test_probabilities_are_those_of_predictions():
    """What it trains is what predicts on new text."""
    model, batch = small_model(), small_batch()
    hard = type(batch)(**{**batch.as_dict(), "preference": torch.ones_like(batch.preference)})
    with torch.no_grad():
        trained = pair_log_prob(hard, model.conditionals(batch), 20_000).exp()
    assert torch.allclose(trained, model.predict_pairs(batch), atol=5e-3)


def test_value_is_composite_plus_rating_evidence():
    model, batch = small_model(power=0.6), small_batch()
    conditionals = model.conditionals(batch)
    torch.manual_seed(9)
    terms = PairwiseObjective(8).terms(model, model.guide, batch, conditionals, Weights())
    torch.manual_seed(9)
    pairs = (batch.pair_weight * pair_log_prob(batch, conditionals, 8)).sum()
    expected = pairs + rating_evidence(batch, conditionals).sum()
    assert terms.objective.item() == pytest.approx(expected.item(), rel=1e-10)


def test_guide_and_model_do_not_move_each_other():
    """Model gradients are the composite's, guide gradients those of its own bound."""
    model, batch = small_model(), small_batch()

    def gradients(function):
        model.zero_grad()
        torch.manual_seed(9)
        function().backward()
        return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}

    both = gradients(
        lambda: (
            PairwiseObjective(8)
            .terms(model, model.guide, batch, model.conditionals(batch), Weights())
            .objective
        )
    )

    def composite():
        conditionals = model.conditionals(batch)
        pairs = (batch.pair_weight * pair_log_prob(batch, conditionals, 8)).sum()
        return pairs + rating_evidence(batch, conditionals).sum()

    for name, gradient in gradients(composite).items():
        assert not name.startswith("guide")
        assert torch.allclose(both[name], gradient, atol=1e-12), name

    def guides_own():
        pair_log_prob(batch, model.conditionals(batch), 8)  # uses up the same draws
        conditionals = model.conditionals(batch).detach()
        return (
            IntegratedObjective(1)
            .terms(model, model.guide, batch, conditionals, Weights())
            .objective
        )

    alone = gradients(guides_own)
    assert set(alone) == {name for name in both if name.startswith("guide")}
    for name, gradient in alone.items():
        assert torch.allclose(both[name], gradient, atol=1e-12), name


def test_parts_are_those_of_the_guides_bound():
    batch, conditionals = golden.batch(True), golden.conditionals()
    model = with_guide(small_model(num_objectives=2), FixedGuide(*golden.guide(True)))
    terms = PairwiseObjective(4, guide_draws=2000).terms(
        model, model.guide, batch, conditionals, Weights()
    )
    assert terms.elbo.item() == pytest.approx(golden.BEST_DIAGONAL[True], abs=0.03)


def test_shared_latents_make_it_a_composite():
    """Repeating a pair doubles it, though the second copy tells nothing new: no evidence."""
    one = golden.batch(False)
    two = type(one)(
        **{
            **one.as_dict(),
            **{
                name: getattr(one, name).repeat(2)
                for name in ("pair_first", "pair_second", "preference", "pair_weight")
            },
        }
    )
    with torch.no_grad():
        value = pair_log_prob(two, golden.conditionals(), 50_000).sum()
        w = golden.conditionals().weights.sample((200_000,))
        scores = golden.conditionals().reward.scores(
            golden.conditionals().features.sample((200_000,))
        )
        delta = golden.conditionals().reward.delta(w[:, 0], scores[:, 0], scores[:, 1])
        joint = (delta.sigmoid() ** 2).mean().log()  # the same z and w behind both labels
    assert value.item() == pytest.approx(2 * golden.EVIDENCE, abs=0.02)
    assert joint > value + 0.1
