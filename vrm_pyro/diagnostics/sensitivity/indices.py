"""Power-scaling indices of the quantities of a posterior, prompt by prompt (spec 4.9)."""

from dataclasses import dataclass
from typing import Final

import numpy as np
import xarray as xr
from numpy.typing import NDArray

COMPONENT_DIM: Final = "component"

# Parts of the joint density of a prompt, each power-scaled separately.
PRIOR: Final = "prior"
LIKELIHOOD: Final = "likelihood"
WEIGHTS_PRIOR: Final = "weights prior"
FEATURES_PRIOR: Final = "features prior"
RATINGS: Final = "ratings"
PREFERENCES: Final = "preferences"


@dataclass(frozen=True, repr=False)
class Indices:
    """Power-scaling index of each quantity for each part of its prompt's joint density.

    Args:
        index: ``w`` (component, prompt, objective), ``s`` (component, response, objective),
            ``r`` (component, response) and, where there are pairs, ``delta`` (component, pair);
            see :func:`vrm_pyro.diagnostics.metrics.power_scaling.power_scaling_index`. NaN where
            a log density of the prompt is not finite.
        khat: Largest Pareto k of the weights involved, (component, prompt).
        prompt: Position of the prompt of each item, by quantity.
        noise: The index that this number of draws gives without any sensitivity: 90% quantile,
            over items with reliable weights, of the index of a part whose draws were shuffled.
            By quantity, (component,); NaN without such items.
        num_draws: S.
    """

    index: xr.Dataset
    khat: xr.DataArray
    prompt: dict[str, NDArray[np.int64]]
    noise: xr.Dataset
    num_draws: int
