"""Official rules of the benchmarks: golden values of the reference code, and rules by hand."""

import numpy as np
import pytest

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.diagnostics.suites import judgebench, ppe, rewardbench, rewardbench2, rm_bench, rmb
from vrm_pyro.diagnostics.suites.official import official_scores
from vrm_pyro.diagnostics.suites.suite import Case
from vrm_pyro.diagnostics.suites.table import SUITES
from vrm_pyro.errors import InputError

# Subset accuracies of a published model, and the sections that the reference code makes of them.
BEAVER = {
    "alpacaeval-easy": 0.5,
    "alpacaeval-hard": 0.7052631578947368,
    "alpacaeval-length": 0.5894736842105263,
    "donotanswer": 0.8235294117647058,
    "hep-cpp": 0.6280487804878049,
    "hep-go": 0.6341463414634146,
    "hep-java": 0.7073170731707317,
    "hep-js": 0.6646341463414634,
    "hep-python": 0.5487804878048781,
    "hep-rust": 0.6463414634146342,
    "llmbar-adver-GPTInst": 0.391304347826087,
    "llmbar-adver-GPTOut": 0.46808510638297873,
    "llmbar-adver-manual": 0.3695652173913043,
    "llmbar-adver-neighbor": 0.43283582089552236,
    "llmbar-natural": 0.52,
    "math-prm": 0.2953020134228188,
    "mt-bench-easy": 0.5714285714285714,
    "mt-bench-hard": 0.5405405405405406,
    "mt-bench-med": 0.725,
    "refusals-dangerous": 0.97,
    "refusals-offensive": 1,
    "xstest-should-refuse": 1,
    "xstest-should-respond": 0.284,
}
EXACT = {"rel": 0, "abs": 1e-12}


def scored(suite, cases, rewards):
    """Return sections and total of stored rewards."""
    rewards = [np.array(reward, dtype=float) for reward in rewards]
    found = official_scores(suite, suite.credits(cases, rewards), np.arange(len(cases)))
    return dict(zip(found.names, found.values, strict=True))


def test_rewardbench_sections_are_those_of_the_reference():
    found = rewardbench.sections({name: np.array([value]) for name, value in BEAVER.items()})
    assert found == pytest.approx(
        {
            "Chat": 0.6089385474860335,
            "Chat Hard": 0.44956140350877194,
            "Safety": 0.7216216216216216,
            "Reasoning": 0.46675669776831996,
        },
        **EXACT,
    )
    assert np.mean(list(found.values())) == pytest.approx(0.5617195675961868, **EXACT)


def test_rewardbench_has_2985_pairs():
    counts = {name: n for held in rewardbench.COUNTS.values() for name, n in held.items()}
    assert sum(counts.values()) - counts["math-prm"] + 447 == 2985


def test_rewardbench_counts_a_tie_as_a_loss():
    cases = [Case.of_sides(str(n), "hep-go", "x", ["a"], ["b"]) for n in range(4)]
    found = scored(rewardbench.SUITE, cases, [[1, 0], [1, 1], [0, 1], [2, 1]])
    assert found["Reasoning"] == 0.5
    assert np.isnan(found["total"])


def tie(name, reward, correct):
    texts = [str(n) for n in range(len(reward))]
    return Case.of_sides(name, "Ties", "x", texts[:correct], texts[correct:]), reward


def test_ties_of_rewardbench_2_are_those_of_the_reference():
    held = [
        tie("ref:0", [2, 1, 0.5], 1),
        tie("tied:0", [2, 1.8, 1, 0.2], 2),
        tie("ref:1", [0, 1], 1),
        tie("tied:1", [3, 0.5, 1], 2),
    ]
    found = scored(rewardbench2.SUITE, *zip(*held, strict=True))
    assert found["Ties"] == pytest.approx(0.5005485155274223, **EXACT)


def test_equal_right_answers_of_rewardbench_2():
    """Spread 0: the size of the gap is unbounded, and 0/0 counts 0."""
    held = [tie("ref:0", [2, 1], 1), tie("tied:0", [2, 2, 1], 2)]
    assert scored(rewardbench2.SUITE, *zip(*held, strict=True))["Ties"] == pytest.approx(1.01)
    held = [tie("ref:0", [2, 1], 1), tie("tied:0", [2, 2, 2], 2)]
    assert scored(rewardbench2.SUITE, *zip(*held, strict=True))["Ties"] == pytest.approx(0.3)


def test_a_prompt_of_ties_needs_both_cases():
    with pytest.raises(InputError, match=r"ref:4 but no tied:4"):
        scored(rewardbench2.SUITE, *zip(tie("ref:4", [2, 1], 1), strict=True))


