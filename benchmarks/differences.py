"""Draw differences in log loss from a baseline, with their 90% intervals: a forest plot.

Takes the JSON files of ``llm_heads.py``; rows without a difference, which are those of the
baseline, are left out.

    python benchmarks/differences.py heads.json alone.json --title "..." --out figure.png
"""

import argparse
import json
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from vrm_pyro.atomic import write_file
from vrm_pyro.report.plots.style import FAINT, INK, bare_axes, new_figure, series_colour

ROW_HEIGHT = 0.32


def name(row: dict) -> str:
    """Return what a row of the figure is called: set, labels and config without its settings."""
    config = row["config"].partition(":")[0]
    alone = "supervision=none" in row["config"]
    kind = "preferences alone" if alone else {"ratings": "with ratings"}.get(config, config)
    return f"{row['set']}, {row['labels']} labels, {kind}"


def main() -> None:
    """Draw all rows of the files, in their order from the top."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--title", default=None)
    parser.add_argument("--label", default="log loss minus that of Bradley-Terry (nats)")
    parser.add_argument("--out", required=True, type=Path)
    args = parser.parse_args()
    found = [row for path in args.results for row in json.loads(path.read_text("utf-8"))["rows"]]
    rows = [row for row in found if "difference" in row]
    figure = new_figure(7.5, 1.2 + ROW_HEIGHT * len(rows), args.title)
    axes = figure.subplots()
    for place, row in enumerate(rows):
        low, high = row["limits"]
        colour = series_colour(int("supervision=none" in row["config"]))
        axes.plot([low, high], [place, place], color=colour, linewidth=2)
        axes.plot(row["difference"], place, "o", color=colour, markersize=6)
    axes.axvline(0, color=FAINT, linewidth=1)
    axes.set_yticks(range(len(rows)), [name(row) for row in rows])
    axes.set_ylim(len(rows) - 0.5, -0.5)  # the first at the top
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.set_xlabel(args.label, color=INK)
    bare_axes(axes, "x")
    with write_file(args.out) as partial:
        figure.savefig(partial, format="png")


if __name__ == "__main__":
    main()
