"""Style of figures: colours, sizes and axes, without pyplot state."""

from typing import Final, Literal

from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Okabe-Ito colours, safe for colour-blind readers, ordered so that the first series contrast
# most. Markers differ too, for printing in grey.
COLOURS: Final = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS: Final = ("o", "s", "^", "D", "v", "P")
INK: Final = "#333333"
FAINT: Final = "#9A9A9A"
GRID: Final = "#E6E6E6"
DPI: Final = 150


def new_figure(width: float, height: float, title: str | None = None) -> Figure:
    """Return an empty figure of a size in inches, with a left-aligned title."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout="constrained", facecolor="white")
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    return figure


def series_colour(index: int) -> str:
    """Return the colour of a series; colours repeat after six."""
    return COLOURS[index % len(COLOURS)]


def series_marker(index: int) -> str:
    """Return the marker of a series; with its colour they repeat after thirty-six."""
    return MARKERS[(index + index // len(COLOURS)) % len(MARKERS)]


def bare_axes(axes: Axes, grid: str = "both") -> None:
    """Keep only the left and bottom spine, with a faint grid behind the data.

    Args:
        axes: The axes to style.
        grid: ``x``, ``y`` or ``both``.
    """
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(FAINT)
    axes.tick_params(colors=INK, labelsize=9, length=3)
    axes.xaxis.label.set(color=INK, fontsize=10)
    axes.yaxis.label.set(color=INK, fontsize=10)
    axes.set_axisbelow(True)
    axes.grid(axis=grid, color=GRID, linewidth=0.8)  # type: ignore[arg-type]


def panel_title(axes: Axes, text: str, loc: Literal["left", "right"] = "left") -> None:
    """Write a title above one panel."""
    axes.set_title(text, loc=loc, fontsize=10, color=INK)


def outside_legend(
    figure: Figure, axes: Axes, place: str = "upper right", handle_length: float | None = None
) -> None:
    """Draw the legend of one panel outside all panels, so that it hides no data.

    Args:
        figure: The figure.
        axes: The panel whose series are listed.
        place: ``upper right``, or ``lower center`` if the title leaves no space above.
        handle_length: Length of a line sample, in font sizes; matplotlib's default if omitted.
    """
    handles, labels = axes.get_legend_handles_labels()
    inches = 0.07 * max(map(len, labels), default=0) + 0.25 * (handle_length or 2) / 2 + 0.3
    columns = max(1, min(len(labels), int(figure.get_figwidth() / inches)))
    figure.legend(
        handles,
        labels,
        loc=f"outside {place}",
        ncols=-(-len(labels) // -(-len(labels) // columns)),  # rows of about equal length
        frameon=False,
        fontsize=9,
        labelcolor=INK,
        handlelength=handle_length,
    )
