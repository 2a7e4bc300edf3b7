"""Figure of best-of-n: gold reward against n, and the gain on the surest choices."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator, StrMethodFormatter

from vrm_pyro.report.plots.lines import LINES
from vrm_pyro.report.plots.style import (
    bare_axes,
    new_figure,
    outside_legend,
    panel_title,
    series_colour,
    series_marker,
)

LEFT_OUT = ("gold",)
"""The choice by gold itself is far above all others."""


def best_of_n_curves(found: Mapping[str, Any], leave_out: Sequence[str] = LEFT_OUT) -> Figure:
    """Plot the result of :func:`vrm_pyro.best_of_n`: 90% bands are over prompts.

    Args:
        found: The result, or its JSON.
        leave_out: Rules that are not shown.
    """
    figure = new_figure(9.6, 4.2)
    left, right = figure.subplots(1, 2)
    n = np.arange(1, found["max_n"] + 1)
    shown = [name for name in found["rules"] if name not in leave_out]
    short = {name: name.rpartition("/")[2] for name in shown}  # models are named by folder
    labels = short if len(set(short.values())) == len(shown) else {name: name for name in shown}
    for i, name in enumerate(shown):
        held = found["rules"][name]
        _line(left, i, n, held["mean"], held["lower"], held["upper"], labels[name])
    left.set_xscale("log", base=2)
    powers = 2 ** np.arange(int(np.log2(n[-1])) + 1)
    left.xaxis.set_major_locator(FixedLocator(powers.tolist()))
    left.xaxis.set_minor_locator(NullLocator())
    left.xaxis.set_major_formatter(StrMethodFormatter("{x:.0f}"))
    panel_title(left, "Best of n")
    left.set_xlabel("n, candidates to choose from")
    left.set_ylabel(f"{found['gold']} of the choice")
    for name, held in found["selective"].items():
        i = shown.index(name)
        x = np.array(held["coverage"])
        _line(right, i, x, held["gain"], held["lower"], held["upper"], name)
    panel_title(right, "Abstaining on the least sure choices")
    right.set_xlabel("share of prompts answered, the surest first")
    right.set_ylabel("gain over a random candidate")
    bare_axes(left)
    bare_axes(right)
    outside_legend(figure, left, "lower center", handle_length=3)
    return figure


def _line(axes: Axes, i: int, x: Any, y: Any, low: Any, high: Any, name: str) -> None:
    colour = series_colour(i)
    axes.fill_between(x, low, high, color=colour, alpha=0.12, linewidth=0)
    places = [int(p) for p in np.unique(2 ** np.arange(int(np.log2(len(x))) + 1) - 1)]
    axes.plot(
        x,
        y,
        linestyle=LINES[i % len(LINES)],
        marker=series_marker(i),
        markevery=places,
        markersize=5,
        linewidth=1.5,
        color=colour,
        label=name,
    )
