"""A factor on the standard deviations of a prior, set after training (spec 2.2)."""

from functools import singledispatch
from typing import Any, Final

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor, nn

from vrm_pyro.models.distributions import LogisticNormal
from vrm_pyro.models.networks import CONCENTRATION_CAP

SPREAD: Final = "spread_factor"
"""Name of the buffer in the module of a prior."""

_LEAST_CONCENTRATION = 1e-3


def add_spread(prior: nn.Module, *shape: int) -> None:
    """Let the distribution of a prior have its standard deviations times a buffer, now 1.

    Files of before have one number where there is one for each feature now.
    """
    prior.register_buffer(SPREAD, torch.ones(shape))
    prior.register_forward_hook(_spread)
    prior.register_load_state_dict_pre_hook(_expand)


def _expand(prior: nn.Module, state: dict[str, Tensor], prefix: str, *_: Any) -> None:
    if (name := prefix + SPREAD) in state:
        state[name] = state[name].expand(prior.get_buffer(SPREAD).shape)


def _spread(prior: nn.Module, _: Any, distribution: Any) -> Any:
    return with_spread(distribution, prior.get_buffer(SPREAD))


@singledispatch
def with_spread(distribution: Any, factor: Float[Tensor, "*features"]) -> Any:
    """Return a distribution with the same mean (or median) and ``factor`` times the spread.

    A Normal's standard deviations, a logistic-normal's scale of log ratios, and a Dirichlet's
    1 / sqrt(concentration) are multiplied; a Normal's by one factor or by one for each feature.
    A family that is not known stays as it is at factor 1.

    >>> with_spread(dist.Dirichlet(torch.tensor([4.0, 8.0])), torch.tensor(2.0)).concentration
    tensor([1., 2.])

    Raises:
        TypeError: If the factor is not 1 and the family is not known.
    """
    if bool((factor == 1.0).all()):
        return distribution
    raise TypeError(f"{type(distribution).__name__} has no known spread to multiply.")


def has_spread(distribution: Any) -> bool:
    """Whether :func:`with_spread` knows the family of a distribution."""
    if isinstance(distribution, dist.Independent):
        return isinstance(distribution.base_dist, dist.Normal)
    return with_spread.dispatch(type(distribution)) is not with_spread.dispatch(object)


@with_spread.register
def _(distribution: dist.Independent, factor: Tensor) -> Any:
    base = distribution.base_dist
    if not isinstance(base, dist.Normal):
        return with_spread.dispatch(object)(distribution, factor)
    return dist.Normal(base.loc, base.scale * factor).to_event(1)


@with_spread.register
def _(distribution: dist.MultivariateNormal, factor: Tensor) -> dist.MultivariateNormal:
    return dist.MultivariateNormal(
        distribution.loc, scale_tril=distribution.scale_tril * factor[..., None]
    )


@with_spread.register
def _(distribution: dist.Dirichlet, factor: Tensor) -> dist.Dirichlet:
    concentration = distribution.concentration / factor**2
    return dist.Dirichlet(concentration.clamp(_LEAST_CONCENTRATION, CONCENTRATION_CAP))


@with_spread.register
def _(distribution: LogisticNormal, factor: Tensor) -> LogisticNormal:
    return LogisticNormal(distribution.loc, distribution.scale_tril * factor)
