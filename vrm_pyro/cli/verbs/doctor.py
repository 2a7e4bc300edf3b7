"""``vrm-pyro doctor``: checks before a training run."""

import shutil
import textwrap
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import new_parser
from vrm_pyro.cli.settings import add_help_all, read_with_options, run_parser, short_help
from vrm_pyro.errors import InputError

if TYPE_CHECKING:
    from vrm_pyro.training.preflight import Check

NAME_WIDTH = 24
ENDINGS = {
    "ok": "All checks passed.",
    "warn": "No check failed, but read the warnings above before you trust a number.",
    "fail": "Fix what failed first: training now would be wasted.",
}


class Failed(InputError):
    """A check failed; the printed table says which one and what to do."""


ABOUT: dict[str, Any] = {
    "description": "Check versions and devices before a run. Given rows, also check labels and "
    "their orientation, what length alone predicts, template and boundary, and whether the model "
    "can memorise 32 pairs. Each check is ok, warn or fail, with advice; the exit code is 2 if "
    "one fails.",
    "examples": ("vrm-pyro doctor", "vrm-pyro doctor --config ratings --data rows.jsonl"),
    "more": "Settings are those of train; --data F means --data.train F. --help_all shows all "
    "settings.",
}


@cache
def build_parser() -> ArgumentParser:
    """Return the options of ``doctor``."""
    return _with_options(run_parser("doctor", **ABOUT))


def _with_options(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument(
        "--max_responses",
        type=int,
        default=600,
        help="Encode a sample of prompts with about this many responses.",
    )
    add_help_all(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Check and print a table.

    Raises:
        Failed: If a check fails.
    """
    if "-h" in argv or "--help" in argv:
        print(short_help(_with_options(new_parser("doctor", **ABOUT))))
        return
    from vrm_pyro.training.preflight import worst
    from vrm_pyro.training.run.doctor import doctor

    settings, options = read_with_options(build_parser(), data_option(argv))
    width = shutil.get_terminal_size((100, 24)).columns
    checks: list[Check] = []
    for check in doctor(settings, max_responses=options.max_responses, progress=True):
        checks.append(check)
        print(row(check, width), flush=True)
    if not settings.data.train:
        print("\nTo check rows and settings too, add --data rows.jsonl --config NAME.")
    elif settings.tuning.method != "frozen":
        print(
            f"\ntuning.method is {settings.tuning.method}; these checks trained the heads "
            "alone, on states of the backbone as it is."
        )
    print(f"\n{ENDINGS[worst(checks)]}", flush=True)
    failed = [check.name for check in checks if check.verdict == "fail"]
    if failed:
        raise Failed(f"{', '.join(failed)} failed; the table says what to do.")


def data_option(argv: Sequence[str]) -> list[str]:
    """Return the arguments with ``--data F`` replaced by ``--data.train F``."""
    return [
        "--data.train" + item.removeprefix("--data")
        if item == "--data" or item.startswith("--data=")
        else item
        for item in argv
    ]


def row(check: "Check", width: int = 100) -> str:
    """Return a check as lines of a table: verdict, name, finding, and what to do below."""
    indent = " " * (NAME_WIDTH + 8)
    body = textwrap.wrap(check.finding, max(width - len(indent), 30))
    if check.advice:
        body += textwrap.wrap(
            check.advice,
            max(width - len(indent), 30),
            initial_indent="-> ",
            subsequent_indent="   ",
        )
    head = f"{check.verdict:<6}{check.name:<{NAME_WIDTH}}  "
    return "\n".join([head + body[0], *(indent + line for line in body[1:])])
