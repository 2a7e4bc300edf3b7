import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import problems, sources

from vrm_pyro.data import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.evaluate import NO_SUBSET, RATES, evaluate
from vrm_pyro.errors import InputError
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.guides import OutcomeAwareGuide
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.predict import predict

NESTED = {"by_subset", "length_baseline"}
KEYS = {
    "n_pairs", "n_prompts", "accuracy", "log_loss", "brier", "ece", "accuracy_at_50",
    "kl_weights", "kl_features", "active_units_weights", "active_units_features",
    "by_subset", "length_baseline", "ratings", "intervals",
}  # fmt: skip


@pytest.fixture
def source():
    return sources.source_of(problems.small_batch(20, dtype=torch.float32))


def test_one_json_object_with_every_name_of_the_contract(source):
    lengths = np.arange(len(source.response_prompt))
    subset = ["chat"] * 30 + [None] * (len(source.pair_first) - 30)
    found = evaluate(problems.small_model().float(), source, subset=subset, lengths=lengths)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {k for k in found if not k.endswith("_se")} == KEYS
    with_error = {*RATES, "kl_weights", "kl_features"}
    assert {k for k in found if k.endswith("_se")} == {f"{k}_se" for k in with_error}
    assert all(found[k] > 0 for k in found if k.endswith("_se"))
    assert (found["n_pairs"], found["n_prompts"]) == (len(source.pair_first), 20)
    assert set(found["length_baseline"]) == {"longest", "longest_se", "shortest", "shortest_se"}
    assert set(found["by_subset"]) == {"chat", NO_SUBSET}
    latent = {"kl_weights", "kl_weights_se", "kl_features", "kl_features_se"}
    latent |= {"active_units_weights", "active_units_features", "by_subset", "ratings"}
    latent |= {"intervals"}
    assert set(found["by_subset"]["chat"]) == set(found) - latent


def test_with_lapses_the_prediction_without_them_is_measured_too(source):
    model = problems.small_model().float()
    plain = evaluate(model, source)
    assert "without_lapse" not in plain
    model.likelihood = Lapse(0.2, learn=False)
    found = evaluate(model, source)
    rates = found["without_lapse"]
    assert rates["accuracy"] == plain["accuracy"]
    for name in ("log_loss", "brier", "ece"):
        assert rates[name] == pytest.approx(plain[name], abs=1e-6)
        assert found[name] != pytest.approx(plain[name], abs=1e-3)


def test_the_pass_of_predict_serves_intervals_too(source):
    model = problems.small_model().float()
    found = predict(model, source)
    with torch.no_grad():
        expected = torch.stack(list(model.pair_uncertainty(PromptDataset(source).batch())))
    assert found.delta == pytest.approx(expected.numpy(), rel=1e-5, abs=1e-6)
    with pytest.raises(ValueError, match="lack reward differences"):
        evaluate(model, source, predictions=found._replace(delta=None))


def test_rates_by_hand(source):
    model = problems.small_model().float()
    found = evaluate(model, source)
    p = model.predict_pairs(PromptDataset(source).batch()).double().detach().numpy()
    c, w = source.preference, source.pair_weight
    right = np.where(p > 0.5, c, 1 - c)
    assert found["accuracy"] == pytest.approx(np.average(right, weights=w))
    log_loss = -c * np.log(p) - (1 - c) * np.log(1 - p)
    assert found["log_loss"] == pytest.approx(np.average(log_loss, weights=w), rel=1e-5)
    brier = c * (1 - p) ** 2 + (1 - c) * p**2
    assert found["brier"] == pytest.approx(np.average(brier, weights=w), rel=1e-5)


def test_longest_wins_by_hand(source):
    lengths = np.random.default_rng(0).integers(1, 100, len(source.response_prompt))
    found = evaluate(problems.small_model().float(), source, lengths=lengths)["length_baseline"]
    gap = np.sign(lengths[source.pair_first] - lengths[source.pair_second])
    right = np.where(gap > 0, source.preference, np.where(gap < 0, 1 - source.preference, 0.5))
    assert found["longest"] == pytest.approx(np.average(right, weights=source.pair_weight))


