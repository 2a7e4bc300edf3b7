"""Base class of objectives, their weights and their terms."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from pyro.infer import ELBO
from pyro.infer.enum import get_importance_trace
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import divergence
from vrm_pyro.models.local_parameters import local_parameters
from vrm_pyro.models.vrm import VRM


@dataclass(frozen=True)
class Weights:
    """Weights and floors of the KL terms on one step (spec 2.7).

    >>> Weights().tempered, Weights(kl_weights=0.5).tempered
    (False, True)

    Args:
        kl_weights: kappa_w. Unless it is 1, the objective is tempered and not an ELBO.
        kl_features: kappa_z.
        free_weights: Free bits of w in nats per prompt: the batch mean of KL(w) counts only
            above this floor.
        free_features: Free bits of z in nats per response.
    """

    kl_weights: float = 1.0
    kl_features: float = 1.0
    free_weights: float = 0.0
    free_features: float = 0.0

    @property
    def tempered(self) -> bool:
        """Whether any weight differs from 1 or any floor is set."""
        return self != Weights()


@dataclass(frozen=True)
class Terms:
    """Value of an objective on one batch, in nats summed over the batch, and its parts (spec 2.6).

    Args:
        objective: What is maximised, with every weight; scalar, carries the gradient.
        preference: Expected (or marginal) log-likelihood of the preferences.
        rating: Expected (or marginal) log-likelihood of the ratings, times lambda.
        kl_weights: KL(q(w) || p(w)), unweighted, summed over prompts.
        kl_features: KL(q(z) || p(z)), unweighted, summed over responses.
    """

    objective: Float[Tensor, ""]
    preference: Float[Tensor, ""]
    rating: Float[Tensor, ""]
    kl_weights: Float[Tensor, ""]
    kl_features: Float[Tensor, ""]

    @property
    def elbo(self) -> Float[Tensor, ""]:
        """Preference + rating - KL, with weight 1 and without free bits; for reports."""
        return self.preference + self.rating - self.kl_weights - self.kl_features


class Objective(ELBO):
    """Base class of objectives: Pyro ELBOs of a VRM and a guide on a batch and its conditionals.

    Source: spec 2.6.

    ``objective(vrm, guide)`` is Pyro's ``ELBOModule``, whose forward returns the loss: minus the
    objective, divided by the number of prompts.
    """

    name: ClassVar[str]
    #: A phrase for reports: what the value bounds.
    bound: ClassVar[str]
    supports_tempering: ClassVar[bool] = True
    supports_free_bits: ClassVar[bool] = True
    single_use_responses: ClassVar[bool] = False
    outcome_aware_only: ClassVar[bool] = False

    def terms(
        self,
        model: VRM,
        guide: nn.Module,
        batch: FeatureBatch,
        conditionals: Conditionals,
        weights: Weights,
    ) -> Terms:
        """Evaluate the objective on a standardised batch."""
        raise NotImplementedError

    @local_parameters()
    def differentiable_loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> Tensor:
        """Return minus the objective per prompt: the loss to minimise."""
        batch, conditionals, *rest = args
        weights = rest[0] if rest else Weights()
        return (
            -self.terms(model, guide, batch, conditionals, weights).objective / batch.num_prompts
        )

    def loss(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Return :meth:`differentiable_loss` as a number."""
        with torch.no_grad():
            return self.differentiable_loss(model, guide, *args, **kwargs).item()

    def loss_and_grads(self, model: Any, guide: Any, *args: Any, **kwargs: Any) -> float:
        """Backpropagate the loss and return it."""
        loss = self.differentiable_loss(model, guide, *args, **kwargs)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    @local_parameters()
    def _get_trace(self, model: Any, guide: Any, args: Any, kwargs: Any) -> Any:
        # Pyro's base class requires it; users may call it to get a plain pair of traces.
        return get_importance_trace("flat", 1, model, guide, args, kwargs)


def kl_terms(
    q_weights: torch.distributions.Distribution,
    q_features: torch.distributions.Distribution,
    conditionals: Conditionals,
) -> tuple[Float[Tensor, " prompts"], Float[Tensor, " responses"]]:
    """Return KL(q(w) || p(w)) and KL(q(z) || p(z))."""
    return divergence(q_weights, conditionals.weights), divergence(
        q_features, conditionals.features
    )


def charged(kl: Float[Tensor, " rows"], weight: float, floor: float) -> Float[Tensor, ""]:
    """Return the KL term of a block: weight * max(batch mean, floor), summed over the batch.

    The floor acts on the batch mean (spec 2.7), so single items may use more than others.
    """
    if floor == 0:
        return weight * kl.sum()
    return weight * kl.numel() * kl.mean().clamp(min=floor)
