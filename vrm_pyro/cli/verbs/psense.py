"""``vrm-pyro psense``: sensitivity of a posterior to its priors and its outcomes."""

import math
from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import check_outputs
from vrm_pyro.cli.parsing import UsageError, new_parser, parse

PICTURES = (".png", ".pdf", ".svg")


def build_parser() -> ArgumentParser:
    """Return the options of ``psense``."""
    parser = new_parser(
        "psense",
        "Measure power-scaling sensitivity, as ArviZ's psense does: raise the priors, the "
        "likelihood and their parts to powers around 1, and see how fast weights, scores, "
        "rewards and reward differences change, for each prompt. An index above the threshold "
        "(0.05) counts as sensitive. Sensitive to both prior and likelihood: the two conflict, or "
        "are equally informative. Sensitive to the prior only: the outcomes carry little "
        "information. docs/explanation/sensitivity.md says more.",
        examples=[
            "vrm-pyro posterior --model runs/a --data rows.jsonl --draws 1000 --out p.nc",
            "vrm-pyro psense --posterior p.nc --out psense.json --plot psense.png",
        ],
    )
    parser.add_argument(
        "--posterior",
        type=str,
        required=True,
        metavar="FILE",
        help="File that vrm-pyro posterior wrote, preferably with 1000 draws or more.",
    )
    parser.add_argument(
        "--threshold",
        type=float,
        default=0.05,
        help="Index above which a quantity counts as sensitive.",
    )
    parser.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help="JSON file to write: the tables, also by objective, and the index of every item; "
        "an existing file is replaced.",
    )
    parser.add_argument(
        "--plot",
        type=str,
        metavar="FILE",
        help="Figure to write, ending in .png, .pdf or .svg; an existing file is replaced.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parse(build_parser(), argv)
    if not 0 < options.threshold < math.inf:
        raise UsageError(f"--threshold is {options.threshold}, but must be above 0.")
    if options.plot is not None and not options.plot.endswith(PICTURES):
        raise UsageError(f"--plot {options.plot}: give a name that ends in {', '.join(PICTURES)}.")
    check_outputs(options, ("out", "plot"))
    from vrm_pyro.atomic import write_file, write_json
    from vrm_pyro.diagnostics.sensitivity import panels, sensitivity, table
    from vrm_pyro.diagnostics.sensitivity.rendering import report

    found = sensitivity(options.posterior, progress=True)
    if options.out is not None:
        write_json(options.out, report(found, options.posterior, options.threshold), indent=1)
    if options.plot is not None:
        from vrm_pyro.report.plots import sensitivity_intervals

        figure = sensitivity_intervals(panels(found), options.threshold)
        with write_file(options.plot) as partial:
            figure.savefig(partial)
    print(table(found, options.threshold))
    for path in (options.out, options.plot):
        if path is not None:
            print(path)
