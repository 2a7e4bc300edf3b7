"""``vrm-pyro certify``: upper limits of the risk of a model, and what each of them is about."""

import logging
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Literal

import numpy as np
from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.cli.json_output import add_json_options, show
from vrm_pyro.cli.options import add_model_options, read_model, read_scorer
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.cli.verbs.certify_table import CONTAMINATED, DECLARED, table_of
from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.certificates import (
    PRIOR_SCALES,
    FitSettings,
    HeadCertificate,
    certify_head,
    certify_local,
    check_provenance,
    effective_units,
    held_out_bounds,
    information_cost,
)
from vrm_pyro.diagnostics.certificates.bound import MIN_UNITS, check_delta
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs, select_prompts
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.reading import is_store, read_rows, read_store
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.opening import check_store
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.run.overlap import Overlap, training_overlap

log = logging.getLogger(__name__)

NO_HEAD = (
    "a bradley_terry model has one reward per response and no head (A, b, log beta) on its latent "
    "variables; use the held-out bound"
)


def build_parser() -> ArgumentParser:
    """Return the options of ``certify``."""
    parser = new_parser(
        "certify",
        "Upper limits of the risk of a model on new prompts, from rows that had no part in its "
        "training: the held-out bound first, then PAC-Bayes on the head, then (on demand) the "
        "certificate for fresh labels on the same items; and the information cost, which is a "
        "diagnostic and certifies nothing.",
        examples=(
            "vrm-pyro certify --model runs/first --data test.jsonl --backbone_saw_these_labels no",
            "vrm-pyro certify --model runs/first --data test.jsonl "
            "--backbone_saw_these_labels no --loss brier --out bounds.json",
        ),
        more="Rows whose prompts are training or validation prompts of the run are refused. Every "
        "limit holds alone with its confidence, for a model that was chosen without these rows.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--backbone_saw_these_labels",
        type=str | bool,  # YAML reads a bare no as false
        required=True,
        metavar="{no,yes,unknown}",
        help="Whether the backbone (or a reward model it comes from) was trained on these "
        "preferences. yes: no bound is given. unknown: bounds are given with a warning.",
    )
    parser.add_argument(
        "--delta", type=float, default=0.05, help="Probability that a limit is too low."
    )
    parser.add_argument(
        "--delta_mc",
        type=float,
        default=0.01,
        help="The same for the Monte Carlo estimates in a limit; the confidence is 1 - both.",
    )
    parser.add_argument(
        "--loss",
        type=Literal["error", "brier"],
        default="error",
        help="Loss that the PAC-Bayes posterior is fitted for; limits of both are shown.",
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
        help="Standard deviations of the PAC-Bayes prior to try; decide them before looking.",
    )
    parser.add_argument("--draws", type=int, default=1000, help="Draws for each estimate.")
    parser.add_argument("--steps", type=int, default=300, help="Steps of the posterior's fit.")
    parser.add_argument("--seed", type=int, default=0, help="Fixes the fit and all draws.")
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
        help="Declare that prior and decoder were fitted on other data than these labels and the "
        "ratings that determine them.",
    )
    parser.add_argument(
        "--leave_out_training_prompts",
        action="store_true",
        help="Leave out and count prompts that are in the run's training or validation rows.",
    )
    add_json_options(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Certify, print the table and write JSON."""
    options = parse(build_parser(), argv)
    check_options(options)
    loaded = read_model(options)
    if options.local and loaded.vrm is None:
        raise UsageError(
            f"--local: {options.model} is a {loaded.architecture} model, which has no local "
            "latent variables. Leave --local out."
        )
    inputs, overlap = _read(options, loaded)
    for name in overlap.not_compared:
        log.warning("not compared with %s: make sure that no label here was trained on", name)
    if options.backbone_saw_these_labels == "unknown":
        log.warning("if the backbone saw these labels, the limits below are void")
    report = certificates(options, loaded, inputs, overlap)
    show(options, report, lambda: table_of(report))


def check_options(options: Namespace) -> None:
    """Raise InputError for options that are wrong whatever the rows; settle the declaration."""
    declared = options.backbone_saw_these_labels
    if isinstance(declared, bool):
        declared = "yes" if declared else "no"
    if declared not in DECLARED:
        raise UsageError(
            f"--backbone_saw_these_labels is {declared!r}, but must be one of "
            f"{', '.join(DECLARED)}."
        )
    options.backbone_saw_these_labels = declared
    check_delta(delta=options.delta, delta_mc=options.delta_mc)
    if options.delta + options.delta_mc >= 1:
        raise UsageError("--delta and --delta_mc: their sum must be below 1.")
    for name in ("draws", "steps"):
        if getattr(options, name) < 1:
            raise UsageError(f"--{name} is {getattr(options, name)}, but must be at least 1.")
    if options.local:
        check_provenance(options.prior_fitted_on_disjoint_data)


def certificates(
    options: Namespace, loaded: LoadedModel, inputs: Inputs, overlap: Overlap
) -> dict[str, Any]:
    """Return everything ``certify`` reports, as JSON values, in the order of spec 3.3."""
    source = inputs.source
    num_prompts = inputs.table.num_prompts
    report: dict[str, Any] = {
        "model": str(options.model),
        "data": options.data,
        "n_pairs": int((np.asarray(source.pair_weight) > 0).sum()),
        "n_prompts": num_prompts,
        "chi": options.chi,
        "effective_prompts": effective_units(num_prompts, options.chi),
        "delta": options.delta,
        "delta_mc": options.delta_mc,
        "declared": {
            "backbone_saw_these_labels": options.backbone_saw_these_labels,
            "prior_fitted_on_disjoint_data": options.prior_fitted_on_disjoint_data,
        },
        "training_rows": {
            "compared": list(overlap.compared),
            "not_compared": list(overlap.not_compared),
            "prompts_left_out": overlap.count,
        },
    }
    if options.backbone_saw_these_labels == "yes":
        withheld = {"withheld": CONTAMINATED}
        report |= {"held_out": withheld, "pac_bayes": withheld}
        report["local"] = withheld if options.local else None
    else:
        report["held_out"] = _held_out(options, loaded, inputs)
        report["pac_bayes"] = _pac_bayes(options, loaded, inputs)
        report["local"] = _local(options, loaded, inputs) if options.local else None
    report["information_cost"] = _information_cost(loaded, inputs)
    return report


def _read(options: Namespace, loaded: LoadedModel) -> tuple[Inputs, Overlap]:
    """Return the prompts that have a comparison, after a look at what the run was trained on.

    The look comes before the backbone runs: rows that are refused should not cost an hour.
    """
    store = read_store(options.data) if is_store(options.data) else None
    if store is not None:
        check_store(store, loaded)
        table = store.table()
    else:
        table = read_rows(options.data, options.skip_invalid, options.split)
    overlap = training_overlap(options.model, table)
    _check_overlap(options, overlap)
    if store is not None:
        inputs = select_prompts(Inputs.of(store), ~overlap.shared)
    else:
        kept = table.select_prompts(~overlap.shared)
        scorer = read_scorer(options, loaded)
        cache = not options.no_cache
        inputs = Inputs.of(encode_table(kept, scorer.backbone, progress=True, cache=cache))
    counted = np.zeros(inputs.table.num_prompts, dtype=bool)
    counted[inputs.table.pair_prompt[np.asarray(inputs.source.pair_weight) > 0]] = True
    if not counted.any():
        raise InputError(
            f"{options.data}: holds no comparison with a positive weight to certify on. Give rows "
            'with "prompt", "chosen" and "rejected".'
        )
    return select_prompts(inputs, counted), overlap


def _check_overlap(options: Namespace, overlap: Overlap) -> None:
    if not options.leave_out_training_prompts:
        overlap.check(options.data)
    elif overlap.shared.all():
        raise InputError(
            f"{options.data}: every prompt is a training or validation prompt of the model, so "
            "nothing is left to certify on. Give rows of other prompts."
        )


def _held_out(options: Namespace, loaded: LoadedModel, inputs: Inputs) -> dict[str, Any]:
    few = _too_few(options, inputs)
    if few and options.chi > 1:  # without dependence any number will do
        return few
    source = inputs.source
    bounds = held_out_bounds(
        predict(loaded.model, source).p_first,
        source.preference,
        source.pair_weight,
        inputs.table.pair_prompt,
        options.delta,
        options.chi,
    )
    return {name: asdict(bound) for name, bound in bounds.items()}


def _too_few(options: Namespace, inputs: Inputs) -> dict[str, Any] | None:
    units = effective_units(inputs.table.num_prompts, options.chi)
    if units >= MIN_UNITS:
        return None
    return {"withheld": f"needs at least {MIN_UNITS} independent prompts, here are {units:g}"}


def _pac_bayes(options: Namespace, loaded: LoadedModel, inputs: Inputs) -> dict[str, Any]:
    if loaded.vrm is None:
        return {"withheld": NO_HEAD}
    few = _too_few(options, inputs)
    if few:
        return few
    found: HeadCertificate = certify_head(
        loaded.vrm,
        inputs.source,
        head=options.head,
        loss=options.loss,
        delta=options.delta,
        delta_mc=options.delta_mc,
        num_draws=options.draws,
        prior_scales=options.prior_scales,
        chi=options.chi,
        settings=FitSettings(options.steps, seed=options.seed),
        progress=True,
    )
    result: dict[str, Any] = {
        "head": found.head,
        "fitted_for": found.loss,
        "prior_scales": list(options.prior_scales),
    }
    for name, bounds in found.bounds.items():
        result[name] = {
            "best": found.best(name).posterior,
            **{posterior: asdict(bound) for posterior, bound in bounds.items()},
        }
    return result


def _local(options: Namespace, loaded: LoadedModel, inputs: Inputs) -> dict[str, Any]:
    few = _too_few(options, inputs)
    if few:
        return few
    source = with_objectives(inputs.source, loaded.objectives if loaded.rated else ())
    assert loaded.vrm is not None
    bound = certify_local(
        loaded.vrm,
        source,
        fitted_on_disjoint_data=options.prior_fitted_on_disjoint_data,
        delta=options.delta,
        delta_mc=options.delta_mc,
        num_draws=options.draws,
        seed=options.seed,
        chi=options.chi,
    )
    return asdict(bound)


def _information_cost(loaded: LoadedModel, inputs: Inputs) -> dict[str, Any] | None:
    if loaded.vrm is None:
        return None
    source = with_objectives(inputs.source, loaded.objectives if loaded.rated else ())
    cost = information_cost(loaded.vrm, source)
    errors = (cost.weights.standard_error, cost.features.standard_error)
    weights_se, features_se = (float(e) if np.isfinite(e) else None for e in errors)
    return {
        "kl_weights_per_prompt": cost.weights.value,
        "kl_weights_per_prompt_se": weights_se,
        "kl_features_per_response": cost.features.value,
        "kl_features_per_response_se": features_se,
        "total": cost.total,
        "total_per_prompt": cost.per_prompt,
        "n_prompts": cost.num_prompts,
        "n_responses": cost.num_responses,
    }
