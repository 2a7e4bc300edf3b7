"""Draw results of sweeps: means over seeds, with the lowest and the highest seed."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullLocator

from vrm_pyro.report.plots.style import (
    FAINT,
    bare_axes,
    new_figure,
    outside_legend,
    panel_title,
    series_colour,
    series_marker,
)

LABELS: Final = {
    "accuracy": "test accuracy (% of pairs)",
    "log_loss": "test log loss (nats a pair)",
    "ece": "test calibration error ECE",
}
SPREAD: Final = "mean; bars: lowest to highest seed"
#: Markers differ, so that figures are readable without colour.
LINES: Final = ("-", "--", ":", "-.")
MODES: Final = {"conditional": "mode conditional", "vib": "mode vib"}

Group = Mapping[str, Any]


def power_curves(groups: Sequence[Group], *, title: str | None = None) -> Figure:
    """Show test metrics against lambda, the power on ratings.

    Lambda is on a logarithmic axis. The value 0 is drawn separately at the left, with a dashed
    reference line.

    Args:
        groups: One for each lambda, ascending: ``power``, and ``test`` with ``mean``, ``lowest``
            and ``highest`` of each metric.
        title: Title of the figure.
    """
    figure = new_figure(9.6, 3.4, title)
    powers = [group["power"] for group in groups]
    position = _log_positions(powers)
    panels = figure.subplots(1, 3)
    panel_title(panels[0], SPREAD)
    for axes, metric in zip(panels, LABELS, strict=True):
        mean, low, high = _ends(groups, metric)
        if powers[0] == 0:
            axes.axhline(mean[0], color=FAINT, linestyle="--", linewidth=1)
        start = int(powers[0] == 0)
        axes.plot(position[start:], mean[start:], color=series_colour(0), linewidth=1.6)
        axes.errorbar(
            position,
            mean,
            yerr=[mean - low, high - mean],
            fmt=series_marker(0),
            color=series_colour(0),
            markersize=5,
            capsize=3,
            linewidth=1.2,
        )
        names = [f"{power:g}".replace("0.", ".") if power else "0" for power in powers]
        axes.set_xticks(position, names)
        axes.set(xlabel="λ, power on ratings", ylabel=LABELS[metric])
        _metric_axis(axes, metric)
        bare_axes(axes, grid="y")
    return figure


def supervision_dots(groups: Sequence[Group], *, title: str | None = None) -> Figure:
    """Show test metrics of types of supervision, one row each.

    Args:
        groups: One for each type: ``words``, ``mode``, ``power`` (None without ratings), ``test``.
        title: Title of the figure.
    """
    figure = new_figure(9.6, 1.6 + 0.34 * len(groups), title)
    panels = figure.subplots(1, 3, sharey=True)
    rows = np.arange(len(groups))[::-1]
    modes = list(dict.fromkeys(group["mode"] for group in groups))
    for axes, metric in zip(panels, LABELS, strict=True):
        mean, low, high = _ends(groups, metric)
        for number, mode in enumerate(modes):
            own = np.array([group["mode"] == mode for group in groups])
            axes.errorbar(
                mean[own],
                rows[own],
                xerr=[(mean - low)[own], (high - mean)[own]],
                fmt=series_marker(number),
                color=series_colour(number),
                markersize=5.5,
                capsize=3,
                linewidth=1.2,
                label=MODES[mode],
            )
            without = [i for i in np.flatnonzero(own).tolist() if groups[i]["power"] is None]
            if without:
                axes.axvline(
                    mean[without[0]],
                    color=series_colour(number),
                    linestyle=LINES[1 + number],
                    linewidth=1,
                    alpha=0.7,
                )
        axes.set(xlabel=LABELS[metric], ylim=(-0.6, len(groups) - 0.4))
        _metric_axis(axes, metric, axes.xaxis)
        bare_axes(axes, grid="both")
    names = [
        group["words"] + ("" if group["power"] is None else f", λ = {group['power']:g}")
        for group in groups
    ]
    panels[0].set_yticks(rows, names)
    panel_title(panels[0], SPREAD)
    outside_legend(figure, panels[0], "lower center")
    return figure


def learning_curves(
    steps: Mapping[str, Mapping[str, Sequence[Mapping[str, float]]]],
    groups: Sequence[Group],
    *,
    title: str | None = None,
) -> Figure:
    """Show metrics of models over training steps, and against the number of training pairs.

    Args:
        steps: By model and metric (``accuracy``, ``log_loss``): ``step``, ``mean``, ``lowest``
            and ``highest`` on validation pairs.
        groups: One for each model and size: ``model``, ``num_pairs``, ``test``.
        title: Title of the figure.
    """
    figure = new_figure(9.6, 6.2, title)
    panels = figure.subplots(2, 2)
    for column, metric in enumerate(("accuracy", "log_loss")):
        above, below = panels[0, column], panels[1, column]
        for number, name in enumerate(steps):
            style: dict[str, Any] = {
                "color": series_colour(number),
                "linestyle": LINES[number % len(LINES)],
                "label": name,
            }
            points = steps[name][metric]
            step, mean, low, high = (
                np.array([point[key] for point in points])
                for key in ("step", "mean", "lowest", "highest")
            )
            above.plot(step, mean, linewidth=1.7, **style)
            above.fill_between(step, low, high, color=style["color"], alpha=0.15, linewidth=0)
            own = [group for group in groups if group["model"] == name]
            pairs = np.array([group["num_pairs"] for group in own])
            mean, low, high = _ends(own, metric)
            below.errorbar(
                # Offset the bars: those of two models at one size would overlap.
                pairs * 1.03 ** (number - (len(steps) - 1) / 2),
                mean,
                yerr=[mean - low, high - mean],
                marker=series_marker(number),
                markersize=5,
                capsize=3,
                linewidth=1.5,
                **style,
            )
        sizes = sorted({round(group["num_pairs"]) for group in groups})
        below.set_xscale("log")
        below.set_xticks(sizes, [f"{size:,}" for size in sizes])
        below.xaxis.set_minor_locator(NullLocator())
        above.set(xlabel="training step", ylabel=LABELS[metric].replace("test", "validation"))
        below.set(xlabel="training pairs", ylabel=LABELS[metric])
        for axes in (above, below):
            _metric_axis(axes, metric)
            bare_axes(axes)
    panel_title(panels[0, 0], "along training, all pairs; bands: lowest to highest seed")
    panel_title(panels[1, 0], "growing data, best step by validation; bars: all seeds")
    outside_legend(figure, panels[1, 0], "lower center")
    return figure


def _ends(groups: Sequence[Group], metric: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    mean, low, high = (
        np.array([group["test"][metric][key] for group in groups])
        for key in ("mean", "lowest", "highest")
    )
    return mean, low, high


def _log_positions(powers: Sequence[float]) -> np.ndarray:
    """Return the position of each lambda: its logarithm; 0 is one step left of the others."""
    positive = np.log10([power for power in powers if power > 0])
    if powers[0] > 0:
        return positive
    if len(positive) == 0:
        return np.zeros(1)
    step = float(np.diff(positive).mean()) if len(positive) > 1 else 1.0
    return np.concatenate([[positive[0] - 1.5 * step], positive])


def _metric_axis(axes: Axes, metric: str, axis: Any = None) -> None:
    axis = axis or axes.yaxis
    axis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    if metric == "accuracy":
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:g}"))
