"""benchmark: own texts in the published columns, scored once, beside what the model says."""

import json
from functools import cache

import numpy as np
import pytest
from helpers.benchmark_rows import ROWS
from helpers.reward_models import loaded_model
from helpers.tiny_backbones import tiny_backbone

import vrm_pyro
from vrm_pyro.diagnostics.suites.cases import case_table, read_cases
from vrm_pyro.diagnostics.suites.table import SUITES
from vrm_pyro.errors import InputError
from vrm_pyro.prediction.scorer import Scorer


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbone()


@pytest.fixture(scope="module")
def scorer(backbone):
    return Scorer(loaded_model(backbone), backbone)


@pytest.fixture(scope="module")
def baseline(backbone):
    return Scorer(loaded_model(backbone, architecture="bradley_terry"), backbone)


@pytest.fixture(scope="module", params=SUITES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def results(scorer, baseline):
    """Return the result of a benchmark on all its rows, computed once."""
    return cache(lambda name: vrm_pyro.benchmark(name, scorer, ROWS[name](), against=[baseline]))


@pytest.fixture(scope="module")
def found(name, results):
    return results(name)


def test_scores_are_those_of_the_scorer(name, found, scorer):
    """Rewards of a case one by one, and the official rule on them, give the same sections."""
    suite = SUITES[name]
    cases, _ = read_cases(suite, ROWS[name]())
    rewards = [
        np.array([line["reward_mean"] for line in scorer(case.prompt, list(case.responses))])
        for case in cases
    ]
    sums = {}
    for credit in suite.credits(cases, rewards):
        mass, total = sums.get(credit.subset, (0.0, 0.0))
        values = credit.weight * np.array(credit.values)
        sums[credit.subset] = mass + credit.weight, total + values
    sections = suite.sections({subset: total / mass for subset, (mass, total) in sums.items()})
    said = found["models"][0]["sections"]
    assert {key: said[key] for key in sections} == pytest.approx(sections)
    assert found.total == pytest.approx(np.mean([sections[key] for key in suite.needed]))


def test_every_section_has_a_standard_error(found):
    for model in found["models"]:
        names = [key for key in model["sections"] if not key.endswith("_se")]
        assert all(model["sections"][f"{key}_se"] is not None for key in names)
    assert found["missing_sections"] == []


def test_what_stands_beside(found):
    first, other = (model["beside"]["all"] for model in found["models"])
    assert sum(first["weights"].values()) == pytest.approx(1, abs=1e-5)
    assert first["delta_sd"] > 0
    assert other["weights"] is None
    assert other["delta_sd"] == other["ties"] == 0
    for held in (first, other):
        coverage = [level["coverage"] for level in held["by_confidence"]]
        assert coverage[0] == 1
        assert coverage == sorted(coverage, reverse=True)
        assert held["by_confidence"][0]["accuracy"] == pytest.approx(held["accuracy"])
        assert abs(held["length"]["correlation"]) <= 1


def test_differences_are_of_the_same_prompts(found):
    (gap,) = found["differences"]
    first, other = (model["sections"] for model in found["models"])
    total = gap["sections"]["total"]
    assert total["difference"] == pytest.approx(first["total"] - other["total"])
    assert total["lower"] <= total["difference"] <= total["upper"]


def test_it_is_json_and_a_table(found):
    json.dumps([found.to_dict(), found.records], allow_nan=False)
    shown = str(found)
    assert all(f"\n{key}" in shown for key in ("official score", "total", "mean weight"))
    assert found["title"] in repr(found)


def test_files_of_scores_give_the_official_numbers(results):
    """The per-case scores, read as the benchmarks' own code reads them."""
    found = {name: results(name) for name in ("rewardbench", "rm_bench", "judgebench", "rmb")}
    held = found["rewardbench"].records
    by_subset = {}
    for n, subset in enumerate(held["subset"]):
        won = held["scores_chosen"][n] > held["scores_rejected"][n]
        assert won == held["results"][n]
        by_subset.setdefault(subset, []).append(won)
    means = {subset: np.mean(won) for subset, won in by_subset.items()}
    assert found["rewardbench"]["models"][0]["subsets"] == pytest.approx(means)

    won = np.array(
        [
            np.array(row["score_chosen"])[:, None] > np.array(row["score_rejected"])
            for row in found["rm_bench"].records
            if row["domain"] == "chat"
        ]
    ).mean(0)
    chat = (np.triu(won, 1).sum() / 3 + np.diag(won).mean() + np.tril(won, -1).sum() / 3) / 3
    assert found["rm_bench"]["models"][0]["sections"]["Chat"] == pytest.approx(chat)

    right = [
        row["judgments"][0]["decision"] == row["label"] for row in found["judgebench"].records
    ]
    assert found["judgebench"].total == pytest.approx(np.mean(right))

    pairs = [
        row["is_correct"] for row in found["rmb"].records if "Pairwise" in row["category_path"]
    ]
    sections = found["rmb"]["models"][0]["sections"]
    both = np.mean([sections[f"{goal}, pairs"] for goal in ("Helpfulness", "Harmlessness")])
    assert both == pytest.approx(np.mean(pairs))


def test_each_completion_is_stored_once():
    """Three right answers of Ties and the one of its twin are four texts, not seven."""
    rows = [row for row in ROWS["rewardbench2"]() if row["subset"] == "Ties"]
    cases, _ = read_cases(SUITES["rewardbench2"], rows)
    texts = case_table(cases)
    assert texts.num_completions == 2 * (4 + 6)
    assert texts.table.num_responses < texts.num_completions
    for case, places in zip(cases, texts.responses, strict=True):
        assert [texts.table.responses[j] for j in places] == list(case.responses)


def test_a_benchmark_without_all_sections_has_no_total(scorer):
    rows = [row for row in ROWS["rewardbench2"]() if row["subset"] == "Focus"]
    found = vrm_pyro.benchmark("rewardbench2", scorer, rows)
    assert found.total is None
    assert "No total: no rows of Factuality" in str(found)
    assert "no total" in repr(found)


def test_unusable_rows_stop_it_or_are_counted(scorer):
    rows = ROWS["rewardbench"]()
    rows[3]["chosen"] = " "
    with pytest.raises(InputError, match=r'1 of 46 rows.*\n  rows\[3\]: "chosen" is empty'):
        vrm_pyro.benchmark("rewardbench", scorer, rows)
    found = vrm_pyro.benchmark("rewardbench", scorer, rows, skip_invalid=True)
    assert found["left_out"] == {"empty text": 1}
    assert "not the official score: 1 empty text" in str(found)


def test_an_unknown_benchmark_is_named(scorer):
    with pytest.raises(InputError, match="did you mean 'rm_bench'"):
        vrm_pyro.benchmark("rmbench", scorer, [])


def test_several_files_are_one_benchmark(scorer, results, tmp_path):
    for n, goal in enumerate(("Helpfulness", "Harmlessness")):
        rows = [row for row in ROWS["rmb"]() if goal in row["category_path"]]
        (tmp_path / f"{n}.json").write_text(json.dumps(rows))
    found = vrm_pyro.benchmark("rmb", scorer, [tmp_path / "0.json", tmp_path / "1.json"])
    assert found["n_cases"] == 8
    assert found.total == results("rmb").total
