"""Some prompts as one batch, as program and guide of a model read them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.vrm import VRM


def standard_batch(
    model: VRM,
    rows: Inputs | FeatureSource,
    prompts: Sequence[int] | NDArray[np.int64] | None = None,
) -> FeatureBatch:
    """Return prompts as one batch of standardised states and ratings, in the model's precision.

    What ``model.program``, ``model.guide``, :func:`log_evidence`, :func:`weighted_draws` and
    :func:`refine` read. They compare densities, so double the model first::

        model = vrm_pyro.load_model("runs/rated").model.double().eval()
        batch = posterior.standard_batch(model, test, [0, 1, 2])
        heads = model.conditionals(batch)
        posterior.log_evidence(model, batch, heads).log_prob  # of each prompt, nats

    Args:
        model: The module; its units of states and ratings count.
        rows: Rows with states. Their ratings are left out where the model reads none.
        prompts: Which prompts, in this order, each with all its responses and pairs; all when
            omitted.
    """
    source = rows.source if isinstance(rows, Inputs) else rows
    if model.ratings is None:
        source = with_objectives(source, ())
    data = PromptDataset(source, float(model.rating_loc), float(model.rating_scale))
    chosen = None if prompts is None else np.asarray(prompts, np.int64)
    return model.standardize(data.batch(chosen).to(model.rating_loc.dtype))
