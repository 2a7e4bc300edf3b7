"""Figures of a benchmark: metrics of several models against one quantity, with their spread."""

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
APART = 0.012  # of the axis, between the bars of two models: they would lie on each other


@dataclass(frozen=True)
class Panel:
    """One quantity.

    Args:
        label: Of the vertical axis, with the unit.
        series: By model, what every seed gave, shape (seeds, points).
        reference: A level to draw a line at, by its name.
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

    Lines and markers differ beside the colours, so that print without colour can be read.

    Args:
        path: File to write.
        panels: What is drawn.
        x: Places on the horizontal axis, shape (points,).
        x_label: Label of the horizontal axis, with the unit.
        title: Of the figure.
        ticks: What stands at the places.
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
    # Below: four long names would run into the title.
    outside_legend(figure, all_axes[0], "lower center", handle_length=3.2)
    with write_file(path) as partial:
        figure.savefig(partial, format="png", dpi=110)
