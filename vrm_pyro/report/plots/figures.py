"""Matplotlib figures of a trained reward model, from plain arrays."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from numpy.typing import ArrayLike, NDArray

from vrm_pyro.diagnostics.metrics.pair_metrics import expected_calibration_error
from vrm_pyro.diagnostics.metrics.reliability import Z_90, Reliability, reliability_curve
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

OUTER = (0.1, 0.9)  # quantiles of a range over prompts


def reliability(
    predictions: Mapping[str, ArrayLike],
    outcome: ArrayLike,
    weight: ArrayLike | None = None,
    prompt: ArrayLike | None = None,
    *,
    num_bins: int = 10,
    title: str | None = "Reliability of predicted preferences",
) -> Figure:
    """Plot a reliability diagram: the share of correct pairs against the confidence of models.

    Confidence is max(p, 1 - p), so the order of the two responses does not matter. Markers are
    bins of equal weight with 90% intervals. The line is the isotonic fit over all pairs. The
    strip below is a histogram of the confidence.

    Args:
        predictions: Probability that the first response is preferred, (N,), by name of model.
        outcome: Probability in [0, 1] that it was: the label, shape (N,).
        weight: Weight of every pair, shape (N,); ones when omitted.
        prompt: Prompt of every pair, shape (N,); intervals are then clustered by prompt. When
            omitted, pairs are treated as independent.
        num_bins: Number of bins of equal weight.
        title: Title of the figure.
    """
    label = np.asarray(outcome, dtype=np.float64)
    mass = np.ones_like(label) if weight is None else np.asarray(weight, dtype=np.float64)
    group = np.arange(len(label)) if prompt is None else np.asarray(prompt)
    group = np.unique(group, return_inverse=True)[1].astype(np.int64)
    figure = new_figure(5.2, 5.8, title)
    main, strip = figure.subplots(2, 1, sharex=True, height_ratios=[4.5, 1])
    main.plot([0.5, 1], [0.5, 1], color=FAINT, linestyle="--", linewidth=1, label="calibrated")
    floor = 0.45
    for i, (name, values) in enumerate(predictions.items()):
        p = np.asarray(values, dtype=np.float64)
        error = expected_calibration_error(p, label, mass)
        text = f"{name} (ECE {error:.3f})"
        found = reliability_curve(p, label, mass, group, num_bins)
        lowest = _reliability_series(main, i, text, found)
        floor = min(floor, lowest - 0.02)
        strip.hist(
            np.maximum(p, 1 - p),
            bins=np.linspace(0.5, 1, 26).tolist(),
            weights=mass / mass.sum(),
            histtype="stepfilled",
            facecolor=(series_colour(i), 0.15),
            edgecolor=series_colour(i),
            linewidth=1.3,
        )
    # The isotonic fit ends at 1 with few pairs, so the intervals set the visible range.
    main.set(ylabel="share of pairs predicted right", xlim=(0.495, 1.005), ylim=(floor, 1.015))
    # Accuracy rises with confidence, calibrated or not, so this corner is empty.
    main.legend(loc="lower right", frameon=False, fontsize=9, labelcolor=INK)
    main.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    strip.set(xlabel="confidence max(p, 1 − p)", ylabel="pairs")
    strip.xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    strip.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    strip.yaxis.set_major_locator(MaxNLocator(2))
    bare_axes(main)
    bare_axes(strip, grid="y")
    return figure


def _reliability_series(axes: Axes, index: int, label: str, found: Reliability) -> float:
    """Draw one model; return the lower end of its lowest interval."""
    colour = series_colour(index)
    axes.plot(
        found.confidence,
        found.fit,
        drawstyle="steps-post",
        color=colour,
        linewidth=1.2,
        alpha=0.55,
    )
    axes.errorbar(
        found.bin_confidence,
        found.share,
        yerr=[found.share - found.lower, found.upper - found.share],
        fmt=series_marker(index),
        color=colour,
        markersize=5.5,
        elinewidth=1.2,
        markeredgecolor="white",
        markeredgewidth=0.6,
        label=label,
    )
    return float(found.lower.min())


def weights_by_kind(
    mean: ArrayLike,
    sd: ArrayLike,
    kind: Sequence[str] | NDArray[Any],
    objectives: Sequence[str],
    truth: ArrayLike | None = None,
    *,
    title: str | None = "Objective weights by kind of prompt",
) -> Figure:
    """Plot the posterior of w for each kind of prompt, with the truth if known.

    A dot is the mean over prompts of E[w]. The thick bar runs from the 10% to the 90% quantile
    of E[w] over prompts. The thin bar shows the uncertainty about one prompt: mean plus and minus
    the root mean square of the posterior sd.

    Args:
        mean: E[w] of every prompt, shape (P, K).
        sd: Posterior standard deviation of w, shape (P, K).
        kind: Kind of every prompt, shape (P,).
        objectives: Names of the K objectives.
        truth: True w of every prompt, shape (P, K); shown as its mean and 10% to 90% range.
        title: Title of the figure.
    """
    centre, spread = np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    true = None if truth is None else np.asarray(truth, dtype=np.float64)
    names = np.asarray(kind)
    kinds = list(dict.fromkeys(names.tolist()))
    columns = min(3, len(kinds))
    rows = -(-len(kinds) // columns)
    height = 0.9 + rows * (0.75 + 0.3 * len(objectives))
    figure = new_figure(1.6 + 2.6 * columns, height, title)
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).ravel()
    y = np.arange(len(objectives))
    for axes, name in zip(panels, kinds, strict=False):
        chosen = names == name
        m, s = centre[chosen].mean(axis=0), np.sqrt((spread[chosen] ** 2).mean(axis=0))
        low, high = np.quantile(centre[chosen], OUTER, axis=0)
        blue, red = series_colour(0), series_colour(1)
        axes.hlines(y - 0.14, np.maximum(m - s, 0), np.minimum(m + s, 1), color=blue, linewidth=1)
        axes.hlines(y - 0.14, low, high, color=blue, linewidth=3.5, alpha=0.55)
        axes.plot(m, y - 0.14, "o", color=blue, markersize=6, label="model, E[w]")
        if true is not None:
            low, high = np.quantile(true[chosen], OUTER, axis=0)
            axes.hlines(y + 0.14, low, high, color=red, linewidth=3.5, alpha=0.35)
            axes.plot(
                true[chosen].mean(axis=0), y + 0.14, "D", color=red, markersize=5, label="truth"
            )
        panel_title(axes, f"{name}  (n = {chosen.sum()})")
        bare_axes(axes, grid="x")
    for axes in panels[len(kinds) :]:
        axes.set_visible(False)
    panels[0].set_yticks(y, list(objectives))
    panels[0].set_ylim(len(objectives) - 0.5, -0.5)
    panels[0].set_xlim(left=0)
    figure.supxlabel(
        "weight  (dot: mean, thick: 10–90% of prompts, thin: ± 1 posterior sd)",
        fontsize=9.5,
        color=INK,
    )
    if true is not None:
        outside_legend(figure, panels[0])
    return figure


def reward_spread(
    mean: ArrayLike,
    sd: ArrayLike,
    prompt: Sequence[str] | NDArray[Any],
    truth: ArrayLike | None = None,
    *,
    max_prompts: int = 8,
    title: str | None = "Reward of responses, with its spread",
) -> Figure:
    """Plot the reward of responses to prompts with its spread, the best response on the left.

    Rewards are centred within each prompt: only differences between responses to one prompt are
    identified (spec 2.8.1).

    Args:
        mean: E[r] of every response, shape (R,).
        sd: Standard deviation of r, shape (R,).
        prompt: Prompt of every response, shape (R,); the first ``max_prompts`` are shown.
        truth: True reward, shape (R,).
        max_prompts: Number of prompts to show.
        title: Title of the figure.
    """
    centre, spread = np.asarray(mean, dtype=np.float64), np.asarray(sd, dtype=np.float64)
    true = None if truth is None else np.asarray(truth, dtype=np.float64)
    names = np.asarray(prompt)
    shown = list(dict.fromkeys(names.tolist()))[:max_prompts]
    blue, red = series_colour(0), series_colour(1)
    figure = new_figure(max(5.0, 1.2 + 1.1 * len(shown)), 4.2, title)
    axes = figure.subplots()
    start, ticks = 0.0, []
    for number, name in enumerate(shown):
        rows = np.flatnonzero(names == name)
        rows = rows[np.argsort(-centre[rows])]
        x = start + np.arange(len(rows))
        y = centre[rows] - centre[rows].mean()
        axes.vlines(x, y - Z_90 * spread[rows], y + Z_90 * spread[rows], color=blue, linewidth=1)
        axes.vlines(x, y - spread[rows], y + spread[rows], color=blue, linewidth=4, alpha=0.55)
        axes.plot(x, y, "o", color=blue, markersize=5, label="model" if number == 0 else None)
        if true is not None:
            gap = true[rows] - true[rows].mean()
            axes.plot(
                x,
                gap,
                "D",
                color=red,
                markersize=4.5,
                markerfacecolor="white",
                label="truth" if number == 0 else None,
            )
        ticks.append(x.mean())
        start = x[-1] + 2
        if number:
            axes.axvline(x[0] - 1, color=FAINT, linewidth=0.6, linestyle=":")
    axes.axhline(0, color=FAINT, linewidth=0.8)
    axes.set_xticks(ticks, [str(name) for name in shown])
    axes.set_ylabel("reward, centred within the prompt")
    axes.set_xlabel("responses by prompt  (thick: ± 1 sd, thin: 90% interval)")
    bare_axes(axes, grid="y")
    axes.tick_params(axis="x", length=0)
    if true is not None:
        outside_legend(figure, axes)
    return figure
