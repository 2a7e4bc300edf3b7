import io

import numpy as np
import pytest
from matplotlib.image import imread
from sweeps.figures import learning_curves, power_curves, supervision_dots


def rates(accuracy, log_loss, spread=0.01):
    values = {"accuracy": accuracy, "log_loss": log_loss, "ece": 0.05}
    return {
        name: {"mean": value, "lowest": value - spread, "highest": value + 2 * spread}
        for name, value in values.items()
    }


def powers(*values):
    return [
        {"power": v, "test": rates(0.7 + 0.01 * i, 0.6 - 0.02 * i)} for i, v in enumerate(values)
    ]


def pixels(figure):
    file = io.BytesIO()
    figure.savefig(file, format="png")
    file.seek(0)
    return imread(file)[..., :3]


def bars(axes, number=0):
    """Markers and the ends of the bars of one series of a panel."""
    line, _, (segments,) = axes.containers[number]
    return np.array(line.get_xydata()), np.array(segments.get_segments())


def test_lambda_stands_at_its_logarithm_and_zero_apart():
    figure = power_curves(powers(0.0, 0.01, 0.1, 1.0), title="simulated")
    panel = figure.axes[0]
    points, ends = bars(panel)
    assert np.allclose(points[:, 0], [-3.5, -2, -1, 0])
    assert np.allclose(points[:, 1], [0.7, 0.71, 0.72, 0.73])
    assert np.allclose(ends[:, 0, 1], points[:, 1] - 0.01)
    assert np.allclose(ends[:, 1, 1], points[:, 1] + 0.02)
    assert [text.get_text() for text in panel.get_xticklabels()] == ["0", ".01", ".1", "1"]
    # The line leaves 0 out, which is no neighbour of .01; a dashed line carries its value on.
    dashed, line = panel.get_lines()[:2]
    assert len(line.get_xdata()) == 3
    assert set(dashed.get_ydata()) == {0.7}
    assert panel.get_ylabel() == "test accuracy (% of pairs)"
    assert figure.axes[1].get_ylabel() == "test log loss (nats a pair)"
    assert pixels(figure).std() > 0.02


@pytest.mark.parametrize("values", [(0.1, 1.0), (0.0,), (0.0, 1.0), (0.3,)])
def test_few_lambdas_can_be_shown(values):
    figure = power_curves(powers(*values))
    points, _ = bars(figure.axes[0])
    assert len(set(points[:, 0])) == len(values)
    assert pixels(figure).std() > 0.02


def test_types_are_rows_and_modes_are_series():
    groups = [
        {"words": "none", "mode": "conditional", "power": None, "test": rates(0.7, 0.6)},
        {"words": "scores", "mode": "conditional", "power": 0.1, "test": rates(0.72, 0.58)},
        {"words": "weights", "mode": "vib", "power": 1.0, "test": rates(0.69, 0.61)},
    ]
    figure = supervision_dots(groups)
    panel = figure.axes[1]
    first, _ = bars(panel, 0)
    second, ends = bars(panel, 1)
    assert np.allclose(first, [[0.6, 2], [0.58, 1]])  # the first type is the highest row
    assert np.allclose(second, [[0.61, 0]])
    assert np.allclose(ends[0, :, 0], [0.60, 0.63])
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["none", "scores, λ = 0.1", "weights, λ = 1"]
    references = [line for line in panel.get_lines() if len(set(line.get_xdata())) == 1]
    assert {0.6} in [set(line.get_xdata()) for line in references]
    assert pixels(figure).std() > 0.02


def test_curves_show_steps_above_and_sizes_below():
    curve = [
        {"step": 5.0, "mean": 0.6, "lowest": 0.5, "highest": 0.65},
        {"step": 10.0, "mean": 0.7, "lowest": 0.68, "highest": 0.72},
    ]
    steps = {name: {"accuracy": curve, "log_loss": curve} for name in ("VRM", "reward model")}
    groups = [
        {"model": name, "num_pairs": size, "test": rates(0.6 + size / 1000, 0.6)}
        for name in steps
        for size in (20.0, 200.0)
    ]
    figure = learning_curves(steps, groups)
    above, _, below, _ = figure.axes
    assert above.get_ylabel() == "validation accuracy (% of pairs)"
    assert [line.get_linestyle() for line in above.get_lines()] == ["-", "--"]
    assert np.allclose(above.get_lines()[0].get_xydata(), [[5, 0.6], [10, 0.7]])
    (band, _) = above.collections
    assert band.get_datalim(above.transData).y1 == pytest.approx(0.72)
    points, _ = bars(below, 1)
    assert np.allclose(points[:, 1], [0.62, 0.8])
    assert np.allclose(np.log(points[:, 0]), np.log([20, 200]), atol=0.05)
    assert [text.get_text() for text in below.get_xticklabels()] == ["20", "200"]
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == list(steps)
    assert pixels(figure).std() > 0.02
