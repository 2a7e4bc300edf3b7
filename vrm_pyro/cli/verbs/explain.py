"""``vrm-pyro explain``: why one response to a prompt is preferred, and what would flip it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.json_output import add_json_options, show
from vrm_pyro.cli.options import (
    MOST_DRAWS,
    SEEDS,
    add_model_options,
    check_numbers,
    check_outputs,
    read_model,
    rows_of,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``explain``."""
    parser = new_parser(
        "explain",
        "Explain why a model prefers one response to a prompt: weights and scores with "
        "intervals, the contribution of each objective to the difference, the probability that "
        "each response is the best, and the smallest change of weights or of a score that would "
        "make another response win.",
        examples=(
            "vrm-pyro explain --model runs/first --prompt 'What is 2 + 2?' --response 4 "
            "--response 'It is 5.'",
            "vrm-pyro explain --model runs/first --prompt @prompt.json --response @a.txt "
            "--response @b.txt --json",
            "vrm-pyro explain --model runs/first --data test.jsonl --id row-17",
        ),
        more="A prompt is text or JSON messages. @FILE reads either from a file; @@ begins a text "
        "with @. A response is text or @FILE. A value that begins with a dash is given as "
        "--response=-5.",
    )
    parser.add_argument("--prompt", type=str, metavar="TEXT", help="The prompt.")
    parser.add_argument(
        "--response",
        type=str,
        action="append",
        metavar="TEXT",
        help="A response; give this option at least twice.",
    )
    parser.add_argument(
        "--id", type=str, metavar="ID", help="The row of --data to explain, by its id."
    )
    add_model_options(parser, data_required=False)
    parser.add_argument(
        "--interval", type=float, default=0.9, help="Probability that an interval covers."
    )
    parser.add_argument(
        "--draws", type=int, default=4000, help="Joint draws behind intervals and P(best)."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the draws.")
    add_json_options(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Explain one decision, print it and write JSON."""
    options = parse(build_parser(), argv)
    check_options(options)
    from vrm_pyro.prediction.explanation.explain import explain, explain_row, explained_model

    loaded, _ = explained_model(read_model(options))
    settings: dict[str, Any] = {
        "level": options.interval,
        "num_draws": options.draws,
        "seed": options.seed,
        "device": options.device,
        "dtype": options.dtype,
    }
    if options.data is None:
        prompt, responses = read_prompt(options.prompt), read_responses(options.response)
        found = explain(loaded, prompt, responses, **settings)
    else:
        reading = {"skip_invalid": options.skip_invalid, "split": options.split}
        found = explain_row(loaded, rows_of(options), options.id, **reading, **settings)
    show(options, {"model": str(options.model), **found.to_json()}, lambda: str(found))


def check_options(options: Namespace) -> None:
    """Raise UsageError unless either texts or a row are given and all numbers are in range."""
    given = options.prompt is not None or options.response is not None
    if given == (options.data is not None):
        raise UsageError(
            "say what to explain: --prompt with two --response or more, or --data with --id."
        )
    if given and options.id is not None:
        raise UsageError("--id names a row of --data; leave it out beside --prompt.")
    if given and options.prompt is None:
        raise UsageError("--response needs the --prompt that it answers.")
    if given and len(options.response or []) < 2:
        raise UsageError(
            f"{len(options.response or [])} --response: a reward has no zero, only differences "
            "between responses to one prompt mean something. Give two or more."
        )
    if not given and options.id is None:
        raise UsageError("--data needs --id: which row to explain, by its id.")
    if not 0 < options.interval < 1:
        raise UsageError(f"--interval is {options.interval:g}, but must be between 0 and 1.")
    check_numbers(options, draws=(100, MOST_DRAWS), seed=SEEDS)
    check_outputs(options)


def read_responses(values: Sequence[str]) -> list[str]:
    """Return the responses that options give as texts or as files.

    Raises:
        UsageError: If a file cannot be read, or a response is not text.
    """
    from vrm_pyro.data.problem import RowProblem
    from vrm_pyro.data.rows.conversation import check_text

    found = []
    for i, value in enumerate(values, start=1):
        try:
            found.append(check_text(_content(value, "--response"), "response"))
        except RowProblem as problem:
            raise UsageError(f"--response {i}: {problem}") from None
    return found


def read_prompt(value: str) -> list[dict[str, str]]:
    """Return the prompt that an option gives as text, as JSON messages, or as a file of either.

    Raises:
        UsageError: If the file cannot be read, or the messages are not a prompt.
    """
    from vrm_pyro.data.problem import RowProblem
    from vrm_pyro.data.rows.conversation import check_prompt

    text = _content(value, "--prompt")
    parsed: Any = None
    if text.lstrip().startswith("["):
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None  # text that begins with a bracket
    # A list of anything but objects is text, too.
    holds_messages = isinstance(parsed, list) and any(isinstance(m, dict) for m in parsed)
    try:
        return check_prompt(parsed if holds_messages else text)
    except RowProblem as problem:
        raise UsageError(f"--prompt: {problem}") from None


def _content(value: str, option: str) -> str:
    if value.startswith("@@"):
        return value[1:]
    if not value.startswith("@"):
        return value
    try:
        path = Path(value[1:]).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UsageError(f"{option} {value}: {error}") from error
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(
            f"{option} {value}: cannot read the file ({reason}). A text that begins with @ is "
            "written with @@."
        ) from error
