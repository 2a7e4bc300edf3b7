import io

import numpy as np
import pytest
from matplotlib.collections import LineCollection

from vrm_pyro.report.plots import sensitivity_intervals


@pytest.fixture(scope="module")
def panels():
    rng = np.random.default_rng(0)
    return {
        "weights": {
            name: {"prior": rng.gamma(2, 0.03, 50), "likelihood": rng.gamma(2, 0.01, 50)}
            for name in ("clear", "safe")
        },
        "rewards": {"r": {"prior": np.full(3, np.nan), "likelihood": [0.0, 0.1, np.nan]}},
    }


def test_bars_and_markers_are_the_quantiles(panels):
    figure = sensitivity_intervals(panels, 0.07)
    first, second = figure.axes
    bars = [
        segment[:, 0]
        for lines in first.collections
        if isinstance(lines, LineCollection)
        for segment in lines.get_segments()
    ]
    medians = [line.get_xdata()[0] for line in first.lines if len(line.get_xdata()) == 1]
    series = [values for row in panels["weights"].values() for values in row.values()]
    expected = [np.quantile(values, q) for values in series for q in ((0.1, 0.9), (0.25, 0.75))]
    np.testing.assert_allclose(bars, expected)
    np.testing.assert_allclose(medians, [np.median(values) for values in series])
    assert [t.get_text() for t in first.get_yticklabels()] == ["clear", "safe"]
    for axes in figure.axes:
        assert [0.07, 0.07] in [list(line.get_xdata()) for line in axes.lines]
    shares = [text.get_text() for text in first.texts]
    assert shares[0] == " / ".join(f"{(values >= 0.07).mean():.0%}" for values in series[:2])
    assert [text.get_text() for text in second.texts] == ["– / 50%"]
    figure.savefig(io.BytesIO(), format="png")


def test_legend_names_series_and_threshold(panels):
    (legend,) = sensitivity_intervals(panels).legends
    assert [t.get_text() for t in legend.get_texts()] == ["threshold 0.05", "prior", "likelihood"]


def test_nothing_to_show():
    with pytest.raises(ValueError, match="no panel"):
        sensitivity_intervals({})
