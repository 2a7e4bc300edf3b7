"""``vrm-pyro psense``: how much a posterior depends on its priors and on its outcomes."""

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from jsonargparse import ArgumentParser
from numpy.typing import ArrayLike

from vrm_pyro import names as sites
from vrm_pyro.atomic import write_file, write_json
from vrm_pyro.cli.options import check_out
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.diagnostics.metrics.power_scaling import ALPHAS, khat_limit
from vrm_pyro.diagnostics.sensitivity.measure import (
    COMPONENT_DIM,
    LIKELIHOOD,
    PRIOR,
    Sensitivity,
    sensitivity,
)
from vrm_pyro.diagnostics.sensitivity.summary import (
    CONFLICT,
    NOTHING,
    STRONG_PRIOR,
    THRESHOLD,
    UNRELIABLE,
    ComponentRow,
    DiagnosisRow,
    component_rows,
    diagnosis_rows,
    draws_needed,
    reliable,
)
from vrm_pyro.errors import InputError
from vrm_pyro.report.plots import sensitivity_intervals

PICTURES = (".png", ".pdf", ".svg")
TITLES = {
    sites.WEIGHTS: "weights w",
    sites.SCORES: "scores s",
    sites.REWARD: "reward r",
    sites.DELTA: "difference Δ",
}


