"""Rates as a table, as HTML and as numbers."""

import json
import math

from vrm_pyro.diagnostics.evaluation import Evaluation

RATES = {
    "n_pairs": 1200, "n_prompts": 300,
    "accuracy": 0.75, "accuracy_se": 0.0125, "log_loss": 0.5, "log_loss_se": 0.02,
    "brier": 0.18, "brier_se": 0.01, "ece": 0.04, "ece_se": None,
}  # fmt: skip
VALUES = {
    **RATES,
    "length_baseline": {
        "longest": 0.55, "longest_se": 0.02, "shortest": 0.45, "shortest_se": 0.02,
    },
    "by_subset": {"a < b": {**RATES, "n_pairs": 200, "log_loss": None}},
}  # fmt: skip


def test_the_table_has_all_rows_length_rules_and_kinds():
    lines = str(Evaluation(VALUES)).splitlines()
    assert [line[:24].strip() for line in lines] == [
        "", "all rows", "rule: longer is better", "rule: shorter is better", "a < b",
    ]  # fmt: skip
    assert lines[0].split() == ["accuracy", "log", "loss", "Brier", "ECE", "pairs", "prompts"]
    assert "0.750 +- 0.013" in lines[1]
    assert "0.040" in lines[1]
    assert lines[1].split()[-2:] == ["1,200", "300"]
    assert lines[2].split()[-3:] == ["0.550", "+-", "0.020"]
    assert " - " in lines[4]


def test_html_escapes_names():
    page = Evaluation(VALUES)._repr_html_()
    assert "<th>a &lt; b</th>" in page
    assert "<td>0.750 +- 0.013</td>" in page


def test_numbers():
    found = Evaluation(VALUES)
    rates = "accuracy 0.750 +- 0.013, log loss 0.500 +- 0.020"
    assert repr(found) == f"Evaluation({rates} on 1,200 pairs of 300 prompts)"
    assert found.accuracy == (0.75, 0.0125)
    assert (found.log_loss.value, found.brier.value) == (0.5, 0.18)
    assert math.isnan(found.ece.standard_error)
    assert math.isnan(found.by_subset["a < b"].log_loss.value)
    assert found.to_dict() == VALUES == json.loads(json.dumps(found))
    assert type(found.to_dict()) is dict
