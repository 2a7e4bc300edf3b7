"""The sections of a report in their order."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

import vrm_pyro
from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.certificates import held_out_bounds
from vrm_pyro.diagnostics.certificates.table import CONTAMINATED
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.overlap import training_overlap
from vrm_pyro.prediction.predict import predict
from vrm_pyro.report.page import latent_sections, prediction_sections
from vrm_pyro.report.page.blocks import Section
from vrm_pyro.report.page.page_inputs import PageInputs, find_khat, sensitivity_of
from vrm_pyro.report.page.settings import Settings

DELTA: Final = 0.05
SAW_UNKNOWN: Final = (
    "It was not declared whether the backbone has seen these labels (--backbone_saw_these_labels "
    "no). If it has, the limits above are void."
)


def sections(
    settings: Settings,
    loaded: LoadedModel,
    page_inputs: PageInputs,
    inputs: Inputs,
    against: LoadedModel | None,
    findings: Sequence[Mapping[str, Any]] | None,
    data: str,
) -> list[Section]:
    """Return what stands on the page.

    Args:
        settings: Numbers and choices.
        loaded: The model.
        page_inputs: What it says of the rows.
        inputs: Rows with states.
        against: A Bradley-Terry model or a gate on the same states.
        findings: Findings of ``diagnose`` as JSON values.
        data: What the page calls the rows.
    """
    baseline = None
    if against is not None:
        found = predict(against.model, inputs.source)
        baseline = prediction_sections.Baseline(
            against.architecture, evaluate(against, inputs, predictions=found), found.p_first
        )
    made = [
        prediction_sections.summary(page_inputs, baseline),
        *prediction_sections.calibration(page_inputs, baseline),
        latent_sections.weights(page_inputs),
        latent_sections.feature_map(page_inputs),
        latent_sections.collapse(page_inputs),
        *_posterior(settings, loaded, inputs),
        _certificates(settings, loaded, page_inputs),
    ]
    if findings is not None:
        made.append(prediction_sections.diagnoses(findings))
    made += prediction_sections.single_pairs(page_inputs, settings.worst, settings.texts)
    facts = _facts(settings, loaded, page_inputs, against, data)
    return [*made, prediction_sections.about(facts)]


def _posterior(settings: Settings, loaded: LoadedModel, inputs: Inputs) -> tuple[Section, Section]:
    """Return k-hat and sensitivity, each on a sample of the prompts."""
    model = loaded.model
    names = ("sensitivity", "Sensitivity to the prior")
    draws, seed = settings.draws, settings.seed

    def some(size: int) -> Any:
        chosen = latent_sections.sample_of(inputs.table.num_prompts, size, seed)
        part = inputs.select(chosen)
        return with_objectives(part.source, loaded.objectives if loaded.rated else ())

    guide = latent_sections.guide(find_khat(model, some(settings.khat_prompts), draws, seed))
    if settings.psense_prompts == 0:
        return guide, latent_sections.withheld(*names, "--psense_prompts is 0")
    found = sensitivity_of(model, some(settings.psense_prompts), loaded.objectives, draws, seed)
    return guide, latent_sections.prior_sensitivity(found)


def _certificates(settings: Settings, loaded: LoadedModel, page_inputs: PageInputs) -> Section:
    """Return the section on held-out limits, or on why none holds."""
    if settings.backbone_saw_these_labels == "yes":
        return prediction_sections.certificates(CONTAMINATED)
    table = page_inputs.table
    overlap = training_overlap(loaded.directory, table)
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
    if settings.backbone_saw_these_labels == "unknown":
        warnings.append(SAW_UNKNOWN)
    bounds = held_out_bounds(
        page_inputs.scores.p_first,
        table.preference,
        table.pair_weight,
        table.pair_prompt,
        DELTA,
    )
    return prediction_sections.certificates(bounds, warnings)


def _facts(
    settings: Settings,
    loaded: LoadedModel,
    page_inputs: PageInputs,
    against: LoadedModel | None,
    data: str,
) -> dict[str, str]:
    """Return the model, rows and settings behind the page, in words."""
    config = loaded.config
    kl = f"{config.kl_weights:g} (w), {config.kl_features:g} (z)" if config.mode == "vib" else "1"
    baseline = "none" if against is None else str(against.directory or "a model in memory")
    members = len(loaded.members)
    return {
        "model": str(loaded.directory or "a model in memory"),
        **({"ensemble": f"{members} members"} if members > 1 else {}),
        "baseline": baseline,
        "data": data,
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
        "draws, seed": f"{settings.draws:,}, {settings.seed}",
        "vrm_pyro": vrm_pyro.__version__,
        "numpy": np.__version__,
    }
