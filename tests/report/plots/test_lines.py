import io

import numpy as np
import pytest

from vrm_pyro.report.plots import curve_panels


def test_lines_and_bands_are_those_given():
    x, y = np.array([0.1, 0.5, 0.9]), np.array([0.2, 0.4, 0.8])
    panels = {
        "one": {"model": (x, y, 0.1 * np.ones(3)), "other": (x, y**2)},
        "two": {"other": (x, y)},
    }
    figure = curve_panels(panels, "level", "share", title="Coverage", diagonal=True)
    first, second = figure.axes
    model, other = first.lines[1:]
    np.testing.assert_allclose(model.get_ydata(), y)
    np.testing.assert_allclose(other.get_ydata(), y**2)
    assert model.get_linestyle() != other.get_linestyle()
    # A series looks the same in every panel.
    assert second.lines[1].get_marker() == other.get_marker()
    vertices = first.collections[0].get_paths()[0].vertices
    assert vertices[:, 1].min() == pytest.approx(0.1)
    assert vertices[:, 1].max() == pytest.approx(0.9)
    figure.savefig(io.BytesIO(), format="png")


def test_nothing_to_show_is_an_error():
    with pytest.raises(ValueError, match="no panel"):
        curve_panels({"a": {}}, "x", "y")
