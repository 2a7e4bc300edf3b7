"""``vrm-pyro acquire``: unlabelled pairs that are worth a label."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    SEEDS,
    add_model_options,
    add_output_option,
    check_numbers,
    check_outputs,
    read_model,
    rows_of,
)
from vrm_pyro.cli.parsing import new_parser, parse

MOST = 1_000_000


def build_parser() -> ArgumentParser:
    """Return the options of ``acquire``."""
    parser = new_parser(
        "acquire",
        "Choose the pairs of unlabelled responses whose labels would teach the model most: by "
        "the expected information of a label about the parameters and about the weights of its "
        "prompt, one by one, so that they do not all say the same.",
        examples=(
            "vrm-pyro acquire --model runs/first --data unlabelled.jsonl --number 200 \\",
            "    --out to_label.jsonl",
        ),
        more="Fill in preference in the written rows (1 if the first is preferred, 0 if the "
        "second is, 0.5 for a tie) and train with --data.columns "
        "prompt=prompt,chosen=first,rejected=second,preference=preference.",
    )
    add_model_options(parser)
    parser.add_argument("--number", type=int, required=True, help="Number of pairs.")
    parser.add_argument(
        "--per_prompt", type=int, default=1, help="Most pairs of one prompt, for diversity."
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="Seed of the pairs of prompts with many responses."
    )
    add_output_option(parser, "JSONL file to write")
    return parser


def run(argv: Sequence[str]) -> None:
    """Choose and write."""
    options = parse(build_parser(), argv)
    from vrm_pyro.prediction.acquisition import acquire
    from vrm_pyro.prediction.scorer import write_scores

    check_outputs(options)
    check_numbers(options, number=(1, MOST), per_prompt=(1, MOST), seed=SEEDS)
    found = acquire(
        read_model(options),
        rows_of(options),
        options.number,
        per_prompt=options.per_prompt,
        seed=options.seed,
        split=options.split,
        skip_invalid=options.skip_invalid,
        device=options.device,
        dtype=options.dtype,
        progress=True,
        cache=not options.no_cache,
    )
    write_scores(found.rows, options.out)
    print(f"{found}\n\nwritten: {options.out}")
