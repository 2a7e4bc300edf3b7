"""``vrm-pyro posterior``: draws of everything, with named dimensions."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    add_model_options,
    add_output_option,
    check_out,
    read_inputs,
    read_model,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``posterior``."""
    parser = new_parser(
        "posterior",
        "Write an ArviZ DataTree: draws of weights, features, scores and rewards given the "
        "outcomes in the rows, of the same before any outcome, and what both predict.",
    )
    add_model_options(parser)
    parser.add_argument("--draws", type=int, default=200, help="Draws of every row.")
    parser.add_argument(
        "--summaries",
        action="store_true",
        help="Write mean, standard deviation and quantiles of the draws instead of the draws, in "
        "groups of their own: for many rows, since nothing then grows with --draws.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Fixes all draws.")
    add_output_option(parser, "netCDF file to write, ending in .nc")
    return parser


def run(argv: Sequence[str]) -> None:
    """Draw and write."""
    options = parse(build_parser(), argv)
    check_out(options.out)
    if not options.out.endswith(".nc"):
        raise UsageError(f"--out {options.out}: is a netCDF file; give a name that ends in .nc.")
    if options.draws < 1:
        raise UsageError(f"--draws is {options.draws}, but must be at least 1.")
    from vrm_pyro.prediction.posterior.file import write_posterior

    loaded = read_model(options)
    if loaded.vrm is None:
        raise UsageError(
            f"{options.model}: a {loaded.architecture} model has no latent variables to draw; "
            "train one with model.architecture vrm."
        )
    inputs = read_inputs(options, loaded)
    write_posterior(
        loaded,
        inputs,
        options.out,
        options.draws,
        options.seed,
        summarized=options.summaries,
        progress=True,
    )
    what = f"{options.draws} draws of {inputs.table.num_prompts:,} prompts"
    print(f"{'summaries of ' if options.summaries else ''}{what}: {options.out}")
