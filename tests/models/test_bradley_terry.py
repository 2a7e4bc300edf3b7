import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, Arrays, small_batch

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.training.module import TrainingModule


@pytest.fixture
def batch():
    return small_batch(6, dtype=torch.float32)


def alone(ensemble, member):
    """Return one member of an ensemble as a separate model."""
    model = BradleyTerryModel(HIDDEN_SIZE, 8)
    model.head.load_state_dict([ensemble.head, *ensemble.more_heads][member].state_dict())
    return model


@pytest.mark.parametrize("size", [1, 4])
@pytest.mark.parametrize("head_size", [0, 8])
def test_swapping_a_pair_flips_its_probability(head_size, size, batch):
    model = BradleyTerryModel(HIDDEN_SIZE, head_size, ensemble_size=size)
    total = model.predict_pairs(batch) + model.predict_pairs(batch.swap_pairs())
    assert torch.allclose(total, torch.ones(batch.num_pairs), atol=1e-6)
    one, two = model.log_likelihood(batch), model.log_likelihood(batch.swap_pairs())
    assert torch.allclose(one, two, atol=1e-5)


def test_linear_head_is_linear_in_the_state(batch):
    model = BradleyTerryModel(HIDDEN_SIZE, 0)
    rewards = model.rewards(batch.responses)
    assert torch.allclose(model.rewards(2 * batch.responses), 2 * rewards, atol=1e-6)


@pytest.mark.parametrize("size", [1, 4])
def test_log_likelihood_counts_weights_and_soft_labels(size, batch):
    model = BradleyTerryModel(HIDDEN_SIZE, ensemble_size=size)
    p, c = model.predict_pairs(batch), batch.preference
    expected = (batch.pair_weight * (c * p.log() + (1 - c) * (1 - p).log())).sum()
    assert model.log_likelihood(batch).item() == pytest.approx(expected.item(), rel=1e-5)


@pytest.mark.parametrize("size", [1, 4])
def test_temperature_divides_every_difference(size, batch):
    model = BradleyTerryModel(HIDDEN_SIZE, ensemble_size=size)
    deltas, epistemic = model.deltas(batch), model.pair_uncertainty(batch).epistemic
    model.temperature.fill_(2.5)
    assert torch.allclose(model.deltas(batch), deltas / 2.5)
    assert torch.allclose(model.pair_uncertainty(batch).epistemic, epistemic / 2.5**2)
    assert "temperature" in model.state_dict()
    assert "temperature" not in dict(model.named_parameters())


@pytest.mark.parametrize("size", [1, 4])
def test_it_claims_no_spread_of_a_response(size, batch):
    model = BradleyTerryModel(HIDDEN_SIZE, ensemble_size=size)
    prediction = model.predict_responses(batch)
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


