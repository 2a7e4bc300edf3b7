import json
import math

import numpy as np
import pytest

from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, plain, smallest


def test_json_has_no_arrays_and_nothing_that_is_not_finite():
    detail = {"a": np.array([1.0, np.inf]), 3: (np.float32(2), np.bool_(True)), "n": None}
    found = Finding("x", math.nan, "nats", 0.1, 0.5, False, "fine.", detail=detail).to_json()
    text = json.dumps(found, allow_nan=False)
    assert json.loads(text) == found
    assert found["value"] is None
    assert found["detail"] == {"a": [1.0, None], "3": [2.0, True], "n": None}


def test_bonferroni_leaves_out_tests_that_were_not_made():
    assert smallest([0.02, math.nan, 0.5]) == pytest.approx(0.04)
    assert smallest([0.9, 0.8]) == 1.0
    assert math.isnan(smallest([math.nan]))
    assert not is_alarm(math.nan)
    assert is_alarm(0.0099)
    assert not is_alarm(0.01)


def test_what_does_not_apply_says_why_and_raises_no_alarm():
    found = not_applicable("ratings", "no ratings.")
    assert found.alarm is None
    assert not found.applies
    assert "no ratings" in found.verdict


def test_plain_keeps_text_and_whole_numbers():
    assert plain({"a": ("b", np.int64(3))}) == {"a": ["b", 3]}
