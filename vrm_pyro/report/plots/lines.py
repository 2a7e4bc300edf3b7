"""Figure of lines with points, in series and panels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

from vrm_pyro.report.plots.style import (
    FAINT,
    bare_axes,
    new_figure,
    outside_legend,
    panel_title,
    series_colour,
    series_marker,
)

LINES = ("-", "--", ":", "-.")
MOST_MARKERS = 12

Series = tuple[ArrayLike, ...]


def curve_panels(
    panels: Mapping[str, Mapping[str, Series]],
    x_label: str,
    y_label: str,
    *,
    title: str | None = None,
    diagonal: bool = False,
    reference: float | None = None,
    width: float = 4.2,
) -> Figure:
    """Plot y against x for one or more series in each panel, distinct in grey.

    Args:
        panels: x and y, or x, y and the half-width of a band, by title of the panel and name of
            the series.
        x_label: Label of x, with the unit.
        y_label: Label of y.
        title: Title of the figure.
        diagonal: Whether to draw y = x, for shares.
        reference: The y of a horizontal reference line.
        width: Width of a panel in inches.

    Raises:
        ValueError: If there is nothing to show.
    """
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    if not names:
        raise ValueError("curve_panels: no panel holds a series.")
    figure = new_figure(0.8 + width * len(panels), 3.9, title)
    cells = figure.subplots(1, len(panels), sharey=True, squeeze=False).ravel()
    for axes, (heading, panel) in zip(cells, panels.items(), strict=True):
        if diagonal:
            axes.plot([0, 1], [0, 1], color=FAINT, linewidth=1, linestyle="--")
        if reference is not None:
            axes.axhline(reference, color=FAINT, linewidth=1, linestyle="--")
        for name, values in panel.items():
            i = names.index(name)
            x, y, *band = (np.asarray(v, dtype=np.float64) for v in values)
            colour = series_colour(i)
            if band:
                low, high = y - band[0], y + band[0]
                axes.fill_between(x, low, high, color=colour, alpha=0.15, linewidth=0)
            axes.plot(
                x,
                y,
                linestyle=LINES[i % len(LINES)],
                marker=series_marker(i),
                markevery=max(1, len(x) // MOST_MARKERS),
                markersize=5,
                linewidth=1.5,
                color=colour,
                label=name,
            )
        if all((np.asarray(values[0]) % 1 == 0).all() for values in panel.values()):
            axes.xaxis.set_major_locator(MaxNLocator(integer=True))  # counts
        panel_title(axes, heading)
        axes.set_xlabel(x_label)
        bare_axes(axes)
    cells[0].set_ylabel(y_label)
    if len(names) > 1:
        outside_legend(figure, cells[0], "lower center", handle_length=3)
    return figure
