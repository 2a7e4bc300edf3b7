"""``vrm-pyro simulate``: texts with known truth."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import SEEDS, check_numbers
from vrm_pyro.cli.parsing import new_parser, parse

# Arguments of vrm_pyro.simulate_texts: name, default, meaning.
SETTINGS: tuple[tuple[str, float, str], ...] = (
    ("seed", 0, "Equal settings and seeds give equal texts."),
    ("pairs_per_prompt", 4, "Comparisons per prompt."),
    (
        "shared_responses",
        0,
        "Responses per prompt from which its comparisons are drawn; 0 gives every comparison two "
        "new responses.",
    ),
    (
        "concentration",
        20.0,
        "Concentration of the weights around the mean of the prompt's kind; inf makes the weights "
        "equal for all prompts of a kind.",
    ),
    ("beta", 4.0, "Scale of the reward; a larger one makes labels less noisy."),
    ("rating_noise", 0.5, "Standard deviation of a rating given its score."),
    ("rating_missing", 0.2, "Probability that a rating is missing; 1 gives rows without ratings."),
    ("label_noise", 0.0, "Probability that a label is flipped, at most 0.5."),
)


def build_parser() -> ArgumentParser:
    """Return the options of ``simulate``."""
    parser = new_parser(
        "simulate",
        "Write train.jsonl, validation.jsonl, test.jsonl and truth.nc: prompts of several kinds "
        "and responses of known quality, with labels and ratings drawn from the model.",
    )
    parser.add_argument("--out", type=str, required=True, metavar="DIR", help="Folder to create.")
    parser.add_argument(
        "--pairs", type=int, default=2000, help="Comparisons in all three splits together."
    )
    for name, default, text in SETTINGS:
        parser.add_argument(f"--{name}", type=type(default), default=default, help=text)
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing folder.")
    return parser


def run(argv: Sequence[str]) -> None:
    """Simulate and write."""
    parser = build_parser()
    options = parse(parser, argv)
    check_numbers(
        options,
        pairs=(1, 10_000_000),
        pairs_per_prompt=(1, 10_000_000),
        shared_responses=(0, 10_000),
        seed=SEEDS,
    )
    from vrm_pyro.data.simulation import simulate_texts, write_simulation

    settings = {name: getattr(options, name) for name, *_ in SETTINGS}
    simulation = simulate_texts(options.pairs, **settings)
    paths = write_simulation(simulation, options.out, overwrite=options.overwrite)
    for name, path in paths.items():
        print(f"{name}: {path}")
