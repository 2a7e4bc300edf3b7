"""Draw metrics of several models against one quantity, with their standard deviation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.ticker import NullLocator

from vrm_pyro.atomic import write_file
from vrm_pyro.report.plots.style import (
    INK,
    bare_axes,
    new_figure,
    outside_legend,
    series_colour,
    series_marker,
)

LINES = ("-", "--", "-.", ":")
APART = 0.012  # offset between the error bars of two models, as a fraction of the axis


@dataclass(frozen=True)
class Panel:
    """One panel of a figure.

    Args:
        label: Label of the vertical axis, with the unit.
        series: Values of every seed by model, shape (seeds, points).
        reference: Name and value of a horizontal line.
    """

    label: str
    series: Mapping[str, np.ndarray]
    reference: tuple[str, float] | None = None


def draw_curves(
    path: str | Path,
    panels: Sequence[Panel],
    x: Sequence[float],
    x_label: str,
    title: str,
    *,
    ticks: Sequence[str],
    log_axis: bool = False,
) -> None:
    """Draw panels side by side and write them as PNG: means, and bars of one sd over seeds.

    Lines and markers differ as well as colours, so a print without colour is readable.

    Args:
        path: File to write.
        panels: Panels to draw.
        x: Positions on the horizontal axis, shape (points,).
        x_label: Label of the horizontal axis, with the unit.
        title: Title of the figure.
        ticks: Labels of the positions.
        log_axis: Whether the horizontal axis is logarithmic.
    """
    figure = new_figure(4.4 * len(panels), 3.9, title)
    places = np.log(x) if log_axis else np.asarray(x, dtype=float)
    width = places.max() - places.min()
    all_axes = [figure.add_subplot(1, len(panels), i + 1) for i in range(len(panels))]
    for axes, panel in zip(all_axes, panels, strict=True):
        for index, (name, values) in enumerate(panel.series.items()):
            shift = (index - (len(panel.series) - 1) / 2) * APART * width
            axes.errorbar(
                places + shift,
                values.mean(axis=0),
                yerr=values.std(axis=0, ddof=1) if len(values) > 1 else None,
                label=name,
                color=series_colour(index),
                marker=series_marker(index),
                linestyle=LINES[index % len(LINES)],
                markersize=5,
                linewidth=1.6,
                elinewidth=1,
                capsize=2,
            )
        if panel.reference is not None:
            name, level = panel.reference
            axes.axhline(level, color=INK, linewidth=0.8, linestyle=(0, (1, 2)))
            axes.annotate(
                name, (places.min(), level), fontsize=8, color=INK, va="bottom", ha="left"
            )
        axes.set_xticks(places, ticks)
        axes.xaxis.set_minor_locator(NullLocator())
        axes.set_xlabel(x_label)
        axes.set_ylabel(panel.label)
        bare_axes(axes)
    # Put the legend below: four long names would overlap the title.
    outside_legend(figure, all_axes[0], "lower center", handle_length=3.2)
    with write_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
