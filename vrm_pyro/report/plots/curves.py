"""Figure of training curves."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from vrm_pyro.report.plots.style import (
    INK,
    bare_axes,
    new_figure,
    panel_title,
    series_colour,
    series_marker,
)

# Panels of training curves: axis label, then for each line the log key, name and colour.
TRAINING_PANELS: tuple[tuple[str, tuple[tuple[str, str, int], ...]], ...] = (
    ("objective\n(nats a prompt)", (("elbo", "ELBO", 0), ("objective", "objective", 2))),
    ("loss", (("loss", "training", 0),)),
    ("log loss\n(nats a pair)", (("eval_log_loss", "validation", 1),)),
    ("log score\n(nats a rating)", (("eval_rating_log_score", "validation", 1),)),
    ("accuracy", (("accuracy", "training", 0), ("eval_accuracy", "validation", 1))),
    (
        "KL(q ‖ p), nats",
        (("kl_weights", "w, per prompt", 3), ("kl_features", "z, per response", 4)),
    ),
    (
        "active units",
        (("active_units_weights", "of w", 3), ("active_units_features", "of z", 4)),
    ),
)
BEST_KEY, BEST_OF_RATINGS = "eval_log_loss", "eval_rating_log_score"


def training_curves(
    log_history: Sequence[Mapping[str, Any]], *, title: str | None = "Training"
) -> Figure:
    """Plot training curves from the ``log_history`` of transformers' Trainer.

    Each panel of :data:`TRAINING_PANELS` with a value gets a strip. A dashed line marks the step
    with the best validation log loss; without pairs, with the best log score of ratings.

    Args:
        log_history: Log entries with ``step``, as the Trainer keeps them.
        title: Title of the figure.

    Raises:
        ValueError: If no entry has a value to show.
    """
    series = {
        key: series_of(log_history, key) for _, lines in TRAINING_PANELS for key, _, _ in lines
    }
    if _same(series["objective"], series["elbo"]):
        series["objective"] = []
    if series["elbo"]:
        series["loss"] = []  # the negative of the objective
    panels = [
        (label, shown)
        for label, lines in TRAINING_PANELS
        if (shown := [(name, hue, series[key]) for key, name, hue in lines if series[key]])
    ]
    if not panels:
        raise ValueError("training_curves: no entry of the log has a value to show.")
    figure = new_figure(6.4, 0.9 + 1.45 * len(panels), title)
    strips = figure.subplots(len(panels), 1, sharex=True, squeeze=False).ravel()
    best = min(series[BEST_KEY], key=lambda point: point[1], default=None)
    what = "log loss"
    if best is None and series[BEST_OF_RATINGS]:
        best, what = max(series[BEST_OF_RATINGS], key=lambda point: point[1]), "log score"
    # Markers for few points; only a line for many.
    few = max(len(points) for _, shown in panels for _, _, points in shown) < 40
    for axes, (label, shown) in zip(strips, panels, strict=True):
        for number, (name, hue, points) in enumerate(shown):
            step, value = zip(*points, strict=True)
            # Wide and pale below a line with the same values, so that both are visible.
            covered = any(_same(points, later) for _, _, later in shown[number + 1 :])
            width = 4.0 if covered else 1.6
            axes.plot(
                step,
                value,
                color=series_colour(hue),
                linewidth=width,
                alpha=0.5 if covered else 1,
                label=name,
                marker=series_marker(hue) if few else None,
                markersize=2 + width,
            )
        if best:
            axes.axvline(best[0], color=INK, linewidth=0.9, linestyle="--")
        if label.startswith(("KL", "active")):
            axes.set_ylim(bottom=0)
        axes.set_ylabel(label)
        axes.yaxis.set_major_locator(MaxNLocator(4, steps=[1, 2, 2.5, 5, 10]))
        axes.legend(
            loc="center left",
            bbox_to_anchor=(1, 0.5),
            frameon=False,
            fontsize=9,
            labelcolor=INK,
        )
        bare_axes(axes)
    figure.align_ylabels(strips)
    strips[-1].set_xlabel("step")
    if best:
        text = f"best validation {what} {best[1]:.3f} at step {best[0]}"
        panel_title(strips[0], text, loc="right")
    return figure


def series_of(log_history: Sequence[Mapping[str, Any]], key: str) -> list[tuple[int, float]]:
    """Return (step, value) of a key, sorted by step."""
    # Use the first value of a step: a run ends by evaluating its best model again.
    points: dict[int, float] = {}
    for entry in log_history:
        if key in entry and "step" in entry:
            points.setdefault(int(entry["step"]), float(entry[key]))
    return sorted(points.items())


def _same(a: list[tuple[int, float]], b: list[tuple[int, float]]) -> bool:
    """Whether two series agree up to the rounding of float32 sums."""
    if [step for step, _ in a] != [step for step, _ in b]:
        return False
    pairs = zip(a, b, strict=True)
    return all(math.isclose(x, y, rel_tol=1e-4, abs_tol=1e-6) for (_, x), (_, y) in pairs)
