"""Diagnostics of latents and guide: from a model and rows to findings."""

from typing import Final

import numpy as np

from vrm_pyro import sites
from vrm_pyro.batch import FeatureBatch
from vrm_pyro.diagnose.material import Material
from vrm_pyro.diagnose.simulated import simulated_outcomes, truth_ranks
from vrm_pyro.diagnostics import (
    collapse,
    coverage,
    dependence,
    gaps,
    khat,
    prior_overlap,
    rating_pit,
    simulation_check,
    unit_use,
)
from vrm_pyro.diagnostics.finding import Finding, not_applicable
from vrm_pyro.diagnostics.power_scaling import MIN_DRAWS, khat_limit, smooth
from vrm_pyro.diagnostics.prior_overlap import PriorAndPosterior
from vrm_pyro.diagnostics.sensitivity import sensitivity
from vrm_pyro.evaluate import Predictions
from vrm_pyro.evidence import log_evidence
from vrm_pyro.guides import LabelBlindModule
from vrm_pyro.heads import Heads
from vrm_pyro.model import VRM
from vrm_pyro.ratings import GaussianRatings
from vrm_pyro.ratings.difference import DifferenceRatingsModule
from vrm_pyro.refine import refine

REFINE_STEPS: Final = 60
REFINE_NODES: Final = 64
EVIDENCE_DRAWS: Final = 512

NO_LATENTS: Final = "a Bradley-Terry model has no latent variables."
POINT: Final = "the guide is a point: it has no spread that could be right or wrong."
BLIND: Final = (
    "the guide does not see outcomes (mode vib), so draws given outcomes are those of the text."
)
RANKED: Final = "rankings are taken as a whole here; this check knows pairs alone."


def _no_posterior(material: Material) -> str:
    """Return why there is no posterior with a spread; empty where there is one."""
    if material.vrm is None:
        return NO_LATENTS
    return POINT if material.loaded.config.guide.point else ""


def _no_outcome_posterior(material: Material) -> str:
    """Return why there is no posterior given outcomes; empty where there is one."""
    if reason := _no_posterior(material):
        return reason
    model = material.vrm
    assert model is not None
    return BLIND if isinstance(model.guide, LabelBlindModule) else ""


def _rankings(material: Material) -> bool:
    joint = material.loaded.model.likelihood.joint_rankings
    return joint and getattr(material.some.source, "pair_ranking", None) is not None


def find_khat(material: Material) -> Finding:
    """Pareto k-hat of the guide, prompt by prompt."""
    if reason := _no_posterior(material):
        return not_applicable(khat.NAME, reason)
    if material.num_draws < MIN_DRAWS:
        return not_applicable(
            khat.NAME, f"{material.num_draws} draws; it takes {MIN_DRAWS}, better 1000 (--draws)."
        )
    return khat.khat(material.draws.groups["sample_stats"]["log_weight"])


def find_gaps(material: Material) -> Finding:
    """Evidence, amortization and approximation gap."""
    if reason := _no_posterior(material):
        return not_applicable(gaps.NAME, reason)
    model = material.vrm
    assert model is not None
    statistics = material.draws.groups["sample_stats"]
    elbo = np.asarray(statistics["elbo"])
    if not model.guide.gaussian or _rankings(material):
        evidence = elbo + np.asarray(statistics["evidence_gap"])
        return gaps.gaps(elbo, evidence, np.asarray(statistics["evidence_se"]))

    def measure(model: VRM, batch: FeatureBatch, heads: Heads) -> Finding:
        found = refine(model, batch, heads, REFINE_STEPS, REFINE_NODES)
        # The refined q proposes better.
        model.guide = found.guide
        evidence = log_evidence(model, batch, heads, EVIDENCE_DRAWS, material.seed)
        return gaps.gaps(
            found.before.numpy(),
            evidence.log_prob.numpy(),
            evidence.standard_error.numpy(),
            found.after.numpy(),
        )

    return material.with_batch(measure, material.refined_prompts)


def simulated_ranks(material: Material) -> dict[str, np.ndarray] | str:
    """Return ranks of simulated truth by quantity, or why there are none."""
    if material.ranks is None:
        material.ranks = _simulated_ranks(material)
    return material.ranks


def _simulated_ranks(material: Material) -> dict[str, np.ndarray] | str:
    """Return ranks of simulated truth by quantity, or why there are none."""
    if reason := _no_outcome_posterior(material):
        return reason
    if _rankings(material):
        return RANKED
    ratings = material.loaded.config.rating_likelihood
    power = material.loaded.config.rating_power
    if material.loaded.rated and power != 1 and not isinstance(ratings, GaussianRatings):
        return (
            f"model.rating_power is {power:g}: no ratings could be simulated from a tempered "
            f"{type(ratings).__name__}."
        )

    def measure(model: VRM, batch: FeatureBatch, heads: Heads) -> dict[str, np.ndarray]:
        made, w, z = simulated_outcomes(batch, heads, material.seed)
        laws = model.guide.posterior(made, heads)
        return truth_ranks(
            made, heads, (w, z), laws, material.loaded.objectives, seed=material.seed
        )

    return material.with_batch(measure)


