"""Charts as SVG: where things lie, and that names are escaped."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from vrm_pyro.report.page.svg import MARKERS, WIDTH, Chart, Legend, Scale, padded


def chart(**settings):
    return Chart(Scale(0, 10, "x, m"), Scale(-1, 1, "y, s"), "A name", "What it shows", **settings)


def parsed(made):
    return ElementTree.fromstring(str(made.svg()))


def test_axes_end_where_their_values_end():
    made = chart()
    (x0, x1), (y0, y1) = made.place([0, 10], [-1, 1])
    assert (x0, x1) == (made.left, made.right)
    assert y1 < y0 < made.height
    assert x1 < WIDTH
    middle = made.place(5, 0)
    assert middle == pytest.approx(((x0 + x1) / 2, (y0 + y1) / 2))


def test_labels_title_and_description_are_there():
    root = parsed(chart())
    assert root.get("role") == "img"
    assert root.get("aria-label") == "A name. What it shows"
    texts = [element.text for element in root.iter("text")]
    assert {"x, m", "y, s", "0", "10", "-1", "1"} <= set(texts)


def test_names_are_escaped():
    made = Chart(
        Scale(0, 1, "<b>", ticks=(0.5,), names=('<script>alert("1")</script>',)),
        Scale(0, 1, "&"),
        '"><script>',
        "<i>",
    )
    text = str(made.svg())
    assert "<script" not in text
    assert "<b>" not in text
    root = ElementTree.fromstring(text)
    assert root.get("aria-label") == '"><script>. <i>'


def test_an_axis_may_run_the_other_way():
    scale = Scale(2.5, -0.5, "", ticks=(0.0, 1.0, 2.0), names=("a", "b", "c"))
    assert [name for _, name in scale.marks(5)] == ["a", "b", "c"]
    made = Chart(Scale(0, 1, "x"), scale, "t", "d")
    assert made.place(0, 0)[1] < made.place(0, 2)[1]


def test_ticks_lie_inside_the_axis():
    for low, high in ((0.03, 0.97), (-3, 1e4), (1.2e-5, 1.9e-5)):
        values = [value for value, _ in Scale(low, high, "").marks(5)]
        assert 2 <= len(values) <= 7
        assert min(values) >= low - 1e-9 * (high - low)
        assert max(values) <= high + 1e-9 * (high - low)


def test_shapes():
    made = chart()
    made.line([0, 5, 10], [0, 1, 0], "s0")
    made.line([0, 5, 10], [0, 1, 0], "s1", steps=True)
    made.band([0, 10], [-1, -1], [1, 1], "area s0")
    made.bars([0, 5, 10], [0.5, 0.0], "fill s0")
    made.segments([1, 2], [0, 0], [1, 2], [1, 1], "s2")
    for marker in MARKERS:
        made.points([1, 2], [0, 0], "dot s0", marker)
    root = parsed(made)
    assert len(root.findall("circle")) == 2
    paths = {p.get("class"): p.get("d") for p in root.findall("path")}
    assert paths["line s1"].count("H") == paths["line s1"].count("V") == 2
    assert paths["area s0"].endswith("Z")
    assert len(root.findall("rect")) == 1  # an empty bin is no shape
    across = [float(v) for v in re.findall(r"[ML]([\d.]+) ", paths["line s0"])]
    assert across[0] == pytest.approx(made.left)


def test_legend_samples_and_padding():
    for kind in ("line", "band", *MARKERS):
        ElementTree.fromstring(str(Legend("a", kind, "s0").sample()))
    assert padded([0.0, 1.0, np.nan, np.inf]) == pytest.approx((-0.06, 1.06))
    assert padded([2.0, 2.0]) == (1.5, 2.5)
    assert padded([np.nan])[0] < padded([np.nan])[1]
