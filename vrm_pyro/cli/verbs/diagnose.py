"""``vrm-pyro diagnose``: what is wrong with a model on some rows, and what to try."""

import copy
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import write_json
from vrm_pyro.cli.options import (
    add_model_options,
    add_output_option,
    check_out,
    read_inputs,
    read_model,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.checks import DIAGNOSTICS, CheckInputs, Rows, diagnose, log_scores
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding
from vrm_pyro.errors import did_you_mean
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.predict import predict

NUM_PROMPTS: Final = 200
NUM_DRAWS: Final = 1000
WIDTH: Final = 100


def build_parser() -> ArgumentParser:
    """Return the options of ``diagnose``."""
    listed = ", ".join(DIAGNOSTICS)
    parser = new_parser(
        "diagnose",
        "Look for what is wrong: with predictions (calibration, subsets, length), with weights "
        "and features (collapse, identification), with the guide (k-hat, gaps, simulated truth), "
        "with the prior, and with rows unlike the training rows. Each alarm is a test at level "
        "1%; those that do not apply say why. Rows that were not trained on are needed. "
        f"docs/explanation/diagnostics.md says more. Diagnostics: {listed}.",
        examples=[
            "vrm-pyro diagnose --model runs/a --data test.jsonl --out diagnosis.json",
            "vrm-pyro diagnose --model runs/a --data test.jsonl --out d.json --only [loo] "
            "--against [runs/b]",
        ],
    )
    add_model_options(parser)
    add_output_option(parser, "JSON file to write")
    parser.add_argument(
        "--only",
        type=str | list[str],
        metavar="NAMES",
        help="Diagnostics to run: one, or a list such as '[khat, gaps]'; all if omitted.",
    )
    parser.add_argument(
        "--against",
        type=str | list[str],
        metavar="DIRS",
        help="Other models to compare with by log predictive density (loo).",
    )
    parser.add_argument(
        "--reference",
        type=str | list[str],
        metavar="ROWS",
        help="Training rows, for shift; without them subsets are compared with each other.",
    )
    parser.add_argument(
        "--prompts",
        type=int,
        default=NUM_PROMPTS,
        help="Prompts drawn at random for what is costly: draws, simulation, refinement.",
    )
    parser.add_argument(
        "--draws", type=int, default=NUM_DRAWS, help="Draws of each of these prompts."
    )
    parser.add_argument("--seed", type=int, default=0, help="Fixes everything that is drawn.")
    return parser


def run(argv: Sequence[str]) -> None:
    """Diagnose, write, print."""
    options = parse(build_parser(), argv)
    check_out(options.out)
    names = chosen(options.only)
    for option in ("prompts", "draws"):
        if getattr(options, option) < 1:
            raise UsageError(f"--{option} is {getattr(options, option)}, but must be at least 1.")
    loaded = read_model(options)
    inputs = read_inputs(options, loaded)
    check_inputs = gather(options, loaded, inputs)
    found = diagnose(check_inputs, names, progress=True)
    content = {
        "model": str(options.model),
        "level": LEVEL,
        "num_prompts": check_inputs.rows.num_prompts,
        "num_prompts_of_costly": check_inputs.some.num_prompts,
        "draws": options.draws,
        "seed": options.seed,
        "alarms": [name for name, finding in found.items() if finding.alarm],
        "findings": [entry(name, finding) for name, finding in found.items()],
    }
    write_json(options.out, content, indent=1)
    print(summary(found, check_inputs))
    print(options.out)


def chosen(only: str | list[str] | None) -> list[str]:
    """Return the names of the diagnostics to run.

    Raises:
        UsageError: For a name that is none.
    """
    names = list(DIAGNOSTICS) if only is None else [only] if isinstance(only, str) else only
    for name in names:
        if name not in DIAGNOSTICS:
            raise UsageError(
                f"--only: no diagnostic {name!r}{did_you_mean(name, DIAGNOSTICS)} Choose from "
                f"{', '.join(DIAGNOSTICS)}."
            )
    return names


def gather(options: Namespace, loaded: LoadedModel, inputs: Inputs) -> CheckInputs:
    """Return a model and rows with reference rows and other models' scores."""
    reference = None
    if options.reference is not None:
        other = copy.deepcopy(options)
        other.data = options.reference
        reference = _check_inputs(options, loaded, read_inputs(other, loaded))
    check_inputs = _check_inputs(options, loaded, inputs)
    check_inputs.reference = reference
    against = options.against or []
    check_inputs.others = {
        directory: _other_scores(options, directory, inputs)
        for directory in ([against] if isinstance(against, str) else against)
    }
    return check_inputs


def _check_inputs(options: Namespace, loaded: LoadedModel, inputs: Inputs) -> CheckInputs:
    size = inputs.table.num_prompts
    order = np.random.default_rng(options.seed).permutation(size)
    some = inputs.select(np.sort(order[: options.prompts]))
    return CheckInputs(
        loaded, rows_of(loaded, inputs), rows_of(loaded, some), options.draws, options.seed
    )


def rows_of(loaded: LoadedModel, inputs: Inputs) -> Rows:
    """Return rows with the ratings that the model was trained on, if any."""
    objectives = loaded.objectives if loaded.rated else ()
    return Rows(
        with_objectives(inputs.source, objectives),
        inputs.table.pair_subset,
        np.array([len(text) for text in inputs.table.responses], dtype=np.int64),
    )


def _other_scores(options: Namespace, directory: str, inputs: Inputs) -> Any:
    """Return the log scores of another model on the same rows, from its own states."""
    settings = copy.deepcopy(options)
    settings.model, settings.backbone = directory, None
    other = read_model(settings)
    states = read_inputs(settings, other)
    if states.table.num_prompts != inputs.table.num_prompts:
        raise UsageError(f"--against {directory}: reads other prompts from the rows.")
    rows = rows_of(other, states)
    return log_scores(other, rows.source, predict(other.model, rows.source).p_first, options.seed)


def entry(name: str, finding: Finding) -> dict[str, Any]:
    """Return a finding with its question, as the file holds it."""
    known = DIAGNOSTICS[name]
    return {
        **finding.to_json(),
        "question": known.question,
        "group": known.group,
        "on_some_prompts": known.costly,
    }


def summary(found: Mapping[str, Finding], check_inputs: CheckInputs) -> str:
    """Return what stdout shows: alarms first, with what to try; then the rest in a line each."""
    alarms = {name: f for name, f in found.items() if f.alarm}
    quiet = {name: f for name, f in found.items() if f.applies and not f.alarm}
    silent = {name: f for name, f in found.items() if not f.applies}
    some, size = check_inputs.some.num_prompts, check_inputs.rows.num_prompts
    lines = [
        f"{len(alarms)} of {len(found)} diagnostics raise an alarm (each a test at level "
        f"{LEVEL:.0%}); {size} prompts" + (f", those marked * on {some} of them" * (some < size))
    ]
    for title, group in (
        ("ALARM", alarms),
        ("no alarm", quiet),
        ("does not apply", silent),
    ):
        if group:
            lines += ["", f"{title}:"]
        for name, finding in group.items():
            star = "*" if DIAGNOSTICS[name].costly and some < size else " "
            verdict = finding.verdict.removeprefix("does not apply: ")
            lines += _wrapped(f"{star} {name:<12}", verdict)
            if finding.alarm:
                lines += _wrapped(" " * 14, f"-> {finding.advice}")
    return "\n".join(lines)


def _wrapped(head: str, text: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head + " ", subsequent_indent=" " * (len(head) + 1)
    )