def build_parser() -> ArgumentParser:
    """Return the options of ``psense``."""
    parser = new_parser(
        "psense",
        "Raise the priors, the likelihood, and parts of them, to powers around 1 and measure how "
        "fast weights, scores, rewards and reward differences move, prompt by prompt "
        "(power-scaling, as in ArviZ's psense). Above the threshold of .05 a quantity counts as "
        "sensitive. Sensitive to the prior and the likelihood: the two disagree, or know equally "
        "much. To the prior alone: the outcomes say little. "
        "docs/explanation/sensitivity.md says more.",
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
        help="What vrm-pyro posterior wrote; 1000 draws or more are advised.",
    )
    parser.add_argument(
        "--threshold", type=float, default=THRESHOLD, help="Index that counts as sensitive."
    )
    parser.add_argument(
        "--out",
        type=str,
        metavar="FILE",
        help="JSON file to write: the tables, also by objective, and the index of every item; "
        "one that is there is replaced.",
    )
    parser.add_argument(
        "--plot",
        type=str,
        metavar="FILE",
        help="Figure to write, ending in .png, .pdf or .svg; one that is there is replaced.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Measure, print, write."""
    options = parse(build_parser(), argv)
    check_out(options.out)
    if not 0 < options.threshold < math.inf:
        raise UsageError(f"--threshold is {options.threshold}, but must be above 0.")
    if options.plot is not None and not options.plot.endswith(PICTURES):
        raise UsageError(f"--plot {options.plot}: give a name that ends in {', '.join(PICTURES)}.")
    with open_posterior(options.posterior) as tree:
        try:
            found = sensitivity(tree, progress=True)
        except InputError as error:
            raise InputError(f"{options.posterior}: {error}") from error
    components = component_rows(found, options.threshold)
    diagnoses = diagnosis_rows(found, options.threshold)
    if options.out is not None:
        content = report(found, components, diagnoses, options.posterior, options.threshold)
        write_json(options.out, content, indent=1)
    if options.plot is not None:
        figure = sensitivity_intervals(panels(found), options.threshold)
        with write_file(options.plot) as partial:
            figure.savefig(partial)
    print(table(found, components, diagnoses, options.threshold))
    for path in (options.out, options.plot):
        if path is not None:
            print(path)


@contextmanager
def open_posterior(path: str) -> Iterator[xr.DataTree]:
    """Open a posterior file without reading its arrays.

    Raises:
        InputError: If there is no such file, or it is no netCDF file.
    """
    if not Path(path).is_file():
        raise InputError(f"--posterior {path}: no such file. Give what vrm-pyro posterior wrote.")
    try:
        tree = xr.open_datatree(path, engine="netcdf4")
    except (OSError, ValueError) as error:
        raise InputError(
            f"--posterior {path}: is not a netCDF file ({error}). Give what vrm-pyro posterior "
            "wrote."
        ) from error
    with tree:
        yield tree


def table(
    found: Sensitivity,
    components: Sequence[ComponentRow],
    diagnoses: Sequence[DiagnosisRow],
    threshold: float,
) -> str:
    """Return what stdout shows: components, then diagnoses, over all objectives."""
    limit = khat_limit(found.num_draws)
    lines = [
        f"power-scaling of {found.khat.sizes[sites.PROMPT_DIM]} prompts, {found.num_draws} draws; "
        f"sensitive from {threshold:g}, unreliable where k-hat is above {limit:.2f}",
        "",
        f"{'':<6} {'component':<15}{'median':>8}{'q90':>8}{'noise':>8}{'flagged':>9}"
        f"{'unreliable':>12}  verdict",
    ]
    last = None
    for row in components:
        if row.objective is not None:
            continue
        shown = "" if row.quantity == last else row.quantity
        last = row.quantity
        lines.append(
            f"{shown:<6} {row.component:<15}{_number(row.median):>8}{_number(row.q90):>8}"
            f"{_number(row.noise):>8}{_share(row.flagged):>9}{_share(row.unreliable):>12}"
            f"  {row.verdict}"
        )
    lines += ["", f"{'':<6} {CONFLICT:>20}{STRONG_PRIOR:>32}{NOTHING:>7}{'items':>8}"]
    lines += [
        f"{row.quantity:<6} {_share(row.conflict):>20}{_share(row.strong_prior):>32}"
        f"{_share(row.nothing):>7}{row.items:>8}"
        for row in diagnoses
        if row.objective is None
    ]
    lines += ["", f"{CONFLICT}: the two disagree, or know about equally much."]
    if any(row.verdict == UNRELIABLE for row in components):
        lines.append(
            "unreliable: the guide's draws do not cover the posterior of many prompts; draw "
            "more, or train the guide longer."
        )
    needed = draws_needed(found, threshold)
    if needed is not None:
        lines += [
            f"With {found.num_draws} draws, noise alone reaches the threshold in some rows: draw "
            f"the posterior again with --draws {needed}.",
        ]
    return "\n".join(lines)


def report(
    found: Sensitivity,
    components: Sequence[ComponentRow],
    diagnoses: Sequence[DiagnosisRow],
    posterior: str,
    threshold: float,
) -> dict[str, Any]:
    """Return the content of the JSON file; null where something is not known."""
    names = [str(name) for name in found.index[COMPONENT_DIM].values]
    items: dict[str, Any] = {}
    for quantity, array in found.index.data_vars.items():
        dims = [str(dim) for dim in array.dims[1:]]
        items[str(quantity)] = {
            "dims": dims,
            **{dim: array[dim].values.tolist() for dim in dims if dim in array.coords},
            "prompt_position": found.prompt[str(quantity)].tolist(),
            "index": dict(zip(names, _plain(array.values), strict=True)),
        }
    return {
        "posterior": posterior,
        "num_draws": found.num_draws,
        "num_prompts": found.khat.sizes[sites.PROMPT_DIM],
        "powers": list(ALPHAS),
        "threshold": threshold,
        "khat_limit": khat_limit(found.num_draws),
        "components": [row._asdict() for row in components],
        "diagnoses": [row._asdict() for row in diagnoses],
        "khat": dict(zip(names, _plain(found.khat.values), strict=True)),
        "items": items,
    }


def panels(found: Sensitivity) -> dict[str, dict[str, dict[str, ArrayLike]]]:
    """Return what the figure shows: reliable indices of prior and likelihood, by objective."""
    kept = found.index.where(reliable(found))
    made: dict[str, dict[str, dict[str, ArrayLike]]] = {}
    for name, array in kept.data_vars.items():
        title = TITLES[str(name)]
        if sites.OBJECTIVE_DIM in array.dims:
            made[title] = {
                str(objective): _series(array.sel({sites.OBJECTIVE_DIM: objective}))
                for objective in array[sites.OBJECTIVE_DIM].values
            }
        else:
            made.setdefault("rewards", {})[title] = _series(array)
    return made


def _series(array: xr.DataArray) -> dict[str, ArrayLike]:
    return {name: array.sel({COMPONENT_DIM: name}).values for name in (PRIOR, LIKELIHOOD)}


def _plain(values: Any) -> Any:
    """Return nested lists of numbers, null where they are not finite."""
    return np.where(np.isfinite(values), values, np.array(None)).tolist()


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


def _share(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.0%}"
