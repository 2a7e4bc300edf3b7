"""What the checks of one model on some rows are computed from, each part once."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, NamedTuple, TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import Chunk, chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows.table import first_subsets
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.guides import LabelBlindModule
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior import Draws, draw_posterior
from vrm_pyro.prediction.posterior.evidence import log_evidence
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree
from vrm_pyro.prediction.predict import Predictions, predict

Floats = NDArray[np.float64]
T = TypeVar("T")

LOO_DRAWS: Final = 128


@dataclass(frozen=True)
class Rows:
    """Rows with their states, and what checks need beside them.

    Args:
        source: States and outcomes, ratings in the objectives of the model.
        pair_subset: Subset of each pair, shape (N,); None where a pair has none.
        lengths: Characters of each response, shape (R,).
    """

    source: FeatureSource
    pair_subset: Sequence[str | None]
    lengths: NDArray[np.int64]

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return int(self.source.prompts.shape[0])

    @cached_property
    def pair_prompt(self) -> NDArray[np.int64]:
        """Prompt of each pair, shape (N,)."""
        return np.asarray(self.source.response_prompt)[np.asarray(self.source.pair_first)]

    @cached_property
    def prompt_subset(self) -> list[str]:
        """Subset of each prompt, shape (P,); empty text for none."""
        found = first_subsets(self.num_prompts, (self.pair_prompt, self.pair_subset))
        return [name or "" for name in found]


class Means(NamedTuple):
    """Means and variances given texts alone, row by row.

    Attributes:
        reward: E[r], shape (R,).
        delta_variance: Var[Delta], shape (N,).
        scores: E[s] in model units, shape (R, K); None for a model without latents.
        feature_variance: Var[z_d], shape (R, d_z); None likewise.
    """

    reward: Floats
    delta_variance: Floats
    scores: Floats | None
    feature_variance: Floats | None


@dataclass
class CheckInputs:
    """A model, rows, and everything the checks compute from them, each part when first needed.

    Args:
        loaded: The model with its settings.
        rows: All rows: for predictions, which are cheap.
        some: A part of them: for draws, importance weights, simulation and refinement.
        num_draws: Draws of each row of ``some``.
        seed: Fixes everything that is drawn.
        reference: The same model on training rows, to compare with.
        others: Log density of the preferences of each prompt of ``rows`` under other models.
        refined_prompts: Prompts of ``some`` that the guide is refined on.
        ranks: Ranks of simulated truth, which two checks share, or why there are none; None
            until one of them needs it.
    """

    loaded: LoadedModel
    rows: Rows
    some: Rows
    num_draws: int = 1000
    seed: int = 0
    reference: "CheckInputs | None" = None
    others: Mapping[str, Floats] = field(default_factory=dict)
    refined_prompts: int = 100
    ranks: "dict[str, Floats] | str | None" = None

    @property
    def vrm(self) -> VRM | None:
        """The model, if it has latent variables."""
        return self.loaded.vrm

    @cached_property
    def predictions(self) -> Predictions:
        """What texts alone predict, on all rows."""
        return predict(self.loaded.model, self.rows.source)

    @cached_property
    def preference(self) -> Floats:
        """Label of each pair of all rows, (N,)."""
        return np.asarray(self.rows.source.preference, np.float64)

    @cached_property
    def pair_weight(self) -> Floats:
        """Weight of each pair of all rows, (N,)."""
        return np.asarray(self.rows.source.pair_weight, np.float64)

    @cached_property
    def means(self) -> Means:
        """Moments given texts alone, on all rows."""
        return text_means(self.loaded, self.rows.source)

    @cached_property
    def draws(self) -> Draws:
        """Draws of latents and outcomes of ``some``."""
        return draw_posterior(self.loaded.model, self.some.source, self.num_draws, seed=self.seed)

    @cached_property
    def tree(self) -> xr.DataTree:
        """``draws`` in ArviZ's groups."""
        return to_datatree(self.draws, Names(self.loaded.objectives))

    @cached_property
    def log_scores(self) -> Floats:
        """Log density of the preferences of each prompt of all rows, (P,)."""
        return log_scores(self.loaded, self.rows.source, self.predictions.p_first, self.seed)

    def with_batch(
        self,
        function: Callable[[VRM, FeatureBatch, Conditionals], T],
        num_prompts: int | None = None,
    ) -> T:
        """Return ``function(model, batch, conditionals)`` on ``some``, or its first prompts.

        In float64 on the CPU, on a copy of the model.
        """
        assert self.vrm is not None
        with double_copy(self.vrm) as model:
            data = PromptDataset(
                self.some.source, float(model.rating_loc), float(model.rating_scale)
            )
            batch = model.standardize(data.batch(data.items[:num_prompts]).to(torch.float64))
            return function(model, batch, model.conditionals(batch))