class TestEnsemble:
    SIZE = 4

    @pytest.fixture
    def model(self):
        return BradleyTerryModel(HIDDEN_SIZE, 8, dropout=0.5, ensemble_size=self.SIZE).eval()

    @pytest.fixture
    def members(self, model):
        return [alone(model, m) for m in range(self.SIZE)]

    def test_prediction_is_the_mean_of_the_members(self, model, members, batch):
        p = torch.stack([member.predict_pairs(batch) for member in members])
        assert torch.allclose(model.predict_pairs(batch), p.mean(0), atol=1e-6)
        assert (p.std(0) > 1e-3).all()
        r = torch.stack([member.rewards(batch.responses) for member in members])
        assert torch.allclose(model.predict_responses(batch).reward.mean, r.mean(0), atol=1e-6)
        own = [member.log_likelihood(batch) for member in members]
        assert torch.allclose(model.member_log_likelihoods(batch), torch.stack(own), atol=1e-5)
        assert model.log_likelihood(batch) > model.member_log_likelihoods(batch).mean()

    def test_epistemic_variance_is_that_of_the_members_differences(self, model, members, batch):
        deltas = torch.stack([member.deltas(batch) for member in members]).double()
        found = model.pair_uncertainty(batch)
        mean = deltas.sum(0) / self.SIZE
        spread = ((deltas - mean) ** 2).sum(0) / (self.SIZE - 1)
        assert torch.allclose(found.mean.double(), mean, atol=1e-6)
        assert torch.allclose(found.epistemic.double(), spread, atol=1e-6)
        assert torch.equal(found.ambiguity, torch.zeros(batch.num_pairs))
        assert torch.equal(found.total, found.epistemic)
        swapped = model.pair_uncertainty(batch.swap_pairs())
        assert torch.allclose(swapped.mean, -found.mean, atol=1e-6)
        assert torch.allclose(swapped.epistemic, found.epistemic, atol=1e-6)

    def test_levels_of_members_change_nothing_that_means_something(self, model, batch):
        before = model.pair_uncertainty(batch), model.predict_pairs(batch)
        with torch.no_grad():
            for level, head in enumerate((model.head, *model.more_heads)):
                head[-1].bias.add_(2.0 * level)
        after = model.pair_uncertainty(batch), model.predict_pairs(batch)
        assert torch.allclose(before[0].mean, after[0].mean, atol=1e-5)
        assert torch.allclose(before[0].epistemic, after[0].epistemic, atol=1e-5)
        assert torch.allclose(before[1], after[1], atol=1e-5)

    def test_equal_members_are_one_model_without_spread(self, model, members, batch):
        for head in model.more_heads:
            head.load_state_dict(model.head.state_dict())
        found = model.pair_uncertainty(batch)
        assert torch.allclose(found.epistemic, torch.zeros(batch.num_pairs), atol=1e-10)
        one = members[0]
        assert torch.allclose(model.predict_pairs(batch), one.predict_pairs(batch), atol=1e-6)
        assert torch.allclose(model.log_likelihood(batch), one.log_likelihood(batch), atol=1e-5)

    def test_a_member_learns_as_if_it_were_alone(self, model, members, batch):
        config = network_config(architecture="bradley_terry", ensemble_size=self.SIZE)
        values = PromptDataset(Arrays(batch)).collate(range(batch.num_prompts))
        for held in (model, *members):
            held.train()
            for module in held.modules():
                if isinstance(module, torch.nn.Dropout):
                    module.p = 0.0
            TrainingModule(held, config, batch.num_prompts)(**values)["loss"].backward()
        for head, member in zip((model.head, *model.more_heads), members, strict=True):
            for ours, theirs in zip(head.parameters(), member.head.parameters(), strict=True):
                assert torch.allclose(ours.grad, theirs.grad, atol=1e-5)

    def test_members_drop_units_of_their_own(self, model, batch):
        for head in model.more_heads:
            head.load_state_dict(model.head.state_dict())
        model.train()
        assert (model.member_deltas(batch).std(0) > 0).all()
        with evaluation_mode(model):
            assert torch.allclose(
                model.member_deltas(batch).std(0), torch.zeros(batch.num_pairs), atol=1e-6
            )

    def test_what_it_logs_does_not_grow_with_its_size(self, model, members, batch):
        config = network_config(architecture="bradley_terry", ensemble_size=self.SIZE)
        module = TrainingModule(model, config, batch.num_prompts).train()
        model.eval()
        module(**PromptDataset(Arrays(batch)).collate(range(batch.num_prompts)))
        own = torch.stack([member.eval().log_likelihood(batch) for member in members]).mean()
        logged = module.take_log()["log_lik_preference"]
        assert logged == pytest.approx(own.item() / batch.num_pairs, rel=1e-4)

    def test_a_single_member_claims_no_spread(self, batch):
        found = BradleyTerryModel(HIDDEN_SIZE).pair_uncertainty(batch)
        assert torch.equal(found.total, torch.zeros(batch.num_pairs))

    def test_one_member_keeps_the_names_of_earlier_checkpoints(self):
        names = set(BradleyTerryModel(HIDDEN_SIZE, 8).state_dict())
        assert {name.partition(".")[0] for name in names} == {
            "response_scaler",
            "head",
            "temperature",
        }

    def test_members_agree_on_what_the_data_say_and_keep_their_starts_on_the_rest(self):
        batch = small_batch(40, dtype=torch.float32)
        seen = batch.responses * torch.tensor([1.0, 1.0, 0.0])
        # Random labels: the best linear head is finite, and the same for every start.
        seen = type(batch)(**{**batch.as_dict(), "responses": seen})
        model = BradleyTerryModel(HIDDEN_SIZE, 0, ensemble_size=5)
        heads = (model.head, *model.more_heads)
        start = torch.stack([head[-1].weight[0].detach().clone() for head in heads])
        optimiser = torch.optim.LBFGS(model.parameters(), max_iter=100)

        def loss():
            optimiser.zero_grad()
            value = -model.member_log_likelihoods(seen).sum()
            value.backward()
            return value

        optimiser.step(loss)
        assert (model.pair_uncertainty(seen).epistemic < 1e-5).all()
        step = batch.responses[batch.pair_first, 2] - batch.responses[batch.pair_second, 2]
        expected = step**2 * start[:, 2].var()
        with torch.no_grad():
            found = model.pair_uncertainty(batch).epistemic
        assert torch.allclose(found, expected, atol=1e-3)
        assert expected.median() > 5e-3
