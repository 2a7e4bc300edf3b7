"""Refine the guide's posterior of each prompt: the amortization gap (spec 4.3)."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

import pyro.distributions as pyro_dist
import torch
import torch.distributions as dist
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import (
    Gaussian,
    LogisticNormal,
    as_gaussian,
    is_gaussian,
    weight_nodes,
)
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.guides import GuideModule
from vrm_pyro.models.networks import CONCENTRATION_CAP, CONCENTRATION_FLOOR
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.objectives.integrated import expected_preference, expected_rating
from vrm_pyro.models.vrm import VRM

# Nodes of w in the objective: fixed, so that it is a smooth function to be minimised.
NUM_NODES: Final = 256
NUM_STEPS: Final = 200


class Refined(NamedTuple):
    """Posterior of every prompt after its own optimisation.

    Attributes:
        guide: Holds the refined q(w) and q(z); takes the place of the amortized guide on the
            batch it was refined on, and on no other.
        before: ELBO of every prompt under the amortized guide, shape (P,), in nats.
        after: The same after refinement.
    """

    guide: "FixedGuide"
    before: Float[Tensor, " prompts"]
    after: Float[Tensor, " prompts"]

    @property
    def amortization_gap(self) -> Float[Tensor, " prompts"]:
        """What the network loses against the best member of its own family, nats, (P,)."""
        return self.after - self.before


class FixedGuide(GuideModule):
    """A guide whose q is given, for one batch."""

    def __init__(self, weights: dist.Distribution, features: dist.Distribution) -> None:
        super().__init__()
        self.distributions = (weights, features)

    def weights(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return the q(w) given."""
        return self.distributions[0]

    def features(self, batch: FeatureBatch, conditionals: Conditionals) -> dist.Distribution:
        """Return the q(z) given."""
        return self.distributions[1]


@dataclass(frozen=True)
class _Free:
    """Unconstrained parameters of a distribution, and the distribution they give."""

    parameters: list[Tensor]
    distribution: Callable[[], dist.Distribution]


def refine(
    model: VRM,
    batch: FeatureBatch,
    conditionals: Conditionals,
    num_steps: int = NUM_STEPS,
    num_nodes: int = NUM_NODES,
    progress: bool = False,
) -> Refined:
    """Maximise the integrated ELBO over q of each prompt, starting from the guide's q.

    The family stays: a Dirichlet or logistic-normal for w, a diagonal or full Normal or a point
    for z. The objective is a sum over prompts with fixed quadrature, so one run of L-BFGS refines
    all of them; they share step lengths alone.

    Args:
        model: The model; its parameters are left alone.
        batch: Standardised batch, float64 for small gaps.
        conditionals: Its heads.
        num_steps: Most L-BFGS iterations.
        num_nodes: Fixed nodes of w for each prompt.
        progress: Show a bar.

    Raises:
        ValueError: If q(z) is no Gaussian: a flow has no closed objective to refine.
    """
    conditionals = conditionals.detach()
    with evaluation_mode(model):
        q_weights, q_features = model.guide.posterior(batch, conditionals)
        if not is_gaussian(q_features):
            raise ValueError(
                f"refine: q(z) is a {type(q_features).__name__}; refinement needs a Gaussian "
                "q(z), as of OutcomeAwareGuide or FullCovarianceGuide."
            )
        before = prompt_elbo(batch, conditionals, q_weights, q_features, num_nodes)
    free = _free_weights(q_weights), _free_features(q_features)
    with torch.enable_grad():
        _minimise(batch, conditionals, free, num_steps, num_nodes, progress)
    with torch.no_grad():
        distributions = free[0].distribution(), free[1].distribution()
        after = prompt_elbo(batch, conditionals, *distributions, num_nodes)
        return Refined(FixedGuide(*distributions), before, after)


