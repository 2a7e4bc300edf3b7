import pytest
import torch
from problems import HIDDEN_SIZE, small_batch

from vrm_pyro.baseline import BradleyTerryModel


@pytest.fixture
def batch():
    return small_batch(6, dtype=torch.float32)


@pytest.mark.parametrize("head_size", [0, 8])
def test_swapping_a_pair_flips_its_probability(head_size, batch):
    model = BradleyTerryModel(HIDDEN_SIZE, head_size)
    total = model.predict_pairs(batch) + model.predict_pairs(batch.swap_pairs())
    assert torch.allclose(total, torch.ones(batch.num_pairs), atol=1e-6)
    one, two = model.log_likelihood(batch), model.log_likelihood(batch.swap_pairs())
    assert torch.allclose(one, two, atol=1e-5)


def test_linear_head_is_linear_in_the_state(batch):
    model = BradleyTerryModel(HIDDEN_SIZE, 0)
    rewards = model.rewards(batch.responses)
    assert torch.allclose(model.rewards(2 * batch.responses), 2 * rewards, atol=1e-6)


def test_log_likelihood_counts_weights_and_soft_labels(batch):
    model = BradleyTerryModel(HIDDEN_SIZE)
    p, c = model.predict_pairs(batch), batch.preference
    expected = (batch.pair_weight * (c * p.log() + (1 - c) * (1 - p).log())).sum()
    assert model.log_likelihood(batch).item() == pytest.approx(expected.item(), rel=1e-5)


def test_temperature_divides_every_difference(batch):
    model = BradleyTerryModel(HIDDEN_SIZE)
    deltas = model.deltas(batch)
    model.temperature.fill_(2.5)
    assert torch.allclose(model.deltas(batch), deltas / 2.5)
    assert "temperature" in model.state_dict()
    assert "temperature" not in dict(model.named_parameters())


def test_it_claims_no_spread(batch):
    prediction = BradleyTerryModel(HIDDEN_SIZE).predict_responses(batch)
    assert prediction.reward.mean.shape == (batch.num_responses,)
    for part in prediction.reward[1:]:
        assert torch.equal(part, torch.zeros(batch.num_responses))
    assert prediction.weight_mean is None
    assert prediction.score_mean is None


def test_it_learns_which_answer_is_better():
    batch = small_batch(40, dtype=torch.float32)
    truth = batch.responses @ torch.tensor([2.0, -1.0, 0.0])
    label = (truth[batch.pair_first] > truth[batch.pair_second]).float()
    batch = type(batch)(**{**batch.as_dict(), "preference": label})
    model = BradleyTerryModel(HIDDEN_SIZE, 0)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(100):
        optimiser.zero_grad()
        (-model.log_likelihood(batch)).backward()
        optimiser.step()
    assert ((model.predict_pairs(batch) > 0.5) == (label > 0.5)).float().mean() > 0.97
