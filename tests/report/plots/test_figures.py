import io

import numpy as np
import pytest
from matplotlib.collections import LineCollection
from scipy.optimize import isotonic_regression

from vrm_pyro.diagnostics.metrics.pair_metrics import expected_calibration_error
from vrm_pyro.diagnostics.metrics.reliability import wilson
from vrm_pyro.report.plots import reliability, reward_spread, weights_by_kind


def png(figure):
    """Draw the figure as a user would; any warning of the layout fails the test."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    return buffer.getvalue()


def series(axes, label):
    """The x and y of the one line, or series of error bars, with this label."""
    handles, labels = axes.get_legend_handles_labels()
    handle = handles[labels.index(label)]
    line = handle if hasattr(handle, "get_xydata") else handle[0]
    return line.get_xydata().T


def bars(axes, horizontal):
    """Ends of the bars, as (low, high) per bar, in the order they were drawn."""
    column = 0 if horizontal else 1
    return [
        np.array([segment[:, column] for segment in lines.get_segments()])
        for lines in axes.collections
        if isinstance(lines, LineCollection)
    ]


@pytest.fixture(scope="module")
def pairs():
    p, uniform = np.random.default_rng(0).uniform(size=(2, 4000))
    return p, (uniform < p).astype(float)


def test_reliability_markers_are_the_bins_of_equal_mass(pairs):
    p, outcome = pairs
    figure = reliability({"model": p}, outcome, num_bins=8)
    main, strip = figure.axes
    error = expected_calibration_error(p, outcome, np.ones_like(p))
    x, y = series(main, f"model (ECE {error:.3f})")
    confidence = np.maximum(p, 1 - p)
    right = np.where(p > 0.5, outcome, 1 - outcome)
    order = np.argsort(confidence)
    np.testing.assert_allclose(x, confidence[order].reshape(8, 500).mean(axis=1))
    np.testing.assert_allclose(y, right[order].reshape(8, 500).mean(axis=1))
    # Calibrated by construction: every bin within 4.5 standard errors of the diagonal.
    assert (abs(y - x) < 4.5 * np.sqrt(x * (1 - x) / 500)).all()
    assert main.get_ylabel() == "share of pairs predicted right"
    assert "confidence" in strip.get_xlabel()
    assert png(figure)


def test_reliability_line_is_monotone_and_strip_counts_all_pairs(pairs):
    p, outcome = pairs
    main, strip = reliability({"a": p, "b": p**2}, outcome).axes
    fits = [line for line in main.lines if line.get_drawstyle() == "steps-post"]
    assert len(fits) == 2
    assert all((np.diff(line.get_ydata()) >= 0).all() for line in fits)
    # The steps are the isotonic fit to all pairs, each in both orders.
    for line, values in zip(fits, (p, p**2), strict=True):
        confidence = np.maximum(values, 1 - values)
        right = np.where(values > 0.5, outcome, 1 - outcome)
        order = np.argsort(confidence)
        start, height = line.get_xydata().T
        step = np.searchsorted(start, confidence[order] + 1e-9) - 1
        fit = isotonic_regression(right[order]).x
        np.testing.assert_allclose(height[step], np.maximum(fit, 0.5))
    outline = strip.patches[0].get_xy()
    # Twenty-five bins of 2% width that hold all pairs: the outline's area is 2%.
    x, y = outline.T
    assert abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2 == pytest.approx(0.02)


def test_reliability_does_not_depend_on_which_response_stands_first(pairs):
    p, outcome = pairs
    swap = np.random.default_rng(1).uniform(size=len(p)) < 0.5
    swapped = reliability(
        {"model": np.where(swap, 1 - p, p)}, np.where(swap, 1 - outcome, outcome)
    )
    plain = reliability({"model": p}, outcome)
    for one, two in zip(plain.axes[0].lines, swapped.axes[0].lines, strict=True):
        np.testing.assert_allclose(one.get_xydata(), two.get_xydata())


def test_reliability_uses_weights():
    p = np.array([0.9, 0.9, 0.9, 0.9])
    outcome = np.array([1.0, 1.0, 0.0, 0.0])
    figure = reliability({"m": p}, outcome, weight=np.array([3.0, 0.0, 1.0, 0.0]), num_bins=1)
    x, y = series(figure.axes[0], "m (ECE 0.150)")
    assert x == pytest.approx([0.9])
    assert y == pytest.approx([0.75])


def interval_width(figure):
    (segments,) = bars(figure.axes[0], horizontal=False)
    return segments[:, 1] - segments[:, 0]


def test_pairs_of_one_prompt_widen_the_interval():
    p = np.full(400, 0.7)
    outcome = np.repeat(np.arange(40) % 10 < 7, 10).astype(float)  # ten copies of a label
    alone = interval_width(reliability({"m": p}, outcome, num_bins=1))
    prompt = np.repeat(np.arange(40), 10)
    grouped = interval_width(reliability({"m": p}, outcome, prompt=prompt, num_bins=1))
    assert grouped / alone == pytest.approx(10**0.5, rel=0.1)


def test_interval_stays_open_where_every_pair_agrees():
    low, high = wilson(1.0, 0.0, np.ones(50))
    assert 0.93 < low < 0.97
    assert high == pytest.approx(1.0)


@pytest.fixture(scope="module")
def weights():
    kind = np.array(["story", "maths"] * 50)
    mean = np.where((kind == "story")[:, None], [0.6, 0.3, 0.1], [0.1, 0.2, 0.7])
    mean = mean + np.random.default_rng(2).normal(size=mean.shape) * 0.02
    truth = np.where((kind == "story")[:, None], [0.7, 0.2, 0.1], [0.0, 0.2, 0.8])
    return mean, np.full(mean.shape, 0.05), kind, ("style", "safety", "facts"), truth


def test_weights_show_mean_range_and_truth_of_each_kind(weights):
    mean, sd, kind, objectives, truth = weights
    figure = weights_by_kind(mean, sd, kind, objectives, truth)
    panels = [axes for axes in figure.axes if axes.get_visible()]
    assert [axes.get_title(loc="left") for axes in panels] == [
        "story  (n = 50)",
        "maths  (n = 50)",
    ]
    assert [t.get_text() for t in panels[0].get_yticklabels()] == list(objectives)
    for axes, name in zip(panels, ("story", "maths"), strict=True):
        chosen = kind == name
        np.testing.assert_allclose(series(axes, "model, E[w]")[0], mean[chosen].mean(axis=0))
        np.testing.assert_allclose(series(axes, "truth")[0], truth[chosen].mean(axis=0))
        thin, thick, _ = bars(axes, horizontal=True)
        middle = mean[chosen].mean(axis=0)
        np.testing.assert_allclose(thin[:, 1], middle + 0.05)
        np.testing.assert_allclose(thick.T, np.quantile(mean[chosen], [0.1, 0.9], axis=0))
        # The first objective stands on top.
        assert axes.yaxis_inverted()
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["model, E[w]", "truth"]
    assert png(figure)


def test_weights_without_truth_show_the_model_alone(weights):
    mean, sd, kind, objectives, _ = weights
    figure = weights_by_kind(mean, sd, kind, objectives)
    assert figure.axes[0].get_legend_handles_labels()[1] == ["model, E[w]"]
    assert figure.legends == []


def test_weights_of_four_kinds_leave_no_empty_frames(weights):
    mean, sd, _, objectives, _ = weights
    figure = weights_by_kind(mean, sd, np.array(list("abcd") * 25), objectives)
    assert sum(axes.get_visible() for axes in figure.axes) == 4


def test_rewards_are_centred_and_sorted_within_each_prompt():
    mean = np.array([1.0, 3.0, 2.0, 10.0, 8.0])
    sd = np.array([0.1, 0.2, 0.3, 0.4, 0.5])
    truth = np.array([0.0, 3.0, 3.0, -1.0, 1.0])
    prompt = np.array(["a", "a", "a", "b", "b"])
    figure = reward_spread(mean, sd, prompt, truth)
    (axes,) = figure.axes
    dots = [line.get_ydata() for line in axes.lines if line.get_marker() == "o"]
    np.testing.assert_allclose(np.concatenate(dots), [1, 0, -1, 1, -1])
    diamonds = [line.get_ydata() for line in axes.lines if line.get_marker() == "D"]
    np.testing.assert_allclose(np.concatenate(diamonds), [1, 1, -2, -1, 1])
    thin_a, thick_a, _, thick_b = bars(axes, horizontal=False)
    np.testing.assert_allclose(thick_a[:, 1] - thick_a[:, 0], [0.4, 0.6, 0.2])
    np.testing.assert_allclose(thin_a[:, 1] - thin_a[:, 0], 1.645 * np.array([0.4, 0.6, 0.2]))
    np.testing.assert_allclose(thick_b[:, 1] - thick_b[:, 0], [0.8, 1.0])
    assert [t.get_text() for t in axes.get_xticklabels()] == ["a", "b"]
    assert "centred" in axes.get_ylabel()
    assert png(figure)


def test_rewards_show_no_more_prompts_than_asked():
    prompt = np.array(["a", "b", "c"]).repeat(2)
    figure = reward_spread(np.arange(6.0), np.ones(6), prompt, max_prompts=2)
    assert [t.get_text() for t in figure.axes[0].get_xticklabels()] == ["a", "b"]
    assert figure.legends == []
