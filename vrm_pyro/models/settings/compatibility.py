"""Check that the parts of a built model fit each other, by their distributions."""

import pyro
import torch
from pyro.infer.inspect import get_dependencies
from torch.distributions import Distribution

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.errors import InputError
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import has_closed_divergence, is_gaussian
from vrm_pyro.models.distributions.divergence import NUM_DRAWS
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.objectives import OBJECTIVES
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.models.vrm import VRM

LATENTS = (names.WEIGHTS, names.FEATURES)


def check_program(model: RewardModel, objective: str) -> list[str]:
    """Run a built model once on random states, to check that its parts fit each other.

    Args:
        model: The model, freshly built; one without latent variables passes.
        objective: Name of the training objective.

    Returns:
        One sentence for each latent whose KL has no closed form and is estimated from draws.

    Raises:
        InputError: If a distribution does not fit: features that are not Gaussian, a prior that
            the objective must reparameterise but cannot, a dependency between latents that is
            reversed in the guide, or a q(w) that the weight supervision loss does not support.
    """
    model = model.members[0]  # all are of one shape
    if not isinstance(model, VRM):
        return []
    batch = _probe(model)
    with evaluation_mode(model), torch.random.fork_rng(devices=[]):
        batch = model.standardize(batch)
        conditionals = model.conditionals(batch)
        _check_distribution(conditionals.weights, "weight_prior", 2, model.num_objectives)
        _check_distribution(conditionals.features, "feature_prior", 4, model.latent_dim)
        if not is_gaussian(conditionals.features):
            raise InputError(
                f"model.feature_prior gives a {type(conditionals.features).__name__}; every "
                "objective "
                "integrates features in closed form somewhere, so it must be a Normal with "
                "to_event(1) or a MultivariateNormal."
            )
        if objective == "pairwise" and not conditionals.weights.has_rsample:
            kind = type(conditionals.weights).__name__
            raise InputError(
                f"model.objective is pairwise, which needs reparameterised draws of the weights, "
                f"but model.weight_prior gives a {kind} without any. Use integrated, or sampled."
            )
        distributions = model.guide.posterior(batch, conditionals)
        if model.weight_power > 0:
            weights = distributions[0]
            model.weight_supervision.score(weights, torch.full_like(weights.mean, 0.5))
        _check_order(model, batch, conditionals)
    notices = []
    priors = (conditionals.weights, conditionals.features)
    for site, q, p in zip(LATENTS, distributions, priors, strict=True):
        if not has_closed_divergence(q, p):
            notices.append(
                f"KL of {site}: no closed form for {type(q).__name__} against {type(p).__name__}; "
                f"estimated from {NUM_DRAWS} draws a step, with more gradient noise."
            )
    return notices


def _check_distribution(distribution: Distribution, key: str, rows: int, size: int) -> None:
    found = tuple(distribution.batch_shape), tuple(distribution.event_shape)
    wanted = (rows,), (size,)
    if found != wanted:
        raise InputError(
            f"model.{key} gives batch shape {found[0]} and event shape {found[1]} for {rows} "
            f"states, but must give {wanted[0]} and {wanted[1]}."
        )


def _check_order(model: VRM, batch: FeatureBatch, conditionals: Conditionals) -> None:
    """Refuse a parent in the program that is a descendant in the guide (pitfall B11).

    With a closed KL the estimator takes the prior's parents at the values the guide drew; that is
    right only if those do not depend on the latent itself.
    """
    with pyro.validation_enabled(False):
        program = get_dependencies(model.program, (batch, conditionals))["prior_dependencies"]
        guide = get_dependencies(model.guide, (batch, conditionals))["prior_dependencies"]
    for latent in LATENTS:
        for parent in LATENTS:
            if parent == latent or parent not in program.get(latent, {}):  # no points in it
                continue
            if latent in guide.get(parent, {}):
                raise InputError(
                    f"model.guide draws {parent} given {latent}, but the program draws {latent} "
                    f"given {parent}: the estimate of the KL would be wrong. Let the guide follow "
                    "the program's order."
                )


def _probe(model: VRM) -> FeatureBatch:
    """Return two prompts with a pair each, random states, every rating observed."""
    parameter = next(model.parameters())
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator).to(parameter)

    objectives = model.num_objectives if model.ratings is not None else 0
    index = torch.tensor([0, 0, 1, 1], device=parameter.device)
    return FeatureBatch(
        prompts=normal(2, model.prompt_scaler.loc.shape[0]),
        responses=normal(4, model.response_scaler.loc.shape[0]),
        response_prompt=index,
        pair_first=torch.tensor([0, 2], device=parameter.device),
        pair_second=torch.tensor([1, 3], device=parameter.device),
        preference=torch.ones(2).to(parameter),
        pair_weight=torch.ones(2).to(parameter),
        ratings=torch.full((4, objectives), 0.5).to(parameter),
        rating_mask=torch.ones(4, objectives, dtype=torch.bool, device=parameter.device),
    )


def what_it_bounds(config: ModelConfig, rated: bool) -> str:
    """Return a sentence on what the training objective bounds under these settings.

    Args:
        config: Settings of a VRM.
        rated: Whether ratings enter the objective.
    """
    objective = OBJECTIVES[config.objective]
    no_bound = []
    if config.guide.point:
        no_bound.append("the guide is a point, so it is a log joint density")
    if config.mode == "vib":
        if (config.kl_weights, config.kl_features) != (1.0, 1.0):
            no_bound.append(
                f"the KL terms count {config.kl_weights:g} (weights) and "
                f"{config.kl_features:g} (features): a tempered objective"
            )
        if config.free_bits_weights or config.free_bits_features:
            no_bound.append("part of the KL is free")
        if rated and config.supervision == "weights":
            if config.weight_supervision != "cross_entropy":
                no_bound.append(f"ratings act by {config.weight_supervision}, which is a penalty")
            else:
                no_bound.append("ratings act on weights by a fractional likelihood")
    if no_bound:
        return "no bound: " + "; ".join(no_bound)
    tempered = rated and config.supervision == "scores" and config.rating_power != 1
    if tempered and not objective.bound.startswith("composite"):
        return f"{objective.bound}, ratings to the power {config.rating_power:g}"
    return objective.bound
