"""Figure of power-scaling sensitivity, from plain arrays."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

from vrm_pyro.report.plots.style import (
    FAINT,
    INK,
    bare_axes,
    new_figure,
    outside_legend,
    panel_title,
    series_colour,
    series_marker,
)

MIDDLE = (0.25, 0.75)
OUTER = (0.1, 0.9)
# Share of a row's height that its series take.
SPREAD = 0.5

Panel = Mapping[str, Mapping[str, ArrayLike]]


def sensitivity_intervals(
    panels: Mapping[str, Panel],
    threshold: float = 0.05,
    *,
    title: str | None = "Sensitivity to prior and likelihood",
) -> Figure:
    """Plot the distribution of an index over items, by row and series, with its threshold.

    A marker is the median over items. The thick bar runs between the quartiles, the thin bar
    from the 10% to the 90% quantile. The numbers on the right are the shares of items that reach
    the threshold, in the order of the series.

    Args:
        panels: Index of all items, by title of the panel, label of the row and name of the
            series; values that are not finite are left out.
        threshold: Position of the dashed line.
        title: Title of the figure.

    Raises:
        ValueError: If there is no panel.
    """
    if not panels:
        raise ValueError("no panel to draw; give at least one.")
    rows = [max(1, len(panel)) for panel in panels.values()]
    figure = new_figure(7.4, 1.5 + 0.42 * sum(rows) + 0.45 * len(rows), title)
    stack = figure.subplots(len(panels), 1, sharex=True, height_ratios=rows, squeeze=False)[:, 0]
    names = list(
        dict.fromkeys(n for panel in panels.values() for row in panel.values() for n in row)
    )
    for axes, (heading, panel) in zip(stack, panels.items(), strict=True):
        panel_title(axes, heading)
        axes.axvline(threshold, color=FAINT, linestyle="--", linewidth=1)
        for y, row in enumerate(panel.values()):
            _row(axes, y, row, names, threshold)
        axes.set_yticks(np.arange(len(panel)), list(panel))
        axes.set_ylim(len(panel) - 0.5, -0.5)
        bare_axes(axes, grid="x")
    stack[0].plot(
        [], [], color=FAINT, linestyle="--", linewidth=1, label=f"threshold {threshold:g}"
    )
    for i, name in enumerate(names):
        stack[0].plot([], [], series_marker(i), color=series_colour(i), markersize=6, label=name)
    stack[-1].set_xlim(left=0)
    figure.supxlabel(
        "index  (marker: median, thick: middle 50%, thin: 10–90% of items; right: share flagged)",
        fontsize=9.5,
        color=INK,
    )
    outside_legend(figure, stack[0])
    return figure


def _row(
    axes: Axes,
    y: float,
    row: Mapping[str, ArrayLike],
    names: Sequence[str],
    threshold: float,
) -> None:
    shares = []
    for name, given in row.items():
        i = names.index(name)
        height = y + SPREAD * ((i + 0.5) / len(names) - 0.5)
        values = np.asarray(given, dtype=np.float64).ravel()
        values = values[np.isfinite(values)]
        if len(values) == 0:
            shares.append("–")
            continue
        colour = series_colour(i)
        axes.hlines(height, *np.quantile(values, OUTER), color=colour, linewidth=1)
        axes.hlines(height, *np.quantile(values, MIDDLE), color=colour, linewidth=3.5, alpha=0.55)
        axes.plot(np.median(values), height, series_marker(i), color=colour, markersize=5.5)
        shares.append(f"{(values >= threshold).mean():.0%}")
    axes.annotate(
        " / ".join(shares),
        (1, y),
        (6, 0),
        xycoords=("axes fraction", "data"),
        textcoords="offset points",
        va="center",
        fontsize=8.5,
        color=INK,
    )
