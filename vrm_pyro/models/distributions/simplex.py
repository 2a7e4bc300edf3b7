"""Nodes and moments of a distribution of objective weights."""

from collections.abc import Callable
from functools import singledispatch
from typing import Any, Final, NamedTuple

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.distributions.gamma_quantiles import log_gamma_quantiles
from vrm_pyro.models.distributions.logistic_normal import NUM_NODES, LogisticNormal, contrast_basis
from vrm_pyro.models.distributions.quasi_random import SEED, ranks
from vrm_pyro.models.distributions.seeding import seeded

Distribution = torch.distributions.Distribution
NodeReader = Callable[[Tensor], Tensor]

# Of p(first preferred), 64 nodes of w leave an error of .014, 1024 of .001 (spec 2.9).
NUM_DRAWS: Final = 1024


class WeightMoments(NamedTuple):
    """First two moments of w (spec 2.9).

    Attributes:
        mean: E w, shape (..., K).
        covariance: Cov w, shape (..., K, K); its rows sum to 0.
    """

    mean: Float[Tensor, "*rows objectives"]
    covariance: Float[Tensor, "*rows objectives objectives"]

    def rows(self, index: Tensor) -> "WeightMoments":
        """Return the moments of some rows."""
        return WeightMoments(self.mean[index], self.covariance[index])


@singledispatch
def weight_nodes(
    distribution: Any, num_draws: int = NUM_DRAWS
) -> Float[Tensor, "draws *rows objectives"]:
    """Return fixed, equally weighted nodes of w.

    For Dirichlet and logistic-normal: scrambled Sobol points through the inverse distribution
    functions, the same for every prompt and call, so a score depends on its text alone and not
    on batch mates, order or a seed. The first nodes are spread as all of them are. Differentiable
    in the parameters. Another family is sampled under a fixed seed, which leaves the caller's
    random state alone.

    Args:
        distribution: Distribution of w, batch (P,), event (K,).
        num_draws: S.
    """
    with seeded(SEED):
        draw = distribution.rsample if distribution.has_rsample else distribution.sample
        return draw(torch.Size([num_draws]))


@singledispatch
def node_reader(distribution: Any, num_draws: int = NUM_DRAWS) -> NodeReader:
    """Return a function from rows (n,) to their :func:`weight_nodes`, (S, n, K).

    Nodes of known families are computed when they are asked for: those of a few rows stay in the
    cache of the processor, where those of all would not.
    """
    nodes = weight_nodes(distribution, num_draws)
    return lambda rows: nodes[:, rows]


@node_reader.register
def _(distribution: dist.Dirichlet, num_draws: int = NUM_DRAWS) -> NodeReader:
    alpha = distribution.concentration
    return lambda rows: weight_nodes(dist.Dirichlet(alpha[rows], validate_args=False), num_draws)


@node_reader.register
def _(distribution: LogisticNormal, num_draws: int = NUM_DRAWS) -> NodeReader:
    loc, factor = distribution.loc, distribution.scale_tril
    return lambda rows: LogisticNormal(loc[rows], factor[rows], validate_args=False).nodes(
        num_draws
    )


@singledispatch
def weight_moments(distribution: Any) -> WeightMoments:
    """Return mean and covariance of w: closed form for a Dirichlet, else by fixed nodes.

    >>> weight_moments(dist.Dirichlet(torch.tensor([[2.0, 1.0, 1.0]]))).mean
    tensor([[0.5000, 0.2500, 0.2500]])
    """
    nodes = weight_nodes(distribution, NUM_NODES)
    mean = nodes.mean(0)
    centred = nodes - mean
    return WeightMoments(mean, torch.einsum("spk,spl->pkl", centred, centred) / len(nodes))


@singledispatch
def expected_log(distribution: Any) -> Float[Tensor, "*rows objectives"]:
    """Return E log w_k: closed form for a Dirichlet, else by fixed nodes."""
    nodes = weight_nodes(distribution, NUM_NODES)
    return nodes.clamp(min=torch.finfo(nodes.dtype).tiny).log().mean(0)


@weight_nodes.register
def _(distribution: dist.Dirichlet, num_draws: int = NUM_DRAWS) -> Tensor:
    """Gamma nodes, divided by their sum."""
    alpha = distribution.concentration
    log_gamma = log_gamma_quantiles(alpha, num_draws)  # (..., K, S)
    order = torch.from_numpy(ranks(num_draws, alpha.shape[-1]).T.copy()).to(alpha.device)
    log_gamma = log_gamma.gather(-1, order.expand_as(log_gamma))
    # 0 would leave the open simplex.
    w = torch.softmax(log_gamma, -2).clamp(min=torch.finfo(alpha.dtype).tiny)
    return w.movedim(-1, 0)


@weight_moments.register
def _(distribution: dist.Dirichlet) -> WeightMoments:
    """C_w = (diag m - m m') / (alpha_0 + 1) (spec 2.9)."""
    total = distribution.concentration.sum(-1, keepdim=True)
    mean = distribution.concentration / total
    outer = mean.unsqueeze(-1) * mean.unsqueeze(-2)
    return WeightMoments(mean, (torch.diag_embed(mean) - outer) / (total.unsqueeze(-1) + 1))


@expected_log.register
def _(distribution: dist.Dirichlet) -> Tensor:
    total = distribution.concentration.sum(-1, keepdim=True)
    return torch.digamma(distribution.concentration) - torch.digamma(total)


@weight_nodes.register
def _(distribution: LogisticNormal, num_draws: int = NUM_DRAWS) -> Tensor:
    return distribution.nodes(num_draws)


@expected_log.register
def _(distribution: LogisticNormal) -> Tensor:
    """E log w_k = (H loc)_k - E logsumexp(H u): the second part alone needs nodes (spec 2.6)."""
    basis = contrast_basis(distribution.loc.shape[-1] + 1, distribution.loc)
    log_ratio = distribution.loc @ basis.T
    return log_ratio - distribution.expected_normaliser().unsqueeze(-1)


@weight_nodes.register
def _(distribution: dist.Delta, num_draws: int = NUM_DRAWS) -> Tensor:
    return distribution.v.expand(num_draws, *distribution.v.shape)


@weight_moments.register
def _(distribution: dist.Delta) -> WeightMoments:
    mean = distribution.v
    size = mean.shape[-1]
    return WeightMoments(mean, mean.new_zeros(*mean.shape[:-1], size, size))


@expected_log.register
def _(distribution: dist.Delta) -> Tensor:
    return distribution.v.clamp(min=torch.finfo(distribution.v.dtype).tiny).log()