def test_kl_is_that_of_the_predictive_law(source):
    model = problems.small_model("vib").float()
    found = evaluate(model, source)
    batch = PromptDataset(source).batch()
    with torch.no_grad():
        w = model.predictive_weights(batch.prompts).sample((4000,)).double()
        law = model.predictive_weights(batch.prompts)
        flat = torch.distributions.Dirichlet(torch.ones(3))
        ratio = (law.log_prob(w.float()) - flat.log_prob(w.float())).double().mean(1)
        loc, scale = (
            getattr(model.predictive_features(batch.responses).base_dist, name)
            for name in ("loc", "scale")
        )
        kl = 0.5 * (loc**2 + scale**2 - 1 - 2 * scale.log()).sum(-1).mean()
    assert abs(found["kl_weights"] - ratio.mean()) < 4.5 * ratio.std() / len(ratio) ** 0.5
    assert found["kl_features"] == pytest.approx(kl.item(), rel=1e-5)


def test_chunks_do_not_change_predictions(source, monkeypatch):
    model = problems.small_model().float()
    model.likelihood = Lapse(0.1, learn=False)  # so that there is nothing that is None
    whole = predict(model, source)
    spans = list(chunks.chunks(PromptDataset(source), max_pairs=3, max_responses=5))
    assert len(spans) > 5
    assert np.concatenate([s.prompts for s in spans]).tolist() == list(range(20))
    assert all(s.batch.num_responses <= 5 and s.batch.num_pairs <= 3 for s in spans)
    monkeypatch.setattr(chunks.chunks, "__defaults__", (1, 1))  # each prompt alone
    for a, b in zip(whole, predict(model, source), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_baseline_has_no_latents(source):
    found = evaluate(BradleyTerryModel(problems.HIDDEN_SIZE), source)
    assert found["kl_weights"] is None
    assert found["kl_features_se"] is None
    assert found["active_units_weights"] is None
    assert found["length_baseline"] is None
    assert found["by_subset"] == {}
    assert found["accuracy"] is not None


def test_training_mode_changes_nothing_and_is_given_back(source):
    model = VRM(
        problems.HIDDEN_SIZE, 3, 2,
        ConditionalDirichletPrior(8, dropout=0.5), ConditionalNormalPrior(8, dropout=0.5),
        OutcomeAwareGuide(4), LinearReward(3, 2),
    )  # fmt: skip
    model.eval()
    expected = evaluate(model, source)
    model.train()
    model.reward.eval()
    assert evaluate(model, source) == expected
    assert model.training
    assert not model.reward.training
    assert torch.is_grad_enabled()


def test_labels_and_ratings_are_not_read(source):
    model = problems.small_model().float()
    other = replace(
        source, preference=1 - source.preference, ratings=source.ratings[:, :1], objectives=("x",)
    )
    np.testing.assert_array_equal(predict(model, source).p_first, predict(model, other).p_first)


def test_swapped_rows_give_the_same_rates(source):
    model = problems.small_model().float()
    swapped = replace(
        source,
        pair_first=source.pair_second,
        pair_second=source.pair_first,
        preference=1 - source.preference,
    )
    assert evaluate(model, swapped)["log_loss"] == pytest.approx(
        evaluate(model, source)["log_loss"], abs=1e-6
    )


def test_one_prompt_has_no_standard_errors():
    source = sources.source_of(problems.small_batch(1, dtype=torch.float32))
    found = evaluate(problems.small_model().float(), source)
    assert found["accuracy_se"] is None
    json.dumps(found, allow_nan=False)


def test_subset_without_weight_is_left_out(source):
    weight = source.pair_weight.copy()
    weight[:5] = 0
    subset = ["silent"] * 5 + ["loud"] * (len(weight) - 5)
    found = evaluate(
        problems.small_model().float(), replace(source, pair_weight=weight), subset=subset
    )
    assert set(found["by_subset"]) == {"loud"}
    assert found["n_pairs"] == len(weight) - 5


def test_refuses_rows_it_cannot_rate(source):
    model = problems.small_model(ratings=False).float()  # else their ratings are rated
    with pytest.raises(InputError, match="no comparison"):
        evaluate(model, sources.without_pairs(source))
    with pytest.raises(InputError, match="positive weight"):
        evaluate(model, replace(source, pair_weight=0 * source.pair_weight))
    with pytest.raises(ValueError, match="1 subsets"):
        evaluate(model, source, subset=["a"])
    with pytest.raises(ValueError, match="2 lengths"):
        evaluate(model, source, lengths=[1, 2])
