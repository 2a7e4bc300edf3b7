"""Outcome-aware guide with a normalising flow on z."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from pyro.distributions import transforms
from pyro.nn import ConditionalAutoRegressiveNN
from torch import Tensor
from torch.distributions import constraints

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.guides.base import Guide, GuideModule
from vrm_pyro.models.guides.outcome_aware import Family, OutcomeAwareModule, check_outcome_aware


@dataclass(frozen=True)
class FlowGuide(Guide):
    """`FullCovarianceGuide` with a conditional affine autoregressive flow on z (spec 2.7).

    z = loc + L T(eps), eps ~ N(0, I). T turns the Gaussian update into a skewed posterior, as a
    preference produces. It is conditioned on how far outcomes moved the mean and shrank the
    variance, and starts near the identity. Neither the KL nor the pair terms have a closed form,
    so it trains on draws: with `model.objective` `sampled`, or `pairwise`, which trains its guide
    separately.

    Args:
        hidden_size: Hidden units of the preference site and of the flow's network.
        weights: Family of q(w), as in `OutcomeAwareGuide`.
        num_transforms: Number of autoregressive layers; each reverses the order of the features.

    Raises:
        ValueError: If a setting is out of range.
    """

    hidden_size: int = 16
    weights: Family = "prior"
    num_transforms: int = 2

    outcome_aware: ClassVar[bool] = True
    gaussian: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_outcome_aware(self, self.hidden_size, self.weights)
        if self.num_transforms < 1:
            raise ValueError(
                f"FlowGuide: num_transforms is {self.num_transforms}, but must be >= 1."
            )

    def build(self, hidden_size: int, num_objectives: int, latent_dim: int) -> GuideModule:
        """Return the module."""
        return FlowModule(self.hidden_size, self.weights, latent_dim, self.num_transforms)


class FlowModule(OutcomeAwareModule):
    """The Gaussian update and the flow of :class:`FlowGuide`.

    Source: spec 2.7.
    """

    gaussian: ClassVar[bool] = False

    def __init__(
        self, hidden_size: int, family: Family, latent_dim: int, num_transforms: int
    ) -> None:
        super().__init__(hidden_size, family, full_covariance=True)
        layers = []
        for i in range(num_transforms):
            order = torch.arange(latent_dim)
            network = ConditionalAutoRegressiveNN(
                latent_dim,
                2 * latent_dim,
                [max(hidden_size, 3 * latent_dim)],
                permutation=order.flip(0) if i % 2 else order,
            )
            with torch.no_grad():
                network.layers[-1].weight.mul_(0.1)
                network.layers[-1].bias.zero_()
            layers.append(transforms.ConditionalAffineAutoregressive(network))
        self.flow = torch.nn.ModuleList(layers)

    def posterior(
        self, batch: FeatureBatch, conditionals: Conditionals
    ) -> tuple[torch.distributions.Distribution, torch.distributions.Distribution]:
        """Return q(w | x, outcomes) and the flow q(z | x, y, outcomes)."""
        q_weights, q_features = super().posterior(batch, conditionals)
        normal, prior = as_gaussian(q_features), conditionals.gaussian
        context = torch.cat(
            [
                (normal.loc - prior.loc) / prior.variance.sqrt(),
                0.5 * (normal.variance.log() - prior.variance.log()),
            ],
            -1,
        )
        base = dist.Normal(torch.zeros_like(normal.loc), 1.0).to_event(1)
        bends = [layer.condition(context) for layer in self.flow]  # type: ignore[operator]
        place = Place(normal.loc, normal.scale)
        return q_weights, dist.TransformedDistribution(base, [*bends, place])


class Place(torch.distributions.Transform):
    """Affine transform y = loc + L x with its own loc and L in each row (spec 2.7).

    Pyro's ``LowerCholeskyAffine`` has a single L for all rows.

    Args:
        loc: Shape (R, d).
        scale_tril: L, lower triangular with positive diagonal, shape (R, d, d).
    """

    domain = constraints.real_vector
    codomain = constraints.real_vector
    bijective = True

    def __init__(self, loc: Tensor, scale_tril: Tensor) -> None:
        super().__init__(cache_size=1)
        self.loc, self.scale_tril = loc, scale_tril

    def _call(self, x: Tensor) -> Tensor:
        return self.loc + (self.scale_tril @ x.unsqueeze(-1)).squeeze(-1)

    def _inverse(self, y: Tensor) -> Tensor:
        centred = (y - self.loc).unsqueeze(-1)
        return torch.linalg.solve_triangular(self.scale_tril, centred, upper=False).squeeze(-1)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the sum of log diag L, batch shape."""
        log_diagonal = self.scale_tril.diagonal(dim1=-2, dim2=-1).log()
        return log_diagonal.sum(-1).expand(x.shape[:-1])
