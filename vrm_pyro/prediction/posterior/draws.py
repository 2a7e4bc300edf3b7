"""Draws of latents and outcomes of every row: prior, posterior, and what both predict."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from tqdm.auto import tqdm

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rankings import Rankings
from vrm_pyro.data.source import OPTIONAL_COLUMNS, FeatureSource, optional_column, with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import is_gaussian
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.guides import LabelBlindModule
from vrm_pyro.models.likelihoods import Preference, Ranking
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.predictive import NUM_DRAWS
from vrm_pyro.models.ratings.gaussian import GaussianRatingsModule
from vrm_pyro.models.ratings.prompt_level import PromptLevelRatingsModule
from vrm_pyro.models.reference_kl import kl_features, kl_weights
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.vrm import VRM
from vrm_pyro.names import FEATURES, PREFERENCE, RATING, REWARD, SCORES, WEIGHTS
from vrm_pyro.prediction.opening import ModelLike, as_model, open_both
from vrm_pyro.prediction.posterior.arrays import DrawArrays, Group
from vrm_pyro.prediction.posterior.evidence import log_evidence, weighted_draws
from vrm_pyro.prediction.posterior.labels import Names, posterior_facts
from vrm_pyro.prediction.posterior.pooling import pooled
from vrm_pyro.prediction.posterior.refine import prompt_elbo
from vrm_pyro.prediction.posterior.summaries import summarize
from vrm_pyro.prediction.reward_draws import shared_scores

# Enough for a verdict of power-scaling (``psense``) on most quantities.
POSTERIOR_DRAWS: Final = 1000
# Numbers that a chunk holds over all its draws: 4 million take 32 MB in float64.
CHUNK_SIZE: Final = 4_000_000
EVIDENCE_DRAWS: Final = 512
ELBO_DRAWS: Final = 256


@dataclass(frozen=True, repr=False)
class Draws:
    """Arrays by group and name, as :mod:`vrm_pyro.prediction.posterior.to_xarray` labels them.

    Sampled arrays are (draws, items, ...), others (items, ...); items are prompts, responses or
    pairs of the feature source, in its order.

    Args:
        groups: Arrays of each group of the tree.
        num_draws: S.
        summarized: Whether the groups hold summaries of the draws instead of the draws.
        predictive_group: The group that predicts rows from their text alone, and whose
            calibration on held-out rows means something: ``prior_predictive`` in mode
            ``conditional`` (its posterior has seen the outcomes), ``posterior_predictive`` in
            mode ``vib`` (its prior has not even seen the text).
        rating_unit: What turns scores into expected raw ratings: raw = rating_loc + rating_scale
            * (s + rating_offset), the last one for each objective; empty without ratings.
        names: Names along the dimensions; None for draws of a module without its run.
        facts: What the root of a posterior file says of model and draws.
    """

    groups: Mapping[str, Group]
    num_draws: int
    predictive_group: str
    rating_unit: Mapping[str, Any]
    summarized: bool = False
    names: Names | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        what = "summaries of " if self.summarized else ""
        return f"Draws({what}{self.num_draws:,} draws: {', '.join(self.groups)})"


def draw_posterior(
    model: ModelLike | RewardModel,
    data: DataLike | FeatureSource,
    num_draws: int = POSTERIOR_DRAWS,
    *,
    seed: int = 0,
    storage: Path | None = None,
    summarized: bool = False,
    progress: bool = False,
) -> Draws:
    """Draw w, z, s, r and outcomes for every prompt, response and pair of some rows.

    Ratings count as outcomes where the model was trained on ratings, else not.

    Draws of an ensemble come from its members in turn: draw i is of member i mod M. Its scores
    are expected standardised ratings where ratings act on scores; the axes of z are those of the
    member of the draw.

    ``posterior`` holds draws of the guide's q(w, z | texts, outcomes) and ``prior`` of the
    generative p(w, z | texts): p_theta in mode ``conditional``, p_0 in ``vib``. All of it is
    computed in float64 on the CPU, chunk by chunk over prompts.

    Which response of a pair stands first is drawn by a fair coin (fixed by ``seed``; ``swapped``
    says where): rows list the preferred one first, and the calibration of labels that are all 1
    cannot be checked. The model is symmetric, so nothing else changes.

    Args:
        model: The folder of a run, a run, a loaded model or a scorer; or a module.
        data: Rows in any form, see :func:`~vrm_pyro.prediction.opening.read_inputs`; for a module
            rows with states, their ratings in raw units and in the model's objectives.
        num_draws: S.
        seed: Fixes all draws; torch's global random state is left alone.
        storage: Folder for memory-mapped arrays when the draws do not fit in memory. They live
            as long as the folder does. Omitted: arrays in memory.
        summarized: Keep mean, standard deviation and quantiles of the draws instead of the draws:
            memory and files then do not grow with their number.
        progress: Show a progress bar over prompts.

    Raises:
        InputError: If the model has no latent variables, there is nothing to draw, or the
            ratings are not those of the model's objectives.
    """
    loaded = None if isinstance(model, RewardModel) else as_model(model)
    drawn, first = _check_drawable(model if loaded is None else loaded.model, num_draws)
    _, source, table = open_both(drawn if loaded is None else model, data)
    names, facts = None, {}
    if loaded is not None and table is not None:
        source = with_objectives(source, loaded.objectives if loaded.rated else ())
        names = Names.of(table, loaded.objectives)
        facts = posterior_facts(loaded) | {"seed": seed, "num_draws": num_draws}
    _check_ratings(first, source)
    swapped = np.random.default_rng(seed).random(len(source.pair_first)) < 0.5
    arrays = DrawArrays(source, num_draws, storage)
    arrays.groups |= _data_groups(first, source, swapped)
    width = max(num_draws, EVIDENCE_DRAWS) * (drawn.num_objectives + drawn.latent_dim)
    limit = max(1, CHUNK_SIZE // width)
    with double_copy(drawn) as copied, torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        dataset = PromptDataset(source, *copied.rating_unit)
        parts = chunks(dataset, max_pairs=min(limit, 1024), max_responses=limit)
        with tqdm(
            total=len(dataset), desc="draws", unit="prompt", leave=False, disable=not progress
        ) as bar:
            for chunk in parts:
                raw = _oriented(chunk.batch.to(torch.float64), swapped[chunk.pairs])
                groups = _all_groups(copied, raw, num_draws)
                kept = summarize(groups) if summarized else groups
                for group, variables in kept.items():
                    arrays.put(group, variables, chunk)
                bar.update(len(chunk.prompts))
    label_blind = isinstance(first.guide, LabelBlindModule)
    predictive = "posterior_predictive" if label_blind else "prior_predictive"
    unit: dict[str, Any] = {}
    if isinstance(first.ratings, GaussianRatingsModule | PromptLevelRatingsModule):
        offset = first.ratings.offset.double()
        if first is not drawn:  # scores of an ensemble have the members' offsets in them
            offset = torch.zeros_like(offset)
        unit = dict(zip(("rating_loc", "rating_scale"), first.rating_unit, strict=True))
        unit["rating_offset"] = offset.tolist()
    return Draws(arrays.groups, num_draws, predictive, unit, summarized, names, facts)


def _check_drawable(model: Any, num_draws: int) -> tuple[RewardModel, VRM]:
    """Return the model and a member if it has latent variables and enough draws are asked for."""
    first = model.members[0] if isinstance(model, RewardModel) else None
    if not isinstance(first, VRM):
        raise InputError(
            f"posterior: {type(model).__name__} has no latent variables to draw. Train a model "
            "with model.architecture vrm."
        )
    if num_draws < 1:
        raise InputError(f"posterior: the number of draws is {num_draws}, but must be at least 1.")
    if num_draws < len(model.members):
        raise InputError(
            f"posterior: {num_draws} draws of an ensemble of {len(model.members)}; it takes one "
            "or more of each member."
        )
    return model, first


def _all_groups(
    model: RewardModel, raw: FeatureBatch, num_draws: int
) -> dict[str, dict[str, Tensor]]:
    """Return everything about a batch of raw states, pooled over members in equal parts."""
    found = []
    for m, member in enumerate(latent_members(model)):
        groups = _draw_groups(member, raw, len(range(m, num_draws, len(model.members))))
        for name in ("posterior", "prior"):
            values = groups[name]
            values[SCORES] = model.aligned(m, shared_scores(model, member, values[SCORES]))
            values[WEIGHTS] = model.aligned(m, values[WEIGHTS])
        found.append(groups)
    return pooled(found, num_draws)


def _draw_groups(model: VRM, raw: FeatureBatch, num_draws: int) -> dict[str, dict[str, Tensor]]:
    """Return everything about a batch of raw states, by group and name."""
    batch = model.standardize(raw)
    conditionals = model.conditionals(batch)
    w, z, log_probs = weighted_draws(model, batch, conditionals, num_draws)
    shape = torch.Size([num_draws])
    prior_w, prior_z = conditionals.weights.sample(shape), conditionals.features.sample(shape)
    evidence = log_evidence(model, batch, conditionals, EVIDENCE_DRAWS)
    elbo = _elbo(model, batch, conditionals)
    statistics = {
        "log_weight": log_probs["log_weight"],
        "lp_outcomes": log_probs["lp_outcomes"],
        "lp_ratings": log_probs["lp_ratings"],
        "lp_preferences": log_probs["lp_preferences"],
        "evidence_se": evidence.standard_error,
        "evidence_gap": evidence.log_prob - elbo["elbo"],
        "kl_weights": kl_weights(model.predictive_weights(raw.prompts)),
        "kl_features": kl_features(model.predictive_features(raw.responses)),
        **elbo,
    }
    if raw.num_pairs:
        statistics["p_first"] = model.predict_pairs(raw)
    return {
        "posterior": _quantities(batch, conditionals, w, z),
        "posterior_predictive": _outcomes(model, batch, conditionals, w, z),
        "prior": _quantities(batch, conditionals, prior_w, prior_z),
        "prior_predictive": _outcomes(model, batch, conditionals, prior_w, prior_z),
        "log_likelihood": {"outcomes": evidence.log_prob},
        "log_prior": {name: log_probs[name] for name in ("lp_w", "lp_z")},
        "sample_stats": statistics,
    }


def _quantities(
    batch: FeatureBatch, conditionals: Conditionals, w: Tensor, z: Tensor
) -> dict[str, Tensor]:
    """Return w, z and what follows from them: scores s (S, R, K) and rewards r (S, R)."""
    scores = conditionals.reward.scores(z)
    reward = conditionals.reward.rewards(w[:, batch.response_prompt], scores)
    return {WEIGHTS: w, FEATURES: z, SCORES: scores, REWARD: reward}


def _outcomes(
    model: VRM, batch: FeatureBatch, conditionals: Conditionals, w: Tensor, z: Tensor
) -> dict[str, Tensor]:
    """Draw a preference for each pair (S, N) and ratings in raw units for each response."""
    outcomes = {}
    scores = conditionals.reward.scores(z)
    if batch.num_pairs:
        delta = conditionals.reward.delta(
            w[:, batch.pair_prompt], scores[:, batch.pair_first], scores[:, batch.pair_second]
        )
        likelihood = conditionals.likelihood.given_margin(batch.pair_margin)
        drawn = Preference(delta, likelihood).sample()
        rankings = conditionals.joint_rankings(batch)
        if rankings is not None:
            reward = conditionals.reward.rewards(w[:, batch.response_prompt], scores)
            ranked = _drawn_rankings(batch, rankings, reward)
            drawn = torch.where(batch.ranked, ranked, drawn)
        outcomes[PREFERENCE] = drawn
    if conditionals.ratings is not None:
        drawn = conditionals.ratings.sample_rows(scores, batch)
        outcomes[RATING] = drawn * model.rating_scale + model.rating_loc
    return outcomes


def _drawn_rankings(batch: FeatureBatch, rankings: Rankings, reward: Tensor) -> Tensor:
    """Draw each ranking once, and return 1 where it places first above second, shape (S, N).

    Entries of plain pairs are meaningless. The pairs of one ranking are drawn together: drawn one
    by one, they could form a cycle.
    """
    distribution = Ranking(reward[:, rankings.items], rankings.mask)
    place = distribution.sample().argsort(-1).to(reward.dtype)  # (S, M, n), of the items
    assert batch.pair_ranking is not None
    row = torch.searchsorted(rankings.number, batch.pair_ranking)  # 0 for plain pairs
    first, second = (
        ((rankings.items[row] == side.unsqueeze(-1)) & rankings.mask[row]).long().argmax(-1)
        for side in (batch.pair_first, batch.pair_second)
    )
    return (place[:, row, first] < place[:, row, second]).to(reward.dtype)


def _elbo(model: VRM, batch: FeatureBatch, conditionals: Conditionals) -> dict[str, Tensor]:
    """Return the integrated ELBO of each prompt (spec 2.6) and KL(q || p) of each block.

    By draws, for a guide whose pairs have no closed expectation, and for rankings.
    """
    q_weights, q_features = model.guide.posterior(batch, conditionals)
    if is_gaussian(q_features) and conditionals.joint_rankings(batch) is None:
        elbo = prompt_elbo(batch, conditionals, q_weights, q_features, NUM_DRAWS)
    else:
        elbo = weighted_draws(model, batch, conditionals, ELBO_DRAWS)[2]["log_weight"].mean(0)
    kl_w, kl_z = kl_terms(q_weights, q_features, conditionals)
    return {"elbo": elbo, "kl_weights_guide": kl_w, "kl_features_guide": kl_z}


def _oriented(batch: FeatureBatch, swapped: NDArray[np.bool_]) -> FeatureBatch:
    """Swap first and second in some pairs."""
    other = batch.swap_pairs()
    where = torch.from_numpy(swapped)
    values = batch.as_dict()
    for name in ("pair_first", "pair_second", "preference"):
        values[name] = torch.where(where, getattr(other, name), values[name])
    return FeatureBatch(**values)


def _check_ratings(model: VRM, source: FeatureSource) -> None:
    if model.ratings is None or not source.objectives:
        return
    if len(source.objectives) != model.num_objectives:
        raise InputError(
            f"posterior: the rows rate {len(source.objectives)} objectives "
            f"({', '.join(source.objectives)}), the model has {model.num_objectives}. Load the "
            "rows with the model's objectives."
        )


def _data_groups(
    model: VRM, source: FeatureSource, swapped: NDArray[np.bool_]
) -> dict[str, Group]:
    """Return what was observed, and which rows belong together."""
    first, second = np.asarray(source.pair_first), np.asarray(source.pair_second)
    preference = np.asarray(source.preference)
    response_prompt = np.asarray(source.response_prompt)
    constant: Group = {"response_prompt": response_prompt}
    observed: Group = {}
    if len(first):
        observed[PREFERENCE] = np.where(swapped, 1 - preference, preference)
        constant |= {
            "pair_prompt": response_prompt[first],
            "pair_first": np.where(swapped, second, first),
            "pair_second": np.where(swapped, first, second),
            "pair_weight": np.asarray(source.pair_weight),
            "swapped": swapped,
        }
        for name in OPTIONAL_COLUMNS:
            column = optional_column(source, name)
            if column is not None:
                constant[name] = column
    if model.ratings is not None and source.ratings.shape[1]:
        observed[RATING] = np.asarray(source.ratings)
    return {"observed_data": observed, "constant_data": constant}
