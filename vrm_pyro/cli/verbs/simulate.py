"""``vrm-pyro simulate``: texts with known truth."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.data.simulation import simulate_texts, write_simulation

SETTINGS = (
    "seed",
    "pairs_per_prompt",
    "shared_responses",
    "concentration",
    "beta",
    "rating_noise",
    "rating_missing",
    "label_noise",
)


def build_parser() -> ArgumentParser:
    """Return the options of ``simulate``."""
    parser = new_parser(
        "simulate",
        "Write train.jsonl, validation.jsonl, test.jsonl and truth.nc: prompts of several kinds "
        "and responses of controlled quality, with labels and ratings drawn from the model.",
    )
    parser.add_argument("--out", type=str, required=True, metavar="DIR", help="Folder to make.")
    parser.add_argument(
        "--pairs", type=int, default=2000, help="Comparisons in all three splits together."
    )
    parser.add_function_arguments(simulate_texts, skip={"num_pairs"})
    parser.add_argument(
        "--overwrite", action="store_true", help="Replace a folder that is there already."
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Simulate and write."""
    parser = build_parser()
    options = parse(parser, argv)
    settings = {name: getattr(options, name) for name in SETTINGS}
    simulation = simulate_texts(options.pairs, **settings)
    paths = write_simulation(simulation, options.out, overwrite=options.overwrite)
    for name, path in paths.items():
        print(f"{name}: {path}")
