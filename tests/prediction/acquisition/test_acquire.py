"""acquire: information by hand and by draws, diversity, rows to label."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.problems import Arrays, small_batch
from helpers.reward_models import loaded_model
from helpers.tiny_backbones import text, tiny_backbone

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.likelihoods import BradleyTerry
from vrm_pyro.prediction.acquisition.information import LabelInformation, label_information
from vrm_pyro.prediction.acquisition.select import select_pairs
from vrm_pyro.prediction.scorer import Scorer


def entropy(p):
    return -(p * np.log(p) + (1 - p) * np.log(1 - p))


def test_information_of_an_ensemble_is_its_disagreement():
    torch.manual_seed(0)
    batch = small_batch(6, dtype=torch.float32)
    model = BradleyTerryModel(batch.responses.shape[1], 0, ensemble_size=4).eval()
    found = label_information(model, Arrays(batch))
    p = torch.sigmoid(model.member_deltas(batch)).detach().double().numpy()
    expected = entropy(p.mean(0)) - entropy(p).mean(0)
    assert found.parameters == pytest.approx(expected, abs=1e-5)
    assert found.weights == pytest.approx(0, abs=1e-6)
    assert found.p_first == pytest.approx(p.mean(0), abs=1e-6)
    variance = model.member_deltas(batch).var(0, correction=0).detach().numpy()
    assert (found.deviations**2).sum(1) == pytest.approx(variance, rel=1e-4)


def test_it_splits_what_is_learned_from_what_is_noise():
    """Two values of the parameters, two of w, and a spread of z that counts for nothing."""
    delta = torch.tensor([[[2.0], [0.0]], [[-1.0], [1.0]]])  # values, w, pair

    class Known(torch.nn.Module):
        likelihood = BradleyTerry()

        def reward_mixture(self, batch, num_nodes):
            loc = torch.cat([delta, torch.zeros_like(delta)], -1)
            return loc, torch.full_like(loc, 0.5)

    source = SimpleNamespace(
        prompts=np.zeros((1, 1), np.float32),
        responses=np.zeros((2, 1), np.float32),
        response_prompt=np.zeros(2, np.int64),
        pair_first=np.array([0]),
        pair_second=np.array([1]),
        preference=np.array([0.5]),
        pair_weight=np.ones(1),
        ratings=np.zeros((2, 0)),
        objectives=(),
    )
    found = label_information(Known(), source)
    nodes, mass = np.polynomial.hermite_e.hermegauss(60)
    z = delta.numpy()[..., None] + nodes
    p = ((mass / mass.sum()) / (1 + np.exp(-z))).sum(-1)[..., 0]
    given = p.mean(1)
    assert found.parameters == pytest.approx(
        [entropy(given.mean()) - entropy(given).mean()], abs=1e-5
    )
    assert found.weights == pytest.approx([(entropy(given) - entropy(p).mean(1)).mean()], abs=1e-5)
    assert found.total <= math.log(2)


def information(parameters, weights, deviations, noise=4.0):
    size = len(parameters)
    columns = (np.full(size, 0.5), parameters, weights, deviations, np.full(size, noise))
    return LabelInformation(*(np.asarray(column, dtype=np.float32) for column in columns))


def test_pairs_that_say_the_same_are_not_all_taken():
    """The second best repeats the best; the third is about something else."""
    found = information([0.5, 0.49, 0.4], [0, 0, 0], [[9, 0], [9, 0], [0, 3]])
    assert select_pairs(found, np.arange(3), 2) == [0, 2]
    assert select_pairs(found, np.arange(3), 3) == [0, 2, 1]


def test_prompts_give_one_pair_each_unless_told():
    found = information([0, 0, 0], [0.5, 0.4, 0.1], np.zeros((3, 2)))
    prompt = np.array([7, 7, 8])
    assert select_pairs(found, prompt, 5) == [0, 2]
    assert select_pairs(found, prompt, 5, per_prompt=2) == [0, 1, 2]


@pytest.fixture(scope="module")
def scorer():
    backbone = tiny_backbone()
    return Scorer(loaded_model(backbone), backbone)


def rows():
    return [
        {"prompt": text(100 * i, 5), "responses": [text(100 * i + j, 3 + j) for j in range(1, 5)]}
        for i in range(5)
    ]


def test_rows_to_label(scorer):
    found = vrm_pyro.acquire(scorer, rows(), 4)
    assert found.num_pairs == 5 * 6
    assert len({str(row["prompt"]) for row in found.rows}) == len(found.rows) == 4
    for row in found.rows:
        assert row["preference"] is None
        parts = row["information_parameters"] + row["information_weights"]
        assert row["information"] == pytest.approx(parts, abs=1e-6)
        (p,) = scorer.preference(row["prompt"], row["first"], row["second"])
        assert row["p_first"] == pytest.approx(p, abs=0.01)
    assert np.mean([row["information"] for row in found.rows]) > found.mean_information
    assert "4 of 30 pairs" in str(found)
    more = vrm_pyro.acquire(scorer, rows(), 40, per_prompt=6)
    assert len(more.rows) == 30


def test_labels_are_not_read_and_what_is_filled_in_can_be_trained_on(scorer):
    labelled = [
        {"prompt": row["prompt"], "chosen": row["responses"][0], "rejected": row["responses"][1]}
        for row in rows()
    ]
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in labelled]
    one, two = (vrm_pyro.acquire(scorer, given, 5).rows for given in (labelled, turned))
    assert {row["information"] for row in one} == {row["information"] for row in two}
    filled = [{**row, "preference": 1} for row in one]
    table = vrm_pyro.load_table(
        filled, columns="prompt=prompt,chosen=first,rejected=second,preference=preference"
    )
    assert table.preference.tolist() == [1.0] * 5


def test_what_cannot_be_chosen_is_said(scorer):
    single = [{"prompt": "One?", "response": "Two."}]
    with pytest.raises(InputError, match="no prompt has two responses"):
        vrm_pyro.acquire(scorer, single, 1)
    with pytest.raises(InputError, match="number is 0"):
        vrm_pyro.acquire(scorer, rows(), 0)
    plain = Scorer(loaded_model(scorer.backbone, architecture="bradley_terry"), scorer.backbone)
    with pytest.raises(InputError, match="no spread over parameters"):
        vrm_pyro.acquire(plain, rows(), 1)
