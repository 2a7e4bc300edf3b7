import json

import numpy as np
import pytest

from vrm_pyro.data.rows import load_table
from vrm_pyro.training.preflight import check_labels, worst
from vrm_pyro.training.preflight.check import Check


def table(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_table(str(path))


def rows(num=200, flip=0.0, agree=0.8, longer=0.5, rated=True, seed=0):
    """Pairs whose better rated response is preferred with probability ``agree``."""
    rng = np.random.default_rng(seed)
    found = []
    for i in range(num):
        ratings = rng.normal(3, 1, (2, 2)).round(2)
        better = int(ratings[1].mean() > ratings[0].mean())
        chosen = better if rng.random() < agree else 1 - better
        if rng.random() < flip:
            chosen = 1 - chosen
        lengths = [2, 9] if rng.random() < longer else [9, 2]
        row = {
            "prompt": f"question {i // 2}",
            "chosen": f"answer {i} c " + "x " * lengths[1],
            "rejected": f"answer {i} r " + "x " * lengths[0],
        }
        if rated:
            row["chosen_ratings"] = dict(zip("ab", map(float, ratings[chosen]), strict=True))
            row["rejected_ratings"] = dict(zip("ab", map(float, ratings[1 - chosen]), strict=True))
        found.append(row)
    return found


def by_name(checks):
    return {check.name: check for check in checks}


def test_sound_rows_pass(tmp_path):
    checks = check_labels(table(tmp_path, rows()))
    assert worst(checks) == "ok", [c.line() for c in checks]
    finding = by_name(checks)["orientation by ratings"].finding
    share = float(finding.split("preferred in ")[1].split("%")[0]) / 100
    assert abs(share - 0.8) < 4 * (0.8 * 0.2 / 200) ** 0.5
    assert len(checks) == 5


def test_exchanged_columns_fail(tmp_path):
    check = by_name(check_labels(table(tmp_path, rows(flip=1.0))))["orientation by ratings"]
    assert check.verdict == "fail"
    assert "turned around" in check.advice


def test_labels_that_ignore_the_ratings_warn(tmp_path):
    check = by_name(check_labels(table(tmp_path, rows(agree=0.5))))["orientation by ratings"]
    assert check.verdict == "warn"


def test_labels_made_from_the_ratings_warn_in_the_words_of_the_rows(tmp_path):
    check = by_name(check_labels(table(tmp_path, rows(agree=1.0))))["label identification"]
    assert check.verdict == "warn"
    assert "objective weights are not identified by this data" in check.finding
    assert "Identified are the scores, by their ratings" in check.advice


@pytest.mark.parametrize(("longer", "verdict"), [(0.5, "ok"), (0.9, "warn"), (0.1, "warn")])
def test_length(tmp_path, longer, verdict):
    check = by_name(check_labels(table(tmp_path, rows(longer=longer))))["length"]
    assert check.verdict == verdict
    assert ("longer" if longer == 0.9 else "shorter") in check.finding or verdict == "ok"


def test_votes_in_both_directions_warn(tmp_path):
    sound = rows(40, rated=False)
    twice = [{**r, "chosen": r["rejected"], "rejected": r["chosen"]} for r in sound[:10]]
    check = by_name(check_labels(table(tmp_path, sound + twice)))["contradictions"]
    assert check.verdict == "warn"
    assert check.finding.startswith("40.0%")  # 20 of 50 rows


def test_ties_and_turned_preferences(tmp_path):
    tied = [{**r, "preference": 0.5} for r in rows(30, rated=False)]
    assert by_name(check_labels(table(tmp_path, tied)))["labels"].verdict == "fail"
    turned = [{**r, "preference": 0.1} for r in rows(30, rated=False)]
    check = by_name(check_labels(table(tmp_path, turned)))["labels"]
    assert check.verdict == "warn"
    assert "turned around" in check.advice


def test_no_comparison_fails(tmp_path):
    rated = [{"prompt": "a", "response": f"b {i}", "ratings": {"x": 1}} for i in range(3)]
    (check,) = check_labels(table(tmp_path, rated))
    assert check.verdict == "fail"


def test_lines_and_the_gravest_verdict():
    checks = [Check("a", "ok", "fine"), Check("b", "warn", "odd", "look")]
    assert checks[1].line() == "warn  b: odd\n      -> look"
    assert worst(checks) == "warn"
    assert worst([*checks, Check("c", "fail", "broken")]) == "fail"
    assert worst([]) == "ok"
