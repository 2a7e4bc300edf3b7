"""What the checks of one model on some rows are computed from, each part once."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TypeVar

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.checks.log_scores import log_scores
from vrm_pyro.diagnostics.checks.rows import Rows
from vrm_pyro.diagnostics.checks.text_means import Means, text_means
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior import Draws, draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree
from vrm_pyro.prediction.predict import Predictions, predict

Floats = NDArray[np.float64]
T = TypeVar("T")


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
        """The model, or a member of an ensemble, for what all have alike; None without latents."""
        return next(iter(self.loaded.members), None)

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
    ) -> list[T]:
        """Return ``function(model, batch, conditionals)`` on ``some``, or its first prompts.

        In float64 on the CPU, on a copy of the model. For an ensemble one result a member, on
        every M-th prompt.
        """
        found, members = [], self.loaded.members
        for m, member in enumerate(members):
            with double_copy(member) as model:
                data = PromptDataset(self.some.source, *model.rating_unit)
                items = data.items[:num_prompts][m :: len(members)]
                if len(items):
                    batch = model.standardize(data.batch(items).to(torch.float64))
                    found.append(function(model, batch, model.conditionals(batch)))
        return found
