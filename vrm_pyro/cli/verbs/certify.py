"""``vrm-pyro certify``: upper limits of a model's risk, each with its statement."""

from collections.abc import Sequence
from typing import Literal

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.json_output import add_json_options, show
from vrm_pyro.cli.options import (
    MOST_DRAWS,
    SEEDS,
    add_model_options,
    check_numbers,
    check_outputs,
    read_declared,
    read_model,
    rows_of,
)
from vrm_pyro.cli.parsing import UsageError, new_parser, parse

PRIOR_SCALES = (0.003, 0.01, 0.03, 0.1, 0.3)


def build_parser() -> ArgumentParser:
    """Return the options of ``certify``."""
    parser = new_parser(
        "certify",
        "Bound the risk of a model on new prompts, from rows that were not used in training. "
        "Gives the held-out bound, a PAC-Bayes bound on the head and, with --local, a "
        "certificate for fresh labels on the same items. The information cost is a diagnostic, "
        "not a bound.",
        examples=(
            "vrm-pyro certify --model runs/first --data test.jsonl --backbone_saw_these_labels no",
            "vrm-pyro certify --model runs/first --data test.jsonl "
            "--backbone_saw_these_labels no --loss brier --out bounds.json",
        ),
        more="Rows with training or validation prompts of the run are refused. Each "
        "limit holds separately with its confidence, for a model chosen without these rows.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--backbone_saw_these_labels",
        type=str | bool,  # YAML reads a bare no as false
        required=True,
        metavar="{no,yes,unknown}",
        help="Whether the backbone (or a reward model it comes from) was trained on these "
        "preferences. yes: no bound is given; unknown: bounds are given with a warning.",
    )
    parser.add_argument(
        "--delta", type=float, default=0.05, help="Probability that a limit is too low."
    )
    parser.add_argument(
        "--delta_mc",
        type=float,
        default=0.01,
        help="Probability that a Monte Carlo estimate in a limit is too low; the confidence is "
        "1 - delta - delta_mc.",
    )
    parser.add_argument(
        "--loss",
        type=Literal["error", "brier"],
        default="error",
        help="Loss that the PAC-Bayes posterior minimises; limits for both losses are shown.",
    )
    parser.add_argument(
        "--head",
        type=Literal["reward", "reward_and_networks"],
        default="reward",
        help="What is random in PAC-Bayes: A, b and log beta; or these and the last layer of each "
        "prior network.",
    )
    parser.add_argument(
        "--prior_scales",
        type=list[float],
        default=list(PRIOR_SCALES),
        help="Standard deviations of the PAC-Bayes prior to try; choose them in advance.",
    )
    parser.add_argument("--draws", type=int, default=1000, help="Draws for each estimate.")
    parser.add_argument(
        "--steps", type=int, default=300, help="Optimiser steps to fit the PAC-Bayes posterior."
    )
    parser.add_argument("--seed", type=int, default=0, help="Seed of the fit and of all draws.")
    parser.add_argument(
        "--chi",
        type=float,
        default=1.0,
        help="Dependence between prompts: n counts as n / chi. For families of related prompts "
        "the size of the largest family; 1 when prompts are independent.",
    )
    parser.add_argument(
        "--local",
        action="store_true",
        help="Also give the certificate for fresh labels on the same items; needs "
        "--prior_fitted_on_disjoint_data.",
    )
    parser.add_argument(
        "--prior_fitted_on_disjoint_data",
        action="store_true",
        help="Declare that prior and decoder were not fitted on these labels, or on "
        "ratings that determine them.",
    )
    parser.add_argument(
        "--leave_out_training_prompts",
        action="store_true",
        help="Skip and count prompts that are in the run's training or validation rows.",
    )
    add_json_options(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Certify, print the table and write JSON."""
    options = parse(build_parser(), argv)
    check_options(options)
    from vrm_pyro.diagnostics.certificates import certify

    loaded = read_model(options)
    if options.local and not loaded.members:
        raise UsageError(
            f"--local: {options.model} is a {loaded.architecture} model, which has no local "
            "latent variables. Leave --local out."
        )
    found = certify(
        loaded,
        rows_of(options),
        backbone_saw_these_labels=options.backbone_saw_these_labels,
        delta=options.delta,
        delta_mc=options.delta_mc,
        loss=options.loss,
        head=options.head,
        prior_scales=options.prior_scales,
        num_draws=options.draws,
        num_steps=options.steps,
        seed=options.seed,
        chi=options.chi,
        local=options.local,
        prior_fitted_on_disjoint_data=options.prior_fitted_on_disjoint_data,
        leave_out_training_prompts=options.leave_out_training_prompts,
        skip_invalid=options.skip_invalid,
        split=options.split,
        device=options.device,
        dtype=options.dtype,
        cache=not options.no_cache,
        progress=True,
    )
    show(options, found.to_json(), lambda: str(found))


def check_options(options: Namespace) -> None:
    """Raise UsageError for options that are wrong for any model and rows."""
    check_outputs(options)
    options.backbone_saw_these_labels = read_declared(options.backbone_saw_these_labels)
    for name in ("delta", "delta_mc"):
        if not 0 < options[name] < 1:
            raise UsageError(f"--{name} is {options[name]}, but must be between 0 and 1.")
    if options.delta + options.delta_mc >= 1:
        raise UsageError("--delta and --delta_mc: their sum must be below 1.")
    check_numbers(options, draws=(1, MOST_DRAWS), steps=(1, MOST_DRAWS), chi=(1, 1e9), seed=SEEDS)
