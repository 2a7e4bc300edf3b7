import numpy as np
import pytest
from scipy.optimize import isotonic_regression
from scipy.special import expit

from vrm_pyro.diagnostics.metrics.pair_metrics import brier_values
from vrm_pyro.diagnostics.metrics.reliability import reliability_curve


def pairs(factor=1.0, num=1500, seed=0):
    """Return p, labels, weights and prompts; true logits are the predicted ones times factor."""
    rng = np.random.default_rng(seed)
    delta = 1.5 * rng.standard_normal(num)
    label = (rng.random(num) < expit(factor * delta)).astype(float)
    return expit(delta), label, np.ones(num), np.arange(num) // 3


def test_brier_score_is_the_sum_of_its_parts():
    p, c, w, prompt = pairs(0.6)
    found = reliability_curve(p, c, w, prompt)
    whole = found.miscalibration - found.discrimination + found.uncertainty
    assert whole == pytest.approx(brier_values(p, c).mean())
    assert found.uncertainty == pytest.approx(0.25)
    assert found.miscalibration >= 0
    assert found.discrimination >= 0
    assert (np.diff(found.fit) >= -1e-12).all()
    assert (found.lower <= found.upper).all()


def test_the_parts_are_those_of_a_fit_to_pairs_in_both_orders():
    p, c, w, prompt = pairs(0.6, num=300)
    w = np.random.default_rng(1).random(len(p))
    both, label, mass = np.append(p, 1 - p), np.append(c, 1 - c), np.append(w, w)
    order = np.argsort(both)
    fit = isotonic_regression(label[order], weights=mass[order]).x
    best = np.average(brier_values(fit, label[order]), weights=mass[order])
    found = reliability_curve(p, c, w, prompt)
    score = np.average(brier_values(p, c), weights=w)
    assert found.miscalibration == pytest.approx(score - best)
    assert found.discrimination == pytest.approx(0.25 - best)


def test_a_model_that_prefers_the_wrong_side_discriminates_nothing():
    found = reliability_curve(*pairs(-1.0))
    assert found.discrimination == pytest.approx(0, abs=1e-3)
    assert found.miscalibration > 0.1


def test_curve_is_near_the_truth():
    p, c, w, prompt = pairs(0.5, num=9000)
    found = reliability_curve(p, c, w, prompt)

    def truth(confidence):
        return expit(0.5 * np.log(confidence / (1 - confidence)))

    inner = found.confidence < 0.9
    assert np.abs(found.fit - truth(found.confidence))[inner].max() < 0.08
    exact = truth(found.bin_confidence)
    inside = (found.lower <= exact + 0.01) & (exact - 0.01 <= found.upper)
    assert inside[found.bin_confidence < 0.9].mean() > 0.8


def test_order_of_rows_and_of_responses_does_not_matter():
    p, c, w, prompt = pairs(0.7)
    p = p.round(2)  # many equal values
    rng = np.random.default_rng(1)
    order, flip = rng.permutation(len(p)), rng.random(len(p)) < 0.5
    other = reliability_curve(
        np.where(flip, 1 - p, p)[order], np.where(flip, 1 - c, c)[order], w, prompt[order]
    )
    for one, two in zip(reliability_curve(p, c, w, prompt), other, strict=True):
        np.testing.assert_allclose(one, two)
