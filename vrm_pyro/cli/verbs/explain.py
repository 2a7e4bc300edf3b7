"""``vrm-pyro explain``: why one response to a prompt is preferred, and what would flip it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
from jsonargparse import ArgumentParser, Namespace
from numpy.typing import NDArray

from vrm_pyro.cli.json_output import add_json_options, show
from vrm_pyro.cli.options import add_model_options, read_model, read_scorer
from vrm_pyro.cli.parsing import UsageError, did_you_mean, new_parser, parse
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.rows.conversation import Message, check_prompt, check_text
from vrm_pyro.data.rows.problem import RowProblem
from vrm_pyro.data.rows.ranking_pairs import NO_RANKING
from vrm_pyro.data.source import FeatureSource, SourceParts
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import is_store, read_rows, read_store
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.explanation import decide
from vrm_pyro.prediction.explanation.rendering import MODEL, RATING, Names, as_json, table
from vrm_pyro.prediction.opening import check_store


def build_parser() -> ArgumentParser:
    """Return the options of ``explain``."""
    parser = new_parser(
        "explain",
        "Say why a model prefers one response to a prompt: the weights of the objectives and the "
        "scores of the responses with intervals, what each objective adds to the difference, how "
        "likely each response is the best, and the smallest change of weights or of a score that "
        "would let another response win.",
        examples=(
            "vrm-pyro explain --model runs/first --prompt 'What is 2 + 2?' --response 4 "
            "--response 'It is 5.'",
            "vrm-pyro explain --model runs/first --prompt @prompt.json --response @a.txt "
            "--response @b.txt --json",
            "vrm-pyro explain --model runs/first --data test.jsonl --id row-17",
        ),
        more="A prompt is text or JSON messages; @FILE reads either from a file, @@ begins a text "
        "with @. A response is text or @FILE. A value that begins with a dash is given as "
        "--response=-5.",
    )
    parser.add_argument("--prompt", type=str, metavar="TEXT", help="The prompt.")
    parser.add_argument(
        "--response",
        type=str,
        action="append",
        metavar="TEXT",
        help="A response; give the option two times or more.",
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
    parser.add_argument("--seed", type=int, default=0, help="Fixes the draws.")
    add_json_options(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Explain one decision, print it and write JSON."""
    options = parse(build_parser(), argv)
    check_options(options)
    loaded = read_model(options)
    if loaded.vrm is None:
        raise UsageError(
            f"{options.model}: a {loaded.architecture} model has one reward and no objectives to "
            "explain it by. Give a model of architecture vrm; vrm-pyro score writes the rewards."
        )
    texts = text_inputs if options.data is None else row_inputs
    source, names = texts(options, loaded)
    _check_different(names)
    decision = decide(
        loaded.vrm,
        source,
        level=options.interval,
        num_draws=options.draws,
        seed=options.seed,
    )
    content = {"model": str(options.model), **as_json(decision, names)}
    show(options, content, lambda: table(decision, names))


def check_options(options: Namespace) -> None:
    """Raise UsageError unless either texts or a row are named, and the numbers make sense."""
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
    if options.draws < 100:
        raise UsageError(f"--draws is {options.draws}, but must be at least 100.")


def text_inputs(options: Namespace, loaded: LoadedModel) -> tuple[FeatureSource, Names]:
    """Return states and names of the texts on the command line."""
    prompt = read_prompt(options.prompt)
    responses = []
    for i, value in enumerate(options.response):
        try:
            responses.append(check_text(_content(value, "--response"), "response"))
        except RowProblem as problem:
            raise UsageError(f"--response {i + 1}: {problem}") from None
    scorer = read_scorer(options, loaded)
    source = scorer.encode([prompt] * len(responses), responses)
    labels = [None] * len(responses)
    return source, Names(loaded.objectives, prompt, responses, labels, _unit(loaded))


