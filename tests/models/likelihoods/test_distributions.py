import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.models.likelihoods import BradleyTerry, GaussianDelta, Preference, expect_normal

LOC = torch.tensor([-2.0, 0.0, 0.4, 3.0]).double()
SCALE = torch.tensor([0.0, 1.0, 3.0, 0.5]).double()


def laws():
    return [Preference(LOC, BradleyTerry()), GaussianDelta(LOC, SCALE, BradleyTerry())]


def test_given_delta_it_is_a_bernoulli():
    hard = torch.tensor([1.0, 0.0, 1.0, 0.0]).double()
    expected = dist.Bernoulli(logits=LOC).log_prob(hard)
    assert torch.allclose(Preference(LOC, BradleyTerry()).log_prob(hard), expected, rtol=1e-10)


@pytest.mark.parametrize("law", laws(), ids=["Preference", "GaussianDelta"])
def test_soft_labels_pass_validation_and_others_do_not(law):
    assert law.log_prob(torch.full((4,), 0.3, dtype=torch.float64)).isfinite().all()
    with pytest.raises(ValueError, match="support"):
        law.log_prob(torch.full((4,), 1.2, dtype=torch.float64))


def test_wrong_parameters_are_refused():
    with pytest.raises(ValueError, match="delta"):
        Preference(torch.tensor([float("nan")]), BradleyTerry())
    with pytest.raises(ValueError, match="scale"):
        GaussianDelta(LOC, -SCALE - 1, BradleyTerry())


@pytest.mark.parametrize("law", laws(), ids=["Preference", "GaussianDelta"])
def test_draws_follow_the_mean(law):
    draws = law.sample(torch.Size([20_000]))
    assert draws.shape == (20_000, 4)
    assert set(draws.unique().tolist()) <= {0.0, 1.0}
    error = (law.mean * (1 - law.mean) / 20_000).sqrt()
    assert_within(draws.mean(0), law.mean, error, 4.5)


@pytest.mark.parametrize("law", laws(), ids=["Preference", "GaussianDelta"])
def test_expand_keeps_the_law(law):
    wide = law.expand(torch.Size([3, 4]))
    ones = torch.ones(4).double()
    assert wide.batch_shape == (3, 4)
    assert wide.event_shape == ()
    assert torch.equal(wide.log_prob(ones), law.log_prob(ones).expand(3, 4))
    assert wide.sample().shape == (3, 4)


def test_gaussian_delta_integrates_delta():
    law = GaussianDelta(LOC, SCALE, BradleyTerry())
    delta = LOC + SCALE * torch.randn(400_000, 4).double()
    for c in (0.0, 1.0):
        value = BradleyTerry().log_prob(delta, torch.full((4,), c, dtype=torch.float64)).exp()
        error = value.std(0) / 400_000**0.5 + 1e-12
        exact = law.log_prob(torch.full((4,), c, dtype=torch.float64)).exp()
        assert_within(value.mean(0), exact, error, 4.5)


def test_gaussian_delta_without_spread_is_the_plain_law():
    c = torch.tensor([1.0, 0.0, 0.3, 0.9]).double()
    sure = GaussianDelta(LOC, torch.zeros(4).double(), BradleyTerry())
    assert torch.allclose(sure.log_prob(c), Preference(LOC, BradleyTerry()).log_prob(c))


def test_integrating_inside_the_log_is_above_the_expected_log():
    """Jensen: `collapsed` integrates inside, `integrated` outside."""
    likelihood, ones = BradleyTerry(), torch.ones(4).double()
    inside = GaussianDelta(LOC, SCALE, likelihood).log_prob(ones)
    outside = expect_normal(
        lambda delta: likelihood.log_prob(delta, torch.ones(()).double()), LOC, SCALE**2
    )
    assert (inside[1:] > outside[1:] + 1e-4).all()
    assert inside[0] == pytest.approx(outside[0].item(), abs=1e-12)
