"""``vrm-pyro score``: what a model says of every response."""

from collections.abc import Iterator, Sequence
from typing import Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.checkpoint import LoadedModel
from vrm_pyro.cli.inputs import (
    add_model_options,
    add_output_option,
    check_store,
    is_store,
    read_model,
    read_rows,
    read_scorer,
    read_store,
)
from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.cli.sources import Inputs
from vrm_pyro.scorer import score_source, table_lines, write_scores


def build_parser() -> ArgumentParser:
    """Return the options of ``score``."""
    parser = new_parser(
        "score",
        "Write a JSON line for each response of each row: reward_mean, reward_sd, weights and "
        "scores by objective, and p_chosen for comparisons. Labels and ratings are not read. "
        "Compare rewards of responses to the same prompt only.",
    )
    add_model_options(parser)
    add_output_option(parser, "JSONL file to write")
    return parser


def run(argv: Sequence[str]) -> None:
    """Score and write."""
    options = parse(build_parser(), argv)
    count = write_scores(score_lines(options, read_model(options)), options.out)
    print(f"{count} responses scored: {options.out}")


def score_lines(options: Namespace, loaded: LoadedModel) -> Iterator[dict[str, Any]]:
    """Return a line for each response of each row."""
    if is_store(options.data):
        store = read_store(options.data)
        check_store(store, loaded, options.model)
        inputs = Inputs.of(store)
        scores = score_source(loaded.model, inputs.source)
        return table_lines(scores, inputs.table, loaded.objectives)
    table = read_rows(options.data, options.skip_invalid, options.split)
    return read_scorer(options, loaded).score_table(table, progress=True)
