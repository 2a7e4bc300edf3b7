import io

import numpy as np
import pytest

from vrm_pyro.report.plots import interval_panels

PANELS = {
    "how-to": {
        "model": {"clarity": (0.3, 0.1, 0.5), "detail": (0.7, 0.6, 0.8)},
        "control": {"clarity": (0.5, float("nan"), float("nan"))},
    },
    "summary": {"model": {"detail": (0.2, 0.0, 0.4)}},
}


def test_markers_and_bars_stand_where_the_numbers_are():
    figure = interval_panels(PANELS, "weight", title="Weights", reference=0.25)
    first, second = figure.axes
    model, control = (line for line in first.lines if line.get_label() in ("model", "control"))
    np.testing.assert_allclose(model.get_xdata(), [0.3, 0.7])
    np.testing.assert_allclose(control.get_xdata(), [0.5])
    # Series of one row stand apart, in the order given.
    assert model.get_ydata()[0] < control.get_ydata()[0]
    bars = first.collections[0].get_segments()
    np.testing.assert_allclose([[bar[0, 0], bar[1, 0]] for bar in bars], [[0.1, 0.5], [0.6, 0.8]])
    assert [text.get_text() for text in first.get_yticklabels()] == ["clarity", "detail"]
    assert second.get_title(loc="left") == "summary"
    styles = {line.get_marker() for line in first.lines if line.get_label() in PANELS["how-to"]}
    assert len(styles) == 2
    figure.savefig(io.BytesIO(), format="png")


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="no panel"):
        interval_panels({"a": {}}, "x")