def row_inputs(options: Namespace, loaded: LoadedModel) -> tuple[FeatureSource, Names]:
    """Return states and names of one row of ``--data``."""
    store = read_store(options.data) if is_store(options.data) else None
    if store is not None:
        check_store(store, loaded)
        table = store.table()
    else:
        table = read_rows(options.data, options.skip_invalid, options.split)
    rows, labels = find_row(table, options.id, str(options.data))
    prompt = table.prompts[table.response_prompt[rows[0]]]
    responses = [table.responses[j] for j in rows]
    names = Names(loaded.objectives, prompt, responses, labels, _unit(loaded))
    if store is None:
        scorer = read_scorer(options, loaded)
        return scorer.encode([prompt] * len(rows), responses), names
    nothing = np.zeros(0, dtype=np.int64)
    source = SourceParts(
        prompts=store.prompts[table.response_prompt[rows[:1]]],
        responses=store.responses[rows],
        response_prompt=np.zeros(len(rows), dtype=np.int64),
        pair_first=nothing,
        pair_second=nothing,
        preference=np.zeros(0),
        pair_weight=np.zeros(0),
        ratings=np.zeros((len(rows), 0)),
        objectives=(),
    )
    return cast(FeatureSource, source), names


def find_row(
    table: PreferenceTable, name: str, where: str
) -> tuple[NDArray[np.int64], list[str | None]]:
    """Return the responses of the row with an id, and what the row calls them.

    A ranking gives all its responses. Rows without an id are called ``pair-0`` and so on by their
    place, as in score files.

    Raises:
        InputError: If no comparison has this id, or those that have it answer several prompts.
    """
    names = [given or f"pair-{n}" for n, given in enumerate(table.pair_id)]
    pairs = np.flatnonzero(np.array([given == name for given in names], dtype=bool))
    if len(pairs) == 0:
        if name in table.response_id:
            raise InputError(
                f"{where}: row {name!r} is a single response, and a reward has no meaning on its "
                "own: only differences within a prompt do. Name a comparison, or give the texts "
                "with --prompt and --response."
            )
        raise InputError(f"{where}: no comparison with the id {name!r}{did_you_mean(name, names)}")
    if len(np.unique(table.pair_prompt[pairs])) > 1:
        raise InputError(
            f"{where}: {len(pairs)} comparisons of several prompts have the id {name!r}. Give the "
            "texts with --prompt and --response, or ids that differ."
        )
    sides = np.stack([table.pair_first[pairs], table.pair_second[pairs]], axis=1).ravel()
    rows = sides[np.sort(np.unique(sides, return_index=True)[1])]
    if len(rows) == 2 and len(pairs) == 1:
        return rows, _labels(float(table.preference[pairs[0]]))
    if (table.pair_ranking[pairs] == NO_RANKING).any():
        return rows, [None] * len(rows)
    # The better one of each pair of a ranking stands first: wins say the place.
    wins = np.array([(table.pair_first[pairs] == j).sum() for j in rows])
    rows = rows[np.argsort(-wins, kind="stable")]
    return rows, [f"rank {i + 1}" for i in range(len(rows))]


def _labels(preference: float) -> list[str | None]:
    if preference == 1:
        return ["chosen", "rejected"]
    if preference == 0:
        return ["rejected", "chosen"]
    return [f"preferred {preference:g}", f"preferred {1 - preference:g}"]


def read_prompt(value: str) -> list[Message]:
    """Return the prompt that an option gives as text, as JSON messages, or as a file of either.

    Raises:
        UsageError: If the file cannot be read, or the messages are no prompt.
    """
    text = _content(value, "--prompt")
    parsed: Any = None
    if text.lstrip().startswith("["):
        try:
            parsed = json.loads(text)
        except ValueError:
            parsed = None  # a text that happens to begin with a bracket
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
    path = Path(value[1:]).expanduser()
    try:
        return path.read_text(encoding="utf-8").removesuffix("\n")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "is no UTF-8 text"
        raise UsageError(
            f"{option} {value}: cannot read the file ({reason}). A text that begins with @ is "
            "written with @@."
        ) from error


def _check_different(names: Names) -> None:
    seen: dict[str, int] = {}
    for j, text in enumerate(names.responses):
        if text in seen:
            raise InputError(
                f"responses {names.letter(seen[text])} and {names.letter(j)} are the same text; "
                "there is nothing to compare. Give different ones."
            )
        seen[text] = j


def _unit(loaded: LoadedModel) -> str:
    return RATING if loaded.model.scores_are_ratings else MODEL
