"""best_of_n: rules of a model on candidates with a gold reward."""

import json

import numpy as np
import pytest
import torch
from helpers.reward_models import loaded_model
from helpers.tiny_backbones import text, tiny_backbone

import vrm_pyro
from vrm_pyro.diagnostics.best_of_n.estimator import expected_best
from vrm_pyro.diagnostics.best_of_n.measure import KS
from vrm_pyro.diagnostics.best_of_n.rules import group_scores
from vrm_pyro.errors import InputError
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.report.plots import best_of_n_curves

SIZES = (6, 5, 5, 2, 7, 5)


@pytest.fixture(scope="module")
def scorer():
    backbone = tiny_backbone()
    return Scorer(loaded_model(backbone), backbone)


@pytest.fixture(scope="module")
def baseline(scorer):
    return Scorer(loaded_model(scorer.backbone, architecture="bradley_terry"), scorer.backbone)


def candidates(start=0):
    rows = []
    for i, size in enumerate(SIZES):
        answers = [text(start + 100 * i + j, 4 + j) for j in range(size)]
        rows.append(
            {
                "prompt": text(start + 100 * i + 99, 5),
                "responses": answers,
                "ratings": [{"gold": (3 * j + i) % 7, "other": 1} for j in range(size)],
            }
        )
    return rows


@pytest.fixture(scope="module")
def found(scorer, baseline):
    return vrm_pyro.best_of_n(scorer, candidates(), "gold", against=[baseline])


def test_rules_are_those_of_score_by_prompt(scorer, found):
    """Mean, lower bound and P(best) of --per prompt, put into the estimator, give the curves."""
    rows = [row for row in candidates() if len(row["responses"]) >= found["max_n"]]
    table = vrm_pyro.load_table(
        [{k: v for k, v in row.items() if k != "ratings"} for row in rows], every_row=True
    )
    lines = list(scorer.score_prompts(table, k=found["k"]))
    for rule, key in (("mean", "reward_mean"), ("lower_bound", "lower_bound")):
        curves = [
            expected_best(
                np.array([response[key] for response in line["responses"]]),
                np.array([rating["gold"] for rating in row["ratings"]], dtype=float),
                found["max_n"],
            )
            for line, row in zip(lines, rows, strict=True)
        ]
        assert found["rules"][rule]["mean"] == pytest.approx(np.mean(curves, 0))


def test_prompts_with_few_candidates_are_left_out(found):
    assert (found["max_n"], found["n_prompts"], found["prompts_left_out"]) == (5, 5, 1)
    assert found["n_candidates"] == sum(size for size in SIZES if size >= 5)
    assert "left out: 1 prompts with fewer than 5" in str(found)


def test_one_candidate_is_a_random_one_and_gold_is_the_best(found):
    rules = found["rules"]
    assert {name: held["mean"][0] for name, held in rules.items()} == pytest.approx(
        dict.fromkeys(rules, rules["gold"]["mean"][0])
    )
    best = np.array(rules["gold"]["mean"])
    assert all((np.array(held["mean"]) <= best + 1e-9).all() for held in rules.values())


def test_differences_are_paired(found):
    held = next(
        d for d in found["differences"] if (d["rule"], d["against"]) == ("mean", "model mean")
    )
    rules = found["rules"]
    gap = np.array(rules["mean"]["mean"]) - np.array(rules["model mean"]["mean"])
    assert held["mean"] == pytest.approx(gap)
    assert held["se"][0] == pytest.approx(0)


def test_k_is_chosen_on_other_prompts(scorer):
    held = candidates(start=5000)
    found = vrm_pyro.best_of_n(scorer, candidates(), "gold", validation=held)
    tried = {float(k): value for k, value in found["k_on_validation"].items()}
    assert set(tried) == set(KS)
    assert tried[found["k"]] == max(tried.values())
    fixed = vrm_pyro.best_of_n(scorer, candidates(), "gold", k=found["k"])
    assert fixed["rules"]["lower_bound"] == found["rules"]["lower_bound"]


def test_single_rated_responses_are_candidates_too(scorer, found):
    rows = [
        {"prompt": row["prompt"], "response": answer, "ratings": rating}
        for row in candidates()
        for answer, rating in zip(row["responses"], row["ratings"], strict=True)
    ]
    again = vrm_pyro.best_of_n(scorer, rows, "gold")
    assert again["rules"]["mean"]["mean"] == pytest.approx(found["rules"]["mean"]["mean"])


def test_p_best_is_that_of_a_normal_pair():
    """Two responses with a known reward difference: P(best) is Phi(mean / sd)."""

    class Known(torch.nn.Module):
        def reward_mixture(self, batch, num_nodes):
            loc = torch.tensor([0.0, 1.0, 3.0, 0.0]).expand(1, num_nodes, 4)
            return loc, torch.tensor([1.0, 1.0, 0.25, 0.75]).expand(1, num_nodes, 4)

        num_parameter_draws = 0
        group_mixture = RewardModel.group_mixture

    none = np.zeros(0, dtype=np.int64)
    source = type("Source", (), {})()
    source.prompts, source.responses = np.zeros((2, 1)), np.zeros((4, 1))
    source.response_prompt = np.array([0, 0, 1, 1])
    source.pair_first = source.pair_second = none
    source.preference = source.pair_weight = np.zeros(0)
    source.ratings, source.objectives = np.zeros((4, 0)), ()
    found = group_scores(Known(), source)
    assert found.mean == pytest.approx([-0.5, 0.5, 1.5, -1.5])
    assert found.sd == pytest.approx([0.5**0.5, 0.5**0.5, 0.5, 0.5])
    above = torch.special.ndtr(torch.tensor([-(0.5**0.5), 0.5**0.5, 3.0, -3.0])).numpy()
    error = 5 * (above * (1 - above) / 2048) ** 0.5 + 1e-3
    assert (np.abs(found.p_above - above) < error).all()
    expected = found.mean + found.sd * torch.special.ndtri(torch.tensor(0.1)).item()
    assert found.quantile == pytest.approx(expected, abs=0.1)
    assert np.argsort(found.p_best).tolist() == [3, 0, 1, 2]
    assert found.minimum is None


def test_selective_choice(found):
    held = found["selective"]["mean"]
    assert held["coverage"][-1] == 1
    gap = held["raised_by_abstaining"]
    at = held["coverage"].index(0.7)
    assert gap["difference"] == pytest.approx(held["gain"][at] - held["gain"][-1])
    assert gap["lower"] <= gap["difference"] <= gap["upper"]


def test_json_table_and_figure(found):
    json.dumps(found.to_dict(), allow_nan=False)
    assert all(name in str(found) for name in ("lower_bound", "n = 4", "abstaining"))
    figure = best_of_n_curves(found)
    labels = [line.get_label() for line in figure.axes[0].lines]
    assert labels == [name for name in found["rules"] if name != "gold"]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"gold": "golden"}, "did you mean 'gold'"),
        ({"max_n": 50}, "no prompt has 50 candidates"),
        ({"max_n": 1}, "max_n is 1"),
        ({"level": 1.0}, "level is 1.0"),
        ({"k": -1.0}, "k is -1.0"),
    ],
)
def test_what_cannot_be_measured_is_said(scorer, change, words):
    with pytest.raises(InputError, match=words):
        vrm_pyro.best_of_n(scorer, candidates(), **({"gold": "gold"} | change))
