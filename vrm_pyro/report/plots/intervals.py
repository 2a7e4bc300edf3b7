"""Figure of values with intervals, in rows, series and panels."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from vrm_pyro.report.plots.style import (
    FAINT,
    bare_axes,
    new_figure,
    outside_legend,
    panel_title,
    series_colour,
    series_marker,
)

# Share of a row's height that its series take.
SPREAD = 0.6
LINES = ("solid", "dashed", "dotted", "dashdot")

Span = tuple[float, float, float]
Panel = Mapping[str, Mapping[str, Span]]


def interval_panels(
    panels: Mapping[str, Panel],
    label: str,
    *,
    title: str | None = None,
    reference: float | None = None,
    columns: int = 3,
    width: float = 2.6,
) -> Figure:
    """Plot values with intervals, by row, for one or more series in each panel.

    Series differ in marker, line and colour, so they are distinct in grey.

    Args:
        panels: Value, lower and upper end, by title of the panel, name of the series and name of
            the row. A value that is not finite is left out; so is an interval with such an end.
        label: Label of the values, with the unit.
        title: Title of the figure.
        reference: Position of a reference line.
        columns: Panels side by side, at most.
        width: Width of a panel in inches.

    Raises:
        ValueError: If there is nothing to show.
    """
    rows = list(dict.fromkeys(r for p in panels.values() for s in p.values() for r in s))
    names = list(dict.fromkeys(name for panel in panels.values() for name in panel))
    if not rows:
        raise ValueError("interval_panels: no panel holds a row.")
    across = min(columns, len(panels))
    down = -(-len(panels) // across)
    each = 0.75 + len(rows) * max(0.24, 0.13 * len(names))
    figure = new_figure(1.8 + width * across, 0.9 + down * each, title)
    cells = figure.subplots(down, across, sharex=True, sharey=True, squeeze=False).ravel()
    for axes, (heading, panel) in zip(cells, panels.items(), strict=False):
        if reference is not None:
            axes.axvline(reference, color=FAINT, linewidth=1, linestyle="--")
        for i, name in enumerate(names):
            shift = SPREAD * ((i + 0.5) / len(names) - 0.5)
            colour, spans = series_colour(i), panel.get(name, {})
            shown = [(rows.index(row), *span) for row, span in spans.items()]
            y, value, low, high = np.array(shown, dtype=np.float64).reshape(-1, 4).T
            axes.hlines(y + shift, low, high, color=colour, linestyle=LINES[i % len(LINES)])
            axes.plot(
                value,
                y + shift,
                series_marker(i),
                color=colour,
                markersize=5.5,
                markerfacecolor=colour if i % 2 == 0 else "white",
                label=name,
            )
        panel_title(axes, heading)
        bare_axes(axes, grid="x")
    for axes in cells[len(panels) :]:
        axes.set_visible(False)
    cells[0].set_yticks(range(len(rows)), rows)
    cells[0].set_ylim(len(rows) - 0.4, -0.6)
    # Label the middle panel of the last row: a label of the figure would overlap the legend.
    last = len(panels) - across * (down - 1)
    cells[across * (down - 1) + (last - 1) // 2].set_xlabel(label, fontsize=9.5)
    if len(names) > 1:
        # Width of title and legend in inches; they share a line only if both fit.
        needed = 0.11 * len(title or "") + sum(0.6 + 0.08 * len(name) for name in names)
        room = needed < figure.get_figwidth()
        outside_legend(figure, cells[0], "upper right" if room else "lower center")
    return figure