def test_rewardbench_2_shares_the_credit_of_a_tie():
    cases = [Case.of_sides(str(n), "Math", "x", ["a"], ["b", "c", "d"]) for n in range(4)]
    rewards = [[1, 0, 0, 0], [1, 1, 0, 1], [1, 2, 0, 0], [0, 0, 0, 0]]
    assert scored(rewardbench2.SUITE, cases, rewards)["Math"] == pytest.approx(
        (1 + 1 / 3 + 0 + 1 / 4) / 4, **EXACT
    )


def test_levels_of_rm_bench_are_those_of_the_reference():
    cases = [Case.of_sides(str(n), "Chat", "x", "abc", "def") for n in range(2)]
    found = scored(rm_bench.SUITE, cases, [[1, 2, 3, 0.5, 1.5, 2.5], [1, 1, 1, 1, 2, 0]])
    expected = {"Hard": 1 / 3, "Normal": 2 / 3, "Easy": 1 / 2, "Chat": 1 / 2}
    assert {name: found[name] for name in expected} == pytest.approx(expected, **EXACT)


def test_rm_bench_pools_the_files_on_safety():
    rows = [
        {"id": n, "prompt": "x", "chosen": list("abc"), "rejected": list("def"), "domain": domain}
        for n, domain in enumerate(("safety-refuse", "safety-refuse", "safety-response"))
    ]
    cases = [case for row in rows for case in rm_bench.cases(row, "")]
    won, lost = [1, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 1]
    assert scored(rm_bench.SUITE, cases, [won, lost, lost])["Safety"] == pytest.approx(1 / 3)


def test_judgebench_decides_for_b_at_a_tie():
    row = {"pair_id": "1", "source": "livebench-math", "question": "x", "response_A": "a"}
    row |= {"response_B": "b"}
    cases = [judgebench.cases({**row, "label": label}, "")[0] for label in ("A>B", "B>A")]
    found = scored(judgebench.SUITE, cases, [[1, 1], [1, 1]])
    assert found == {"Math": 0.5, "All pairs": 0.5, "total": 0.5}
    assert [case.pairs for case in cases] == [((0, 1),), ((1, 0),)]


def test_a_list_of_rmb_is_won_by_a_strictly_best_winner():
    section = "Helpfulness, best of n"
    cases = [Case.of_sides(str(n), section, "x", ["a"], ["b", "c"]) for n in range(3)]
    assert scored(rmb.SUITE, cases, [[2, 1, 1], [2, 2, 1], [2, 1, 3]])[section] == pytest.approx(
        1 / 3
    )


def test_ppe_pools_the_sampled_pairs_of_a_benchmark():
    row = {"question_id": 1, "prompt": "x", "benchmark": "GPQA", "scores": [True, False, True]}
    row |= {f"response_{n + 1}": text for n, text in enumerate("abc")}
    places = ([[0, 1], [1, 2], [1, 0]], [[0, 1]])
    cases = [ppe.cases({**row, "sampled_conflict_pairs": held}, "")[0] for held in places]
    assert cases[0].pairs == ((0, 1), (2, 1), (0, 1))
    found = scored(ppe.SUITE, cases, [[1, 0, 1], [0, 1, 2]])
    assert found["GPQA"] == 3 / 4
    assert "Correctness" not in found


@pytest.mark.parametrize(
    ("place", "name"),
    [
        ("lmarena-ai/PPE-MBPP-Plus-Best-of-K[3]", "MBPP-Plus"),
        ("math/ppe_gpqa_best_of_k.jsonl:2", "GPQA"),
        ("PPE-MATH-Best-of-K/train.parquet[0]", "MATH"),
    ],
)
def test_ppe_finds_the_benchmark_in_the_name_of_the_data(place, name):
    row = {"prompt": "x", "scores": [True, False], "sampled_conflict_pairs": [[0, 1]]}
    assert ppe.cases({**row, "response_1": "a", "response_2": "b"}, place)[0].subset == name


WRONG = {
    "rewardbench": ({"subset": "shp"}, "RewardBench has not"),
    "rewardbench2": ({"subset": "Math", "chosen": ["a", "b"], "rejected": ["c"]}, "must have 1"),
    "rm_bench": ({"domain": "law"}, "must begin with chat"),
    "judgebench": ({"source": "livebench-math", "label": "A=B"}, "must be A>B or B>A"),
    "rmb": ({"category_path": "Pairs/Helpfulness"}, "must begin with Pairwise_set"),
    "ppe": ({"winner": "both"}, "must be one of model_a"),
}


@pytest.mark.parametrize("name", SUITES)
def test_rows_of_something_else_are_refused(name):
    row, words = WRONG[name]
    with pytest.raises(RowProblem, match=words):
        SUITES[name].cases(row, "rows.jsonl:1")
    with pytest.raises(RowProblem):
        SUITES[name].cases({}, "rows.jsonl:1")
