"""Expected log predictive density of a posterior file whose parameters are a point estimate."""

import math

import xarray as xr
from arviz_stats import loo
from arviz_stats.utils import ELPDData


def elpd(tree: xr.DataTree) -> ELPDData:
    """Return ArviZ's record of the log predictive density, one observation a prompt (spec 4.8).

    Without its outcomes a prompt's latents have their prior, and the parameters are fixed, so
    log p(outcomes | rest) is the log evidence itself: no importance weights are involved, and
    Pareto k is set to 0. On rows that were not trained on, this is held-out prediction;
    on training rows it is in-sample.

    Args:
        tree: What :func:`vrm_pyro.prediction.posterior.to_xarray.to_datatree` returned.
    """
    outcomes = tree["log_likelihood"].to_dataset()["outcomes"]
    uniform = xr.full_like(outcomes, -math.log(outcomes.sizes["draw"]))
    no_tail = xr.zeros_like(outcomes.isel(chain=0, draw=0, drop=True))
    return loo(tree, log_weights=uniform, pareto_k=no_tail)
