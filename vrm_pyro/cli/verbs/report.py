"""``vrm-pyro report``: one HTML page about a model on rows."""

import json
import logging
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentParser, Namespace

import vrm_pyro
from vrm_pyro.atomic import write_file
from vrm_pyro.cli.options import add_model_options, check_out, read_inputs, read_model
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.certificates import held_out_bounds
from vrm_pyro.diagnostics.certificates.table import CONTAMINATED
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.reading import FACTS
from vrm_pyro.models.checkpoint import LoadedModel, load_model
from vrm_pyro.models.settings.own_classes import own_classes
from vrm_pyro.prediction.overlap import training_overlap
from vrm_pyro.prediction.predict import predict
from vrm_pyro.report.page import latent_sections, prediction_sections
from vrm_pyro.report.page.blocks import Section
from vrm_pyro.report.page.page import render
from vrm_pyro.report.page.page_inputs import PageInputs, find_khat, gather, sensitivity_of

log = logging.getLogger(__name__)

DELTA = 0.05
SAW_UNKNOWN = (
    "It was not declared whether the backbone has seen these labels (--backbone_saw_these_labels "
    "no). If it has, the limits above are void."
)


def build_parser() -> ArgumentParser:
    """Return the options of ``report``."""
    parser = new_parser(
        "report",
        "Write one HTML page about a model on rows: metrics next to a Bradley-Terry baseline and "
        "length-only rules, calibration, weights by kind of prompt, a map of features, collapse, "
        "k-hat, sensitivity to the prior, certificates, and single pairs with the model's "
        "reasons. The page needs no network and no script.",
        examples=(
            "vrm-pyro report --model runs/first --data test.jsonl --against runs/bt "
            "--out report.html",
            "vrm-pyro report --model runs/first --data runs/features/test --no_text "
            "--out report.html",
        ),
        more="The page shows texts of the rows unless --no_text is given; check who may read it.",
    )
    add_model_options(parser)
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help="HTML file to write; an existing file is replaced.",
    )
    parser.add_argument(
        "--against",
        type=str,
        metavar="DIR",
        help="A bradley_terry model trained on the same states, to compare with.",
    )
    parser.add_argument(
        "--worst",
        type=int,
        default=10,
        help="Number of mistakes, and of uncertain pairs, to show.",
    )
    parser.add_argument(
        "--no_text", action="store_true", help="Leave the texts of prompts and responses out."
    )
    parser.add_argument(
        "--diagnose",
        type=str,
        metavar="FILE",
        help="JSON file of vrm-pyro diagnose, to show its findings.",
    )
    parser.add_argument(
        "--draws", type=int, default=1000, help="Draws for each prompt, for k-hat and sensitivity."
    )
    parser.add_argument("--khat_prompts", type=int, default=200, help="Random prompts for k-hat.")
    parser.add_argument(
        "--psense_prompts",
        type=int,
        default=40,
        help="Random prompts for the sensitivity to the prior; 0 leaves it out.",
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="Seed of draws and samples of prompts."
    )
    parser.add_argument(
        "--backbone_saw_these_labels",
        type=str | bool,  # YAML reads a bare no as false
        default="unknown",
        metavar="{no,yes,unknown}",
        help="As in certify: yes withholds the certificates, unknown shows them with a warning.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Compute, render, write."""
    options = parse(build_parser(), argv)
    check_out(options.out)
    check_options(options)
    findings = None if options.diagnose is None else read_findings(options.diagnose)
    loaded = read_model(options)
    if loaded.vrm is None:
        raise UsageError(
            f"{options.model}: is a {loaded.architecture} model, which has no latent variables to "
            "report on. Give it with --against, and a model of architecture vrm with --model."
        )
    against = None if options.against is None else read_baseline(options, loaded)
    inputs = read_inputs(options, loaded)
    start = time.perf_counter()
    page = build(options, loaded, against, inputs, findings)
    with write_file(options.out) as partial:
        partial.write_text(page, encoding="utf-8")
    size = len(page.encode()) / 1e6
    log.info("%.2f MB in %.0f s after scoring", size, time.perf_counter() - start)
    print(options.out)


def check_options(options: Namespace) -> None:
    """Raise UsageError for options that are wrong for any rows."""
    if not options.out.endswith((".html", ".htm")):
        raise UsageError(f"--out {options.out}: is a page; give a name that ends in .html.")
    for name, least in (
        ("worst", 0),
        ("draws", MIN_DRAWS),
        ("khat_prompts", 1),
        ("psense_prompts", 0),
    ):
        if getattr(options, name) < least:
            raise UsageError(
                f"--{name} is {getattr(options, name)}, but must be at least {least}."
            )
    declared = options.backbone_saw_these_labels
    if isinstance(declared, bool):
        declared = options.backbone_saw_these_labels = "yes" if declared else "no"
    if declared not in ("no", "yes", "unknown"):
        raise UsageError(
            f"--backbone_saw_these_labels is {declared!r}, but must be one of no, yes, unknown."
        )


def build(
    options: Namespace,
    loaded: LoadedModel,
    against: LoadedModel | None,
    inputs: Inputs,
    findings: Sequence[dict[str, Any]] | None,
) -> str:
    """Return the page."""
    page_inputs = gather(loaded, inputs)
    baseline = None
    if against is not None:
        found = predict(against.model, inputs.source)
        baseline = prediction_sections.Baseline(
            evaluate(against, inputs, predictions=found), found.p_first
        )
    made = [
        prediction_sections.summary(page_inputs, baseline),
        *prediction_sections.calibration(page_inputs, baseline),
        latent_sections.weights(page_inputs),
        latent_sections.feature_map(page_inputs),
        latent_sections.collapse(page_inputs),
        *posterior_sections(options, loaded, inputs),
        certificate_section(options, page_inputs),
    ]
    if findings is not None:
        made.append(prediction_sections.diagnoses(findings))
    made += prediction_sections.single_pairs(page_inputs, options.worst, not options.no_text)
    made.append(prediction_sections.about(facts(options, loaded, page_inputs)))
    name = Path(options.model).resolve().name
    subtitle = (
        f"{page_inputs.metrics['n_pairs']:,} pairs of {page_inputs.metrics['n_prompts']:,} "
        f"prompts from {_spec(options.data)}, {datetime.now(UTC).date().isoformat()}"
    )
    return render(f"Report on {name}", subtitle, made)


def posterior_sections(
    options: Namespace, loaded: LoadedModel, inputs: Inputs
) -> tuple[Section, Section]:
    """Return k-hat and sensitivity, each on a sample of the prompts."""
    model = loaded.vrm
    assert model is not None
    names = ("sensitivity", "Sensitivity to the prior")

    def some(size: int) -> Any:
        chosen = latent_sections.sample_of(inputs.table.num_prompts, size, options.seed)
        part = inputs.select(chosen)
        return with_objectives(part.source, loaded.objectives if loaded.rated else ())

    khat = find_khat(model, some(options.khat_prompts), options.draws, options.seed)
    guide = latent_sections.guide(khat)
    if options.psense_prompts == 0:
        return guide, latent_sections.withheld(*names, "--psense_prompts is 0")
    found = sensitivity_of(
        model, some(options.psense_prompts), loaded.objectives, options.draws, options.seed
    )
    return guide, latent_sections.prior_sensitivity(found)


def certificate_section(options: Namespace, page_inputs: PageInputs) -> Section:
    """Return the section on held-out limits, or on why none holds."""
    if options.backbone_saw_these_labels == "yes":
        return prediction_sections.certificates(CONTAMINATED)
    table = page_inputs.table
    overlap = training_overlap(options.model, table)
    if overlap.count:
        return prediction_sections.certificates(
            f"{overlap.count:,} of {table.num_prompts:,} prompts are in "
            f"{' and '.join(overlap.shared_with)} of the run, so no bound on new prompts follows. "
            "vrm-pyro certify --leave_out_training_prompts uses the others"
        )
    warnings = [
        f"Not compared with {name}: no limit holds for labels that were trained on."
        for name in overlap.not_compared
    ]
    if options.backbone_saw_these_labels == "unknown":
        warnings.append(SAW_UNKNOWN)
    bounds = held_out_bounds(
        page_inputs.scores.p_first,
        table.preference,
        table.pair_weight,
        table.pair_prompt,
        DELTA,
    )
    return prediction_sections.certificates(bounds, warnings)


def read_baseline(options: Namespace, loaded: LoadedModel) -> LoadedModel:
    """Load the baseline, and check that it reads the same states.

    Raises:
        UsageError: If it is not a Bradley-Terry model, or was trained on other states.
    """
    against = load_model(options.against, own_classes(options.classes or []))
    if against.vrm is not None:
        raise UsageError(
            f"--against {options.against}: is a {against.architecture} model; give one of "
            "architecture bradley_terry."
        )
    differing = [
        key
        for key in FACTS
        if key in loaded.backbone
        and key in against.backbone
        and loaded.backbone[key] != against.backbone[key]
    ]
    if differing or against.hidden_size != loaded.hidden_size:
        raise UsageError(
            f"--against {options.against}: was trained on other states than {options.model} "
            f"({', '.join(differing) or 'hidden size'} differs), so the two would not be compared "
            "on the same ground. Train a baseline with the same model.backbone, model.pooling and "
            "model.max_length."
        )
    return against


def read_findings(path: str) -> list[dict[str, Any]]:
    """Return the findings in a file of ``vrm-pyro diagnose``.

    Raises:
        InputError: If the file does not exist, or holds something else.
    """
    advice = "Give what vrm-pyro diagnose --out wrote."
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"--diagnose {path}: cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise InputError(f"--diagnose {path}: is not JSON ({error}). {advice}") from error
    found = content.get("findings") if isinstance(content, dict) else content
    if not isinstance(found, list) or not all(
        isinstance(item, dict) and {"name", "verdict"} <= set(item) for item in found
    ):
        raise InputError(
            f"--diagnose {path}: holds no list of findings with name and verdict. {advice}"
        )
    return found


def facts(options: Namespace, loaded: LoadedModel, page_inputs: PageInputs) -> dict[str, str]:
    """Return the model, rows and settings behind the page, in words."""
    config = loaded.config
    kl = f"{config.kl_weights:g} (w), {config.kl_features:g} (z)" if config.mode == "vib" else "1"
    return {
        "model": str(options.model),
        "baseline": str(options.against or "none"),
        "data": _spec(options.data),
        "rows": page_inputs.table.report.summary(),
        "objectives": ", ".join(loaded.objectives),
        "ratings": "used in training" if loaded.rated else "not used in training",
        "mode, objective": f"{config.mode}, {config.objective}",
        "priors, guide": f"{type(config.weight_prior).__name__}, "
        f"{type(config.feature_prior).__name__}, {type(config.guide).__name__}",
        "likelihood": type(config.likelihood).__name__,
        "power of ratings (lambda)": f"{config.rating_power:g}" if loaded.rated else "–",
        "weight of the KL (kappa)": kl,
        "backbone": str(loaded.backbone.get("name", "unnamed")),
        "draws, seed": f"{options.draws:,}, {options.seed}",
        "vrm_pyro": vrm_pyro.__version__,
        "numpy": np.__version__,
    }


def _spec(data: str | list[str]) -> str:
    return data if isinstance(data, str) else ", ".join(data)
