"""Charts of the report as SVG with legend and caption, from plain arrays."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from vrm_pyro.diagnostics.metrics.reliability import Reliability
from vrm_pyro.diagnostics.metrics.selective import SelectiveAccuracy
from vrm_pyro.report.page.svg import MARKERS, Chart, Legend, Scale, padded

Floats = NDArray[np.float64]

# Kinds of prompts with a separate colour in the map; others share one.
MAP_KINDS: Final = 5
# Points in a map: 2,000 take 100 kB.
MAP_POINTS: Final = 2000
QUANTILES: Final = 5


@dataclass(frozen=True)
class Picture:
    """A chart as the page shows it.

    Args:
        svg: The chart.
        caption: One or two sentences about what it shows.
        legend: Entries of its legend.
        heading: Its heading, if charts are shown side by side.
    """

    svg: Markup
    caption: str = ""
    legend: tuple[Legend, ...] = ()
    heading: str = ""


def percent(value: float) -> str:
    """Format a share as a percentage for a tick label."""
    return f"{100 * value:.3g}%"


def reliability_chart(models: Mapping[str, Reliability]) -> Picture:
    """Plot the share of correctly predicted pairs against confidence, for up to three models."""
    ends = [np.concatenate([r.lower, r.upper]) for r in models.values()]
    # Beyond the last bin there are few pairs, and the isotonic fit runs to 1.
    reach = max(float(r.bin_confidence[-1]) for r in models.values())
    reach = min(1.0, float(np.ceil(20 * (reach + 0.02))) / 20)
    seen = np.append(np.concatenate(ends), 0.5)
    low, high = float(seen.min()), float(seen.max())
    floor = float(np.floor(20 * low)) / 20
    top = min(1.0, float(np.ceil(20 * max(high, reach))) / 20)
    numbers = "; ".join(
        f"{name}: confidence {r.bin_confidence[0]:.0%} to {r.bin_confidence[-1]:.0%}, right "
        f"{r.share[0]:.0%} to {r.share[-1]:.0%}"
        for name, r in models.items()
    )
    chart = Chart(
        Scale(0.5, reach, "confidence max(p, 1 − p)", percent),
        Scale(floor, top, "pairs predicted right", percent),
        "Reliability",
        f"From the lowest to the highest of ten bins: {numbers}.",
        height=340,
    )
    chart.line([0.5, reach], [0.5, reach], "ideal")
    legend = [Legend("calibrated", "line", "ideal")]
    for i, (name, found) in enumerate(models.items()):
        near = found.confidence <= reach
        across = np.append(found.confidence[near], min(reach, found.confidence[-1]))
        shown = np.clip(found.fit[near], floor, top)
        chart.line(across, np.append(shown, shown[-1]), f"s{i} thin", steps=True)
        x = found.bin_confidence
        chart.segments(x, found.lower, x, found.upper, f"s{i}")
        chart.points(x, found.share, f"dot s{i}", MARKERS[i], 5)
        legend.append(Legend(name, MARKERS[i], f"dot s{i}"))
    return Picture(
        chart.svg(),
        "Markers: ten bins of equal weight with 90% intervals over prompts. Lines: isotonic fit "
        "over all pairs. Below the diagonal a model is overconfident.",
        tuple(legend),
    )


def selective_chart(models: Mapping[str, SelectiveAccuracy]) -> Picture:
    """Plot accuracy on the most confident share of the pairs."""
    ends = np.concatenate(
        [np.concatenate([f.accuracy, f.lower, f.upper]) for f in models.values()]
    )
    low, high = padded(ends)
    text = "; ".join(
        f"{name}: {f.accuracy[-1]:.0%} on all pairs, {f.accuracy[0]:.0%} on the surest "
        f"{f.coverage[0]:.0%}"
        for name, f in models.items()
    )
    chart = Chart(
        Scale(0.0, 1.0, "share of pairs answered, surest first", percent),
        Scale(max(low, 0.0), min(high, 1.0), "accuracy on them", percent),
        "Selective accuracy",
        f"{text}.",
    )
    legend = []
    for i, (name, found) in enumerate(models.items()):
        if np.isfinite(found.lower).all():
            chart.band(found.coverage, found.lower, found.upper, f"area s{i}")
        chart.line(found.coverage, found.accuracy, f"s{i}")
        some = np.arange(i, len(found.coverage), 4)
        chart.points(found.coverage[some], found.accuracy[some], f"dot s{i}", MARKERS[i])
        legend.append(Legend(name, MARKERS[i], f"dot s{i}"))
    return Picture(
        chart.svg(),
        "Bands: 90% intervals over prompts. A curve that falls to the right means that the model "
        "is less often right where it is less sure.",
        tuple(legend),
    )


class KindWeights(NamedTuple):
    """Weights of the prompts of one kind.

    Attributes:
        name: Name of the kind.
        num_prompts: Number of its prompts.
        mean: Mean over prompts of E[w], shape (K,).
        low: 10% quantile of E[w] over prompts, (K,).
        high: 90% quantile, (K,).
        spread: Root mean square of the posterior sd of a single prompt, (K,).
        error: Standard error of the weights given the labels, (K,); may be infinite.
    """

    name: str
    num_prompts: int
    mean: Floats
    low: Floats
    high: Floats
    spread: Floats
    error: Floats


def weights_charts(kinds: Sequence[KindWeights], objectives: Sequence[str]) -> list[Picture]:
    """Plot the weights of each kind of prompt on a common axis."""
    reach = [max(float((k.mean + k.spread).max()), float(k.high.max())) for k in kinds]
    limit = min(1.0, 1.05 * max(*reach, 1.3 / len(objectives)))
    return [_weights_chart(kind, objectives, limit) for kind in kinds]


def _weights_chart(found: KindWeights, objectives: Sequence[str], limit: float) -> Picture:
    size, mean = len(objectives), found.mean
    y = np.arange(size, dtype=np.float64)
    named = ", ".join(f"{o} {m:.2f}" for o, m in zip(objectives, mean, strict=True))
    chart = Chart(
        Scale(0.0, limit, "weight (share of all objectives)"),
        Scale(size - 0.5, -0.5, "", ticks=tuple(y.tolist()), names=tuple(map(_short, objectives))),
        f"Weights, {found.name}",
        f"Mean weights: {named}.",
        height=70.0 + 30.0 * size,
        left=min(24.0 + 7.4 * max(len(_short(o)) for o in objectives), 190.0),
        grid="x",
    )
    chart.segments([1 / size], [-0.5], [1 / size], [size - 0.5], "ideal")
    low, high = np.clip([mean - found.spread, mean + found.spread], 0, limit)
    chart.segments(low, y - 0.12, high, y - 0.12, "s0")
    chart.segments(found.low, y - 0.12, found.high, y - 0.12, "s0 thick")
    chart.points(mean, y - 0.12, "dot s0", "circle", 5)
    low, high = np.clip([mean - found.error, mean + found.error], 0, limit)
    chart.segments(low, y + 0.25, high, y + 0.25, "s1 dashed")
    return Picture(
        chart.svg(),
        legend=(
            Legend("mean, 10–90% of prompts (thick), ± 1 posterior sd (thin)", "circle", "dot s0"),
            Legend("± 1 standard error that the labels identify", "line", "s1 dashed"),
            Legend("equal weights", "line", "ideal"),
        ),
        heading=f"{found.name} ({found.num_prompts:,} prompt{'s' * (found.num_prompts != 1)})",
    )


def map_charts(
    place: Floats, explained: tuple[float, float], kind: Sequence[str], reward: Floats
) -> list[Picture]:
    """Plot two principal components of E[z], coloured by kind of prompt and by reward.

    Args:
        place: Coordinates of the responses, (R, 2).
        explained: Shares of variance of both components.
        kind: Kind of prompt of each response, (R,).
        reward: Expected reward minus the prompt's mean, (R,).
    """
    rng = np.random.default_rng(0)
    rows = np.arange(len(place))
    if len(rows) > MAP_POINTS:
        rows = rng.choice(rows, MAP_POINTS, replace=False)
    rows = rng.permutation(rows)  # random order, so that no kind hides the others
    names, counts = np.unique(np.asarray(kind)[rows], return_counts=True)
    largest = [str(n) for n in names[np.argsort(-counts, kind="stable")][:MAP_KINDS]]
    by_kind = _map(place, explained, f"by kind of prompt: {', '.join(largest)}")
    series = {name: i for i, name in enumerate(largest)}
    there = place[rows]
    for row, point in zip(rows.tolist(), there, strict=True):
        i = series.get(str(kind[row]))
        classes = "pale other" if i is None else f"pale s{i}"
        marker = MARKERS[(i or 0) % len(MARKERS)]
        by_kind.points(point[:1], point[1:], classes, marker, 3)
    legend = [Legend(name, MARKERS[i % len(MARKERS)], f"pale s{i}") for name, i in series.items()]
    if len(names) > len(largest):
        legend.append(Legend(f"{len(names) - len(largest)} others", "circle", "pale other"))
    level = np.searchsorted(
        np.quantile(reward, np.arange(1, QUANTILES) / QUANTILES), reward, side="right"
    )
    by_reward = _map(place, explained, "by reward within the prompt, in fifths")
    for row in rows.tolist():
        by_reward.points(place[row, :1], place[row, 1:], f"pale q{level[row]}", "circle", 3)
    fifths = ("lowest fifth", "", "middle", "", "highest fifth")
    return [
        Picture(by_kind.svg(), legend=tuple(legend), heading="By kind of prompt"),
        Picture(
            by_reward.svg(),
            legend=tuple(
                Legend(text, "circle", f"pale q{i}") for i, text in enumerate(fifths) if text
            ),
            heading="By reward above the prompt's mean",
        ),
    ]


def _map(place: Floats, explained: tuple[float, float], what: str) -> Chart:
    (x0, x1), (y0, y1) = padded(place[:, 0]), padded(place[:, 1])
    return Chart(
        Scale(x0, x1, f"first component ({explained[0]:.0%} of the variance)"),
        Scale(y0, y1, f"second ({explained[1]:.0%})"),
        "Map of features",
        f"Expected features of responses on two principal components, {what}.",
    )


def histogram(
    values: Floats,
    label: str,
    title: str,
    *,
    unit: str = "share of prompts",
    heading: str = "",
    limit: tuple[float, str] | None = None,
) -> Picture:
    """Plot a histogram with the median and, optionally, a marked limit.

    Args:
        values: Finite numbers.
        label: Label of the axis, with the unit.
        title: Name of the chart.
        unit: Label of the heights.
        heading: Heading, if charts are shown side by side.
        limit: A value to mark, and its name.
    """
    reach = np.append(values, limit[0]) if limit else values
    low, high = float(reach.min()), float(reach.max())
    low = 0.0 if 0 <= low < 0.3 * high else low
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high + 1e-9 * (high - low), 25)
    share = np.histogram(values, edges)[0] / len(values)
    top = 1.08 * float(share.max())
    median = float(np.median(values))
    chart = Chart(
        Scale(low, high, label),
        Scale(0.0, top, unit, percent),
        title,
        f"Median {median:.3g}, from {values.min():.3g} to {values.max():.3g}.",
        height=260,
        grid="y",
    )
    chart.bars(edges, share, "fill s0")
    chart.segments([median], [0], [median], [top], "ink")
    legend = [Legend(f"median {median:.3g}", "line", "ink")]
    if limit:
        chart.segments([limit[0]], [0], [limit[0]], [top], "s1 dashed")
        legend.append(Legend(limit[1], "line", "s1 dashed"))
    return Picture(chart.svg(), legend=tuple(legend), heading=heading)


def projection(features: Floats) -> tuple[Floats, tuple[float, float]]:
    """Return the first two principal components of rows, (R, 2), and their shares of variance.

    With a single feature the second one is 0. The sign is fixed: the largest loading of each is
    positive.
    """
    centred = features - features.mean(0)
    _, values, vectors = np.linalg.svd(centred, full_matrices=False)
    vectors = (
        vectors * np.sign(vectors[np.arange(len(vectors)), np.abs(vectors).argmax(1)])[:, None]
    )
    total = float((values**2).sum()) or 1.0
    place: Any = np.zeros((len(features), 2))
    share = [0.0, 0.0]
    for i in range(min(2, len(values))):
        place[:, i] = centred @ vectors[i]
        share[i] = float(values[i] ** 2) / total
    return place, (share[0], share[1])


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:20]}…"