def text_means(loaded: LoadedModel, source: FeatureSource) -> Means:
    """Return :class:`Means` of all rows, in float64 on the CPU."""
    model = loaded.model
    num_responses = source.responses.shape[0]
    reward, variance = np.zeros(num_responses), np.zeros(len(source.pair_first))
    scores = spread = None
    if loaded.vrm is not None:
        scores = np.zeros((num_responses, model.num_objectives))
        spread = np.zeros((num_responses, model.latent_dim))
    with double_copy(model) as copied:
        for chunk in chunks(PromptDataset(source)):
            batch = chunk.batch.to(torch.float64)
            found = copied.predict_responses(batch)
            reward[chunk.responses] = found.reward.mean.numpy()
            if batch.num_pairs:
                variance[chunk.pairs] = copied.pair_uncertainty(batch).total.numpy()
            latents = copied.predictive_latents(batch)
            if latents is not None and scores is not None and spread is not None:
                assert found.score_mean is not None
                scores[chunk.responses] = found.score_mean.numpy()
                spread[chunk.responses] = as_gaussian(latents.features).variance.numpy()
    return Means(reward, variance, scores, spread)


def log_scores(
    loaded: LoadedModel, source: FeatureSource, p_first: Floats, seed: int = 0
) -> Floats:
    """Return log p(preferences of each prompt | texts), w and z integrated out, shape (P,).

    By the predictive distribution of either mode, without ratings, so that models with and without
    them compare; 0 for a prompt without a comparison. The baseline's pairs are independent.
    """
    model = loaded.vrm
    if model is None:
        return _pairs_alone(source, p_first)
    found = np.zeros(source.prompts.shape[0])
    with double_copy(model) as copied:
        blind = isinstance(copied.guide, LabelBlindModule)
        for chunk in chunks(PromptDataset(source), max_pairs=1024):
            if chunk.batch.num_pairs:
                found[chunk.prompts] = _chunk_scores(copied, chunk, blind, seed)
    return found


def _pairs_alone(source: FeatureSource, p_first: Floats) -> Floats:
    loss = log_loss_values(p_first, np.asarray(source.preference, np.float64))
    value = -np.asarray(source.pair_weight) * loss
    prompt = np.asarray(source.response_prompt)[np.asarray(source.pair_first)]
    return np.bincount(prompt, value, minlength=source.prompts.shape[0]).astype(np.float64)


def _chunk_scores(model: VRM, chunk: Chunk, blind: bool, seed: int) -> Floats:
    raw = chunk.batch.to(torch.float64)
    batch = model.standardize(raw)
    batch = replace(batch, rating_mask=torch.zeros_like(batch.rating_mask))
    conditionals = model.conditionals(batch)
    if blind:
        # The fixed prior of mode vib knows no text: under it every pair is a coin.
        conditionals = replace(
            conditionals,
            weights=model.predictive_weights(raw.prompts),
            features=model.predictive_features(raw.responses),
        )
    # Propose from the prior given the text: with few outcomes a prompt it is close, and the guide
    # may be wrong.
    model.guide = LabelBlindModule()
    found = log_evidence(model, batch, replace(conditionals, ratings=None), LOO_DRAWS, seed)
    return np.asarray(found.log_prob.numpy())