def find_simulation(material: Material) -> Finding:
    """Ranks of the truth of simulated outcomes."""
    ranks = simulated_ranks(material)
    if isinstance(ranks, str):
        return not_applicable(simulation_check.NAME, ranks)
    return simulation_check.simulation_check(ranks)


def find_coverage(material: Material) -> Finding:
    """Coverage of the guide's intervals on simulated outcomes."""
    ranks = simulated_ranks(material)
    if isinstance(ranks, str):
        return not_applicable(coverage.NAME, ranks)
    return coverage.coverage(ranks)


def find_ratings(material: Material) -> Finding:
    """Where observed ratings fall among predicted ones."""
    if material.vrm is None:
        return not_applicable(rating_pit.NAME, NO_LATENTS)
    if material.vrm.ratings is None:
        return not_applicable(rating_pit.NAME, "the model was trained without ratings.")
    observed = material.draws.groups["observed_data"].get(sites.RATING)
    if observed is None or not np.isfinite(observed).any():
        return not_applicable(rating_pit.NAME, "the rows have no ratings of its objectives.")
    drawn = material.draws.groups[material.draws.predictive_group][sites.RATING]
    return rating_pit.rating_pit(
        drawn,
        observed,
        np.asarray(material.some.source.response_prompt),
        material.loaded.objectives,
        isinstance(material.vrm.ratings, DifferenceRatingsModule),
        material.seed,
    )


def find_prior(material: Material) -> Finding:
    """Overlap of prior and posterior."""
    if reason := _no_outcome_posterior(material):
        return not_applicable(prior_overlap.NAME, reason)
    if material.num_draws < MIN_DRAWS:
        return not_applicable(prior_overlap.NAME, f"it takes {MIN_DRAWS} draws (--draws).")
    groups, loaded = material.draws.groups, material.loaded
    responses = np.asarray(material.some.source.response_prompt)
    rated = np.isfinite(np.asarray(material.some.source.ratings)).any(1)
    informed = np.union1d(material.some.pair_prompt, responses[rated] if loaded.rated else [])
    smoothed = smooth(np.asarray(groups["sample_stats"]["log_weight"], np.float64))
    reliable = np.flatnonzero(smoothed.khat <= khat_limit(material.num_draws))
    prompts = np.intersect1d(informed, reliable).astype(np.int64)
    if len(prompts) < len(informed) / 2:
        return not_applicable(
            prior_overlap.NAME,
            "the guide's draws do not cover the posterior of most prompts; see khat.",
        )
    items = np.flatnonzero(np.isin(responses, prompts))
    quantities = {}
    for kind, site, rows, owner in (
        ("weight", sites.WEIGHTS, prompts, prompts),
        ("score", sites.SCORES, items, responses[items]),
    ):
        before, after = (np.asarray(groups[group][site])[:, rows] for group in _BOTH)
        weight = smoothed.weights[:, owner]
        for k, name in enumerate(loaded.objectives):
            quantities[f"{kind} {name}"] = PriorAndPosterior(
                before[..., k], after[..., k], owner, weight
            )
    tempered = loaded.rated and loaded.config.rating_power != 1
    return prior_overlap.prior_overlap(quantities, tempered)


_BOTH: Final = ("prior", "posterior")


def find_sensitivity(material: Material) -> Finding:
    """Power-scaling sensitivity."""
    if reason := _no_posterior(material):
        return not_applicable(dependence.NAME, reason)
    if material.num_draws < MIN_DRAWS:
        return not_applicable(
            dependence.NAME, f"{material.num_draws} draws; it takes {MIN_DRAWS} (--draws)."
        )
    return dependence.dependence(sensitivity(material.tree, seed=material.seed))


def find_units(material: Material) -> Finding:
    """Active units and KL by feature."""
    if material.vrm is None:
        return not_applicable(unit_use.NAME, NO_LATENTS)
    found, means = material.predictions, material.means
    assert found.expected_weights is not None
    assert found.expected_features is not None
    assert found.kl_weights is not None
    assert means.feature_variance is not None
    return unit_use.unit_use(
        found.expected_weights,
        found.expected_features,
        means.feature_variance,
        found.kl_weights,
        material.loaded.objectives,
    )


def find_collapse(material: Material) -> Finding:
    """Whether w and z ignore the text."""
    model = material.vrm
    if model is None:
        return not_applicable(collapse.NAME, NO_LATENTS)
    return collapse_of(model, material.predictions)


def collapse_of(model: VRM, found: Predictions) -> Finding:
    """Whether w and z ignore the text, by what a model predicts of it."""
    assert found.expected_features is not None
    follows = model.weights_follow_prompt
    return collapse.collapse(
        found.expected_weights if follows else None,
        found.expected_features,
        "" if follows else "w is one law for all prompts, as model.weight_prior asks",
    )
