"""``vrm-pyro posterior``: posterior, prior and predictive draws as a netCDF file."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.options import (
    MOST_DRAWS,
    SEEDS,
    add_model_options,
    add_output_option,
    check_numbers,
    check_outputs,
    read_inputs,
    read_model,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse


def build_parser() -> ArgumentParser:
    """Return the options of ``posterior``."""
    parser = new_parser(
        "posterior",
        "Write an ArviZ DataTree with draws of weights, features, scores and rewards from the "
        "posterior given the outcomes in the rows and from the prior, and predictive draws of "
        "both.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--draws",
        type=int,
        default=1000,
        help="Number of draws. psense needs about 1,000. The file grows with them: 29 MB for "
        "1,000 draws of 50 prompts with 200 responses, 8 objectives and 4 features.",
    )
    parser.add_argument(
        "--summaries",
        action="store_true",
        help="Write mean, standard deviation and quantiles instead of the draws, in separate "
        "groups. For many rows: the file size then does not depend on --draws.",
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of all draws.")
    add_output_option(parser, "netCDF file to write, ending in .nc")
    return parser


def run(argv: Sequence[str]) -> None:
    """Draw and write."""
    options = parse(build_parser(), argv)
    check_outputs(options)
    if not options.out.endswith(".nc"):
        raise UsageError(f"--out {options.out}: is a netCDF file; give a name that ends in .nc.")
    check_numbers(options, draws=(1, MOST_DRAWS), seed=SEEDS)
    from vrm_pyro.prediction.posterior.file import write_posterior

    loaded = read_model(options)
    if not loaded.members:
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
