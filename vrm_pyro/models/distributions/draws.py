"""Draws of the latents from the caller's random streams, never from the global one."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.distributions.gaussian import Gaussian
from vrm_pyro.models.distributions.logistic_normal import LogisticNormal
from vrm_pyro.models.distributions.seeding import seeded

Streams = torch.Generator | Sequence[torch.Generator]
"""One random stream for all rows, or one for each row. On the CPU, whatever the device of a
distribution: a fixed seed then means the same draw everywhere."""


@dataclass(frozen=True)
class TextStreams:
    """Random streams on the CPU for parameters, w and z.

    Streams seeded by a text make its draws independent of the other rows of the batch.

    Args:
        head: For the parameters, or the member of an ensemble.
        prompts: For w, one stream, or one for each prompt.
        responses: For z, likewise for each response.
    """

    head: torch.Generator
    prompts: Streams
    responses: Streams


@singledispatch
def draw_weights(
    distribution: Any, num_draws: int, streams: Streams
) -> Float[Tensor, "draws prompts objectives"]:
    """Return draws of w.

    With a stream for each row, a row's draws depend on its own stream and distribution alone. Only
    a distribution that is not registered here is sampled for all rows at once, under a seed from
    the first stream (the global state is restored afterwards): its draws are reproducible too, but
    depend on the other rows.

    Args:
        distribution: Distribution of w, batch (P,), event (K,).
        num_draws: S.
        streams: Where randomness comes from.
    """
    stream = streams if isinstance(streams, torch.Generator) else streams[0]
    seed = int(torch.randint(2**62, (), generator=stream))
    with seeded(seed):
        return distribution.sample(torch.Size([num_draws]))


@draw_weights.register
def _(distribution: dist.Dirichlet, num_draws: int, streams: Streams) -> Tensor:
    # On the CPU in float64: at small concentrations float32 draws underflow to 0.
    alpha = distribution.concentration.detach().double().cpu()
    if isinstance(streams, torch.Generator):
        gamma = torch._standard_gamma(alpha.expand(num_draws, *alpha.shape), generator=streams)
    else:
        rows = [
            torch._standard_gamma(row.expand(num_draws, -1), generator=stream)
            for row, stream in zip(alpha, streams, strict=True)
        ]
        gamma = torch.stack(rows, dim=1)
    gamma = gamma.clamp(min=torch.finfo(gamma.dtype).tiny)
    return (gamma / gamma.sum(-1, keepdim=True)).to(distribution.concentration)


@draw_weights.register
def _(distribution: LogisticNormal, num_draws: int, streams: Streams) -> Tensor:
    noise = _normals(num_draws, distribution.loc, streams)
    return distribution.to_simplex(
        distribution.loc + torch.einsum("...de,s...e->s...d", distribution.scale_tril, noise)
    )


@draw_weights.register
def _(distribution: dist.Delta, num_draws: int, streams: Streams) -> Tensor:
    return distribution.v.expand(num_draws, *distribution.v.shape)


def draw_features(
    distribution: Gaussian, num_draws: int, streams: Streams
) -> Float[Tensor, "draws responses features"]:
    """Return draws of z.

    Args:
        distribution: Distribution of z, R rows.
        num_draws: S.
        streams: Where randomness comes from.
    """
    noise = _normals(num_draws, distribution.loc, streams)
    if distribution.diagonal:
        return distribution.loc + distribution.scale * noise
    return distribution.loc + torch.einsum("rde,sre->srd", distribution.scale, noise)


def _normals(num_draws: int, like: Tensor, streams: Streams) -> Tensor:
    rows, size = like.shape
    if isinstance(streams, torch.Generator):
        shape = (num_draws, rows, size)
        return torch.randn(shape, generator=streams, dtype=torch.float64).to(like)
    if len(streams) != rows:
        raise ValueError(f"{len(streams)} random streams for {rows} rows; give one for each.")
    each = [torch.randn(num_draws, size, generator=s, dtype=torch.float64) for s in streams]
    return torch.stack(each, dim=1).to(like)
