import pytest
import torch

from vrm_pyro.likelihood import PREFERENCE_LIKELIHOODS

DELTA = torch.tensor([-700.0, -30.0, -2.0, 0.0, 0.5, 25.0, 700.0]).double()
NEAR = torch.linspace(-6, 6, 25).double()
ALL = pytest.mark.parametrize(
    "likelihood",
    [kind().build() for kind in PREFERENCE_LIKELIHOODS.values()],
    ids=list(PREFERENCE_LIKELIHOODS),
)


@ALL
def test_exchanging_the_answers_negates_delta_and_flips_the_label(likelihood):
    for c in (0.0, 0.3, 1.0):
        preference = torch.full_like(DELTA, c)
        swapped = likelihood.log_prob(-DELTA, 1 - preference)
        assert torch.allclose(likelihood.log_prob(DELTA, preference), swapped, rtol=1e-14)
        pull = likelihood.score(DELTA, preference)
        assert torch.allclose(pull, -likelihood.score(-DELTA, 1 - preference), rtol=1e-12)
    total = likelihood.probability(DELTA) + likelihood.probability(-DELTA)
    assert torch.allclose(total, torch.ones_like(DELTA), rtol=1e-14)
    assert torch.allclose(likelihood.information(DELTA), likelihood.information(-DELTA))


@ALL
def test_outcomes_are_normalised_and_agree_with_the_probability(likelihood):
    ones = torch.ones_like(NEAR)
    win = likelihood.log_prob(NEAR, ones).exp()
    assert torch.allclose(win, likelihood.probability(NEAR), rtol=1e-7)
    assert torch.allclose(win + likelihood.log_prob(NEAR, 0 * ones).exp(), ones, rtol=1e-12)


@ALL
def test_soft_labels_mix_the_two_outcomes(likelihood):
    ones = torch.ones_like(DELTA)
    soft = likelihood.log_prob(DELTA, 0.3 * ones)
    mixed = 0.3 * likelihood.log_prob(DELTA, ones) + 0.7 * likelihood.log_prob(DELTA, 0 * ones)
    assert torch.allclose(soft, mixed, rtol=1e-12)


@ALL
@pytest.mark.parametrize("c", [0.0, 0.4, 1.0])
def test_score_is_the_gradient_of_the_log_probability(likelihood, c):
    delta = NEAR.clone().requires_grad_()
    likelihood.log_prob(delta, torch.full_like(NEAR, c)).sum().backward()
    with torch.no_grad():
        assert torch.allclose(
            likelihood.score(NEAR, torch.full_like(NEAR, c)), delta.grad, rtol=1e-6, atol=1e-9
        )


@ALL
def test_information_is_the_variance_of_the_score(likelihood):
    ones = torch.ones_like(NEAR)
    with torch.no_grad():
        chance = likelihood.probability(NEAR)
        variance = (
            chance * likelihood.score(NEAR, ones) ** 2
            + (1 - chance) * likelihood.score(NEAR, 0 * ones) ** 2
        )
        assert torch.allclose(likelihood.information(NEAR), variance, rtol=1e-6)


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_nothing_overflows_far_out(likelihood, dtype):
    delta = DELTA.to(dtype)
    with torch.no_grad():
        for c in (0.0, 1.0):
            label = torch.full_like(delta, c)
            assert likelihood.log_prob(delta, label).isfinite().all()
            assert likelihood.score(delta, label).isfinite().all()
        assert likelihood.information(delta).isfinite().all()
        assert likelihood.log_prob(delta, label).dtype == dtype


@ALL
def test_chance_rises_with_the_difference(likelihood):
    with torch.no_grad():
        assert (likelihood.probability(NEAR).diff() > 0).all()
        assert likelihood.probability(torch.zeros(())).item() == 0.5