def prompt_elbo(
    batch: FeatureBatch,
    conditionals: Conditionals,
    q_weights: dist.Distribution,
    q_features: dist.Distribution,
    num_nodes: int = NUM_NODES,
) -> Float[Tensor, " prompts"]:
    """Return the integrated ELBO of every prompt, shape (P,), in nats (spec 2.6).

    Args:
        batch: Standardised batch.
        conditionals: Its heads.
        q_weights: q(w), batch (P,).
        q_features: q(z), Gaussian, batch (R,).
        num_nodes: Fixed nodes of w.
    """
    kl_w, kl_z = kl_terms(q_weights, q_features, conditionals)
    elbo = -kl_w.index_add(0, batch.response_prompt, kl_z)
    elbo = elbo.index_add(
        0, batch.response_prompt, expected_rating(batch, conditionals, q_features)
    )
    if batch.num_pairs == 0:
        return elbo
    nodes = weight_nodes(q_weights, num_nodes)
    mass = nodes.new_full((num_nodes,), 1 / num_nodes).log()
    pair = expected_preference(batch, conditionals, q_features, nodes, mass)
    return elbo.index_add(0, batch.pair_prompt, batch.pair_weight * pair)


def _minimise(
    batch: FeatureBatch,
    conditionals: Conditionals,
    free: tuple[_Free, _Free],
    num_steps: int,
    num_nodes: int,
    progress: bool,
) -> None:
    parameters = [*free[0].parameters, *free[1].parameters]
    optimiser = torch.optim.LBFGS(
        parameters,
        max_iter=num_steps,
        history_size=20,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        line_search_fn="strong_wolfe",
    )
    bar = tqdm(total=num_steps, desc="refine", unit="step", disable=not progress)

    def loss() -> Tensor:
        optimiser.zero_grad()
        value = -prompt_elbo(
            batch, conditionals, free[0].distribution(), free[1].distribution(), num_nodes
        ).sum()
        value.backward()  # type: ignore[no-untyped-call]
        bar.update(min(1, bar.total - bar.n))
        return value

    optimiser.step(loss)  # type: ignore[no-untyped-call]
    bar.close()


def _leaf(value: Tensor) -> Tensor:
    return value.detach().clone().requires_grad_()


def _free_weights(distribution: dist.Distribution) -> _Free:
    if isinstance(distribution, pyro_dist.Dirichlet):
        log = _leaf(distribution.concentration.log())

        def dirichlet() -> dist.Distribution:
            return pyro_dist.Dirichlet(log.exp().clamp(CONCENTRATION_FLOOR, CONCENTRATION_CAP))

        return _Free([log], dirichlet)
    if isinstance(distribution, LogisticNormal):
        loc, factor = _leaf(distribution.loc), _FreeFactor(distribution.scale_tril)
        return _Free(
            [loc, *factor.parameters], lambda: LogisticNormal(loc, factor(), validate_args=False)
        )
    point = _leaf(distribution.mean.log())
    return _Free([point], lambda: pyro_dist.Delta(torch.softmax(point, -1), event_dim=1))


def _free_features(distribution: dist.Distribution) -> _Free:
    gaussian = as_gaussian(distribution)
    loc = _leaf(gaussian.loc)
    if isinstance(distribution, pyro_dist.Delta):
        return _Free([loc], lambda: pyro_dist.Delta(loc, event_dim=1))
    if gaussian.diagonal:
        log_scale = _leaf(gaussian.scale.log())
        return _Free([loc, log_scale], lambda: Gaussian(loc, log_scale.exp()).distribution())
    factor = _FreeFactor(gaussian.scale)
    return _Free([loc, *factor.parameters], lambda: Gaussian(loc, factor()).distribution())


class _FreeFactor:
    """A lower Cholesky factor: free entries below the diagonal, log entries on it."""

    def __init__(self, factor: Tensor) -> None:
        self.below = _leaf(factor.tril(-1))
        self.log_diagonal = _leaf(factor.diagonal(dim1=-2, dim2=-1).log())

    @property
    def parameters(self) -> list[Tensor]:
        return [self.below, self.log_diagonal]

    def __call__(self) -> Tensor:
        return self.below.tril(-1) + torch.diag_embed(self.log_diagonal.exp())
