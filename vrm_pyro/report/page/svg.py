"""Charts as inline SVG; the page's CSS sets the colours, light or dark."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final, NamedTuple

import numpy as np
from markupsafe import Markup
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike

# In units of the view box; text of size 14 stays readable when a phone shrinks it to 350 px.
WIDTH: Final = 460.0
FONT: Final = 14.0
_TOP: Final = 12.0
_BOTTOM: Final = 48.0

MARKERS: Final = ("circle", "square", "triangle", "diamond")
"""Series differ by marker and by colour, for printing in grey."""


class Scale(NamedTuple):
    """One axis.

    Attributes:
        low: Value at its start; above ``high`` for a reversed axis.
        high: Value at its end.
        label: Label, with the unit.
        text: Formats a tick value.
        ticks: Values of the ticks; round values when omitted.
        names: Labels of ``ticks``, instead of ``text``.
    """

    low: float
    high: float
    label: str
    text: Callable[[float], str] = lambda value: f"{value:g}"
    ticks: tuple[float, ...] | None = None
    names: tuple[str, ...] | None = None

    def marks(self, count: int) -> list[tuple[float, str]]:
        """Return position and label of each tick, about ``count`` of them."""
        values = self.ticks
        if values is None:
            locator = MaxNLocator(count, steps=[1, 2, 2.5, 5, 10])
            values = tuple(float(v) for v in locator.tick_values(self.low, self.high))
        names = self.names or tuple(self.text(value + 0.0) for value in values)
        low, high = sorted((self.low, self.high))
        slack = 1e-9 * (high - low)
        return [
            (value, name)
            for value, name in zip(values, names, strict=True)
            if low - slack <= value <= high + slack
        ]


@dataclass(frozen=True)
class Legend:
    """One entry below a chart.

    Args:
        label: Name of the series.
        kind: ``line``, ``band`` or one of :data:`MARKERS`.
        classes: CSS classes of its shapes.
    """

    label: str
    kind: str
    classes: str

    def sample(self) -> Markup:
        """Return its symbol as a small SVG."""
        if self.kind == "line":
            shape = f'<path class="line {self.classes}" d="M1 8H23"/>'
        elif self.kind == "band":
            shape = f'<rect class="{self.classes}" x="1" y="3" width="22" height="10"/>'
        else:
            shape = _marker(12, 8, self.kind, self.classes, 5)
        return Markup(f'<svg class="key" viewBox="0 0 24 16" aria-hidden="true">{shape}</svg>')


class Chart:
    """A chart with two axes.

    Args:
        x: Horizontal axis.
        y: Vertical axis, upwards.
        title: Name of the chart for screen readers.
        description: One or two sentences with numbers for screen readers.
        height: Height in units of the view box, which is 460 wide.
        left: Space for the labels of the vertical axis.
        grid: ``x``, ``y`` or ``both``.
    """

    def __init__(
        self,
        x: Scale,
        y: Scale,
        title: str,
        description: str,
        *,
        height: float = 320.0,
        left: float = 62.0,
        grid: str = "both",
    ) -> None:
        self.x, self.y = x, y
        self.title, self.description = title, description
        self.height, self.left, self.grid = height, left, grid
        self.right = WIDTH - 26.0  # half of the last tick's label extends beyond the axis
        self._shapes: list[str] = []

    def place(self, x: ArrayLike, y: ArrayLike) -> tuple[Any, Any]:
        """Convert values to units of the view box, without clipping."""
        across = (np.asarray(x, dtype=np.float64) - self.x.low) / (self.x.high - self.x.low)
        up = (np.asarray(y, dtype=np.float64) - self.y.low) / (self.y.high - self.y.low)
        bottom = self.height - _BOTTOM
        return self.left + across * (self.right - self.left), bottom - up * (bottom - _TOP)

    def line(self, x: ArrayLike, y: ArrayLike, classes: str, steps: bool = False) -> None:
        """Draw a line through points; with ``steps``, a step function."""
        self._shapes.append(f'<path class="line {classes}" d="{self._path(x, y, steps)}"/>')

    def band(self, x: ArrayLike, lower: ArrayLike, upper: ArrayLike, classes: str) -> None:
        """Fill between two lines."""
        there = np.concatenate([np.asarray(x), np.asarray(x)[::-1]])
        edge = np.concatenate([np.asarray(lower), np.asarray(upper)[::-1]])
        self._shapes.append(f'<path class="{classes}" d="{self._path(there, edge)}Z"/>')

    def bars(self, edges: ArrayLike, heights: ArrayLike, classes: str) -> None:
        """Draw a histogram."""
        edges = np.asarray(edges, dtype=np.float64)
        for low, high, height in zip(
            edges[:-1], edges[1:], np.asarray(heights).tolist(), strict=True
        ):
            if height > 0:
                self.rectangle(low, high, self.y.low, height, classes)

    def rectangle(self, x0: float, x1: float, y0: float, y1: float, classes: str) -> None:
        """Fill a rectangle between two values of each axis."""
        (a, b), (c, d) = self.place([x0, x1], [y0, y1])
        left, width = min(a, b), abs(b - a)
        self._shapes.append(
            f'<rect class="{classes}" x="{left:.1f}" y="{min(c, d):.1f}" width="{width:.1f}" '
            f'height="{abs(d - c):.1f}"/>'
        )

    def points(
        self, x: ArrayLike, y: ArrayLike, classes: str, marker: str = "circle", size: float = 4
    ) -> None:
        """Draw markers."""
        across, up = self.place(x, y)
        self._shapes += [
            _marker(a, b, marker, classes, size) for a, b in zip(across, up, strict=True)
        ]

    def segments(
        self, x0: ArrayLike, y0: ArrayLike, x1: ArrayLike, y1: ArrayLike, classes: str
    ) -> None:
        """Draw a line segment between each pair of points."""
        (a, b), (c, d) = self.place(x0, y0), self.place(x1, y1)
        path = "".join(
            f"M{p:.1f} {q:.1f}L{r:.1f} {s:.1f}" for p, q, r, s in zip(a, b, c, d, strict=True)
        )
        self._shapes.append(f'<path class="line {classes}" d="{path}"/>')

    def svg(self) -> Markup:
        """Return the SVG element, with title and description for screen readers."""
        inner = "".join([*self._axes(), *self._shapes])
        name = escape(f"{self.title}. {self.description}")
        return Markup(
            f'<svg class="chart" role="img" aria-label="{name}" '
            f'viewBox="0 0 {WIDTH:g} {self.height:g}">{inner}</svg>'
        )

    def _axes(self) -> Iterator[str]:
        bottom = self.height - _BOTTOM
        for value, name in self.x.marks(6):
            a, _ = self.place(value, self.y.low)
            if self.grid in ("x", "both"):
                yield f'<path class="grid" d="M{a:.1f} {_TOP}V{bottom:.1f}"/>'
            yield _text(a, bottom + 18, name, "middle")
        for value, name in self.y.marks(5):
            _, b = self.place(self.x.low, value)
            if self.grid in ("y", "both"):
                yield f'<path class="grid" d="M{self.left:.1f} {b:.1f}H{self.right:.1f}"/>'
            yield _text(self.left - 7, b + 4.5, name, "end")
        yield f'<path class="axis" d="M{self.left:.1f} {_TOP}V{bottom:.1f}H{self.right:.1f}"/>'
        middle = (self.left + self.right) / 2
        yield _text(middle, self.height - 8, self.x.label, "middle", "label")
        if self.y.label:
            turned = (_TOP + bottom) / 2
            yield (
                f'<text class="label" text-anchor="middle" '
                f'transform="translate(15 {turned:.1f}) rotate(-90)">{escape(self.y.label)}</text>'
            )

    def _path(self, x: ArrayLike, y: ArrayLike, steps: bool = False) -> str:
        across, up = self.place(x, y)
        parts: list[str] = []
        for a, b in zip(across.tolist(), up.tolist(), strict=True):
            if steps and parts:
                parts.append(f"H{a:.1f}")
                parts.append(f"V{b:.1f}")
            else:
                parts.append(f"{'L' if parts else 'M'}{a:.1f} {b:.1f}")
        return "".join(parts)


def padded(values: Sequence[float] | Any, share: float = 0.06) -> tuple[float, float]:
    """Return a range that covers all finite values with a margin at both ends."""
    found = np.asarray(values, dtype=np.float64)
    found = found[np.isfinite(found)]
    low, high = (float(found.min()), float(found.max())) if len(found) else (0.0, 1.0)
    room = share * (high - low) or 0.5
    return low - room, high + room


def _text(x: float, y: float, text: str, anchor: str, classes: str = "tick") -> str:
    return (
        f'<text class="{classes}" x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">'
        f"{escape(text)}</text>"
    )


def _marker(x: float, y: float, kind: str, classes: str, size: float) -> str:
    if kind == "circle":
        return f'<circle class="{classes}" cx="{x:.1f}" cy="{y:.1f}" r="{size:g}"/>'
    r = 1.15 * size
    path = {
        "square": f"M{x - 0.9 * size:.1f} {y - 0.9 * size:.1f}h{1.8 * size:.1f}"
        f"v{1.8 * size:.1f}h{-1.8 * size:.1f}Z",
        "triangle": f"M{x:.1f} {y - r:.1f}L{x + r:.1f} {y + 0.8 * r:.1f}H{x - r:.1f}Z",
        "diamond": f"M{x:.1f} {y - 1.1 * r:.1f}L{x + r:.1f} {y:.1f}L{x:.1f} {y + 1.1 * r:.1f}"
        f"L{x - r:.1f} {y:.1f}Z",
    }[kind]
    return f'<path class="{classes}" d="{path}"/>'
