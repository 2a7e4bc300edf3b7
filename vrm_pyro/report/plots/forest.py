"""Forest plot of draws from several sources with ArviZ, readable in grey."""

from collections.abc import Mapping, Sequence

import xarray as xr
from matplotlib.figure import Figure

from vrm_pyro.report.plots.style import COLOURS, DPI, INK, MARKERS

LINES = ("-", "--", ":", "-.")
INTERVALS = (0.5, 0.9)


def draws_forest(
    sources: Mapping[str, xr.DataArray],
    labels: Sequence[str],
    unit: str,
    *,
    title: str | None = None,
    label_share: float = 0.75,
    width: float = 9.0,
) -> Figure:
    """Plot mean, 50% and 90% interval of every item for each source, with ArviZ's plot_forest.

    Args:
        sources: Draws with the dimensions ``chain``, ``draw`` and ``labels``, by name of the
            source; all with equal shapes and coordinates, because ArviZ joins them.
        labels: Dimensions that name a row, the outermost first.
        unit: Label of the horizontal axis.
        title: Title of the figure.
        label_share: Width of the labels relative to the width of the intervals.
        width: Width of the figure in inches.

    Raises:
        ValueError: If there are more sources than line styles, or their shapes
            differ.
    """
    # Imported here: both are slow to import, and the other figures do not need pyplot.
    import arviz_plots as azp
    import matplotlib.pyplot as plt

    if not 1 <= len(sources) <= len(LINES):
        raise ValueError(f"draws_forest: {len(sources)} sources, but it shows 1 to {len(LINES)}.")
    if len({draws.shape for draws in sources.values()}) > 1:
        shapes = ", ".join(str(draws.shape) for draws in sources.values())
        raise ValueError(f"draws_forest: the shapes {shapes} of the sources differ.")
    trees = {
        name: xr.DataTree.from_dict({"posterior": draws.rename("value").to_dataset()})
        for name, draws in sources.items()
    }
    first = next(iter(sources.values()))
    rows = 1
    for dim in labels:
        rows *= first.sizes[dim]
    number = len(sources)
    plot = azp.plot_forest(
        trees,
        combined=True,
        point_estimate="mean",
        labels=list(labels),
        ci_kind="eti",
        ci_probs=INTERVALS,
        backend="matplotlib",
        aes={"color": ["model"], "marker": ["model"], "linestyle": ["model"]},
        color=list(COLOURS[:number]),
        marker=list(MARKERS[:number]),
        linestyle=list(LINES[:number]),
        aes_by_visuals={
            "point_estimate": ["y", "color", "marker", "overlay"],
            "credible_interval": ["y", "color", "linestyle", "overlay"],
        },
        visuals={
            "labels": {"size": 9, "color": INK},
            "ticklabels": {"size": 9},
            "point_estimate": {"size": 22},
        },
        figure_kwargs={
            "figsize": (width, 1.0 + rows * max(0.24, 0.12 * number)),
            "width_ratios": [label_share, 1],
        },
    )
    figure: Figure = plot.viz["figure"].item()
    figure.set_dpi(DPI * 2 / 3)
    axes = figure.axes[-1]
    axes.set_xlabel(f"{unit}  (mean, 50% and 90% interval)", fontsize=9.5, color=INK)
    axes.tick_params(labelsize=9)
    if number > 1:
        plot.add_legend("model", title="")
        for text in (t for legend in figure.legends for t in legend.get_texts()):
            text.set_fontsize(9)
    if title:
        figure.suptitle(title, x=0.02, ha="left", fontsize=12, fontweight="bold", color=INK)
    plt.close(figure)  # ArviZ draws through pyplot, which would show the figure again
    return figure
