"""Normal prior of features that follows the response only as far as the data give evidence."""

from dataclasses import dataclass
from typing import ClassVar

import pyro.distributions as dist
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from vrm_pyro.models.priors.base import FeaturePrior, FittedFeaturePrior, check_positive
from vrm_pyro.models.priors.shrinkage import ShrinkageMap

_LOG_SCALE_CAP = 6.0


@dataclass(frozen=True)
class ShrinkageNormalPrior(FeaturePrior):
    """p(z | x, y) = N(b + tau V phi(h), diag sigma(h)^2), linear and shrunk by the evidence.

    Source: spec 2.2. phi(h) are principal components of the response states within prompts. Each
    entry of V has the prior N(0, 1) and a Gaussian posterior, and each feature has its own learned
    tau: a Bayesian ridge regression whose penalty is learned with everything else, so it neither
    needs dropout nor a good moment to stop. log sigma is a map of the same kind. The posterior of
    V stays in predictions: where training data say little, rewards are unsure (epistemic).

    Args:
        num_directions: Principal components; at most the number of training responses is used.
        initial_scale: tau at the start: the standard deviation of a feature within a prompt.
        initial_sd: sigma at the start, in units of z.

    Raises:
        ValueError: If a setting is out of range.

    >>> prior = ShrinkageNormalPrior().build(hidden_size=5, latent_dim=3)
    >>> prior.fit_responses(torch.randn(40, 5), torch.arange(40) // 4)
    >>> p_z = prior(torch.zeros(4, 5))
    >>> p_z.batch_shape, p_z.event_shape
    (torch.Size([4]), torch.Size([3]))
    """

    num_directions: int = 1024
    initial_scale: float = 0.3
    initial_sd: float = 0.5

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            self,
            num_directions=self.num_directions,
            initial_scale=self.initial_scale,
            initial_sd=self.initial_sd,
        )

    def build(self, hidden_size: int, latent_dim: int) -> nn.Module:
        """Return the module for response states of size ``hidden_size``."""
        return ShrinkageNormal(hidden_size, latent_dim, self)


class ShrinkageNormal(ShrinkageMap, FittedFeaturePrior):
    """The module of :class:`ShrinkageNormalPrior`; call :meth:`fit_responses` before training."""

    gain = 30.0

    def __init__(self, hidden_size: int, latent_dim: int, settings: ShrinkageNormalPrior) -> None:
        super().__init__(
            hidden_size,
            2 * latent_dim,
            settings.num_directions,
            settings.initial_scale,
            initial_share=0.4,  # with q = p at the start, the draws drown the first steps
        )
        self.latent_dim = latent_dim
        self.bias = nn.Parameter(torch.zeros(2 * latent_dim))
        with torch.no_grad():  # features without a rating are interchangeable: start them apart
            self.loc.normal_(0.0, 0.1 / self.gain)
        self.initial_sd = settings.initial_sd

    def fit_responses(
        self, states: Float[Tensor, "responses hidden"], prompt: Int[Tensor, " responses"]
    ) -> None:
        """Place the directions: principal components of standardised states within prompts.

        Preferences, and ratings in part, compare responses to one prompt. Where no prompt has two
        responses, the components are those of all states.
        """
        mean = states.new_zeros(int(prompt.max()) + 1, states.shape[1])
        count = prompt.bincount().clamp(min=1)[:, None]
        mean = mean.index_add(0, prompt, states) / count
        within = states - mean[prompt]
        self.place(within if bool(within.abs().max() > 1e-6) else states - states.mean(0))

    def difference_variance(
        self, states: Tensor, first: Int[Tensor, " pairs"], second: Int[Tensor, " pairs"]
    ) -> Float[Tensor, "pairs features"]:
        """Return the variance of loc_first - loc_second under q(V), for standardised states."""
        phi = self.components(states)
        return self.variance(phi[first] - phi[second])

    def variance(self, phi: Float[Tensor, "rows size"]) -> Float[Tensor, "rows features"]:
        """Return the variance under q(V) of E z at phi; of a difference, at that of phi."""
        share = self._scale[: self.latent_dim].square()
        return self.tau[: self.latent_dim].square() * (phi.square() @ share.T)

    def shifts(
        self, phi: Float[Tensor, "rows size"], draws: Float[Tensor, "draws outputs size"]
    ) -> Float[Tensor, "draws rows features"]:
        """Return what draws of the map (:meth:`draw_map`) add to E z at phi.

        >>> prior = ShrinkageNormalPrior().build(hidden_size=5, latent_dim=3)
        >>> prior.shifts(torch.ones(4, 5), torch.stack([prior.draw_map(), prior.draw_map()])).shape
        torch.Size([2, 4, 3])
        """
        moved = self.gain * (draws - self.loc)[:, : self.latent_dim]
        found = (phi @ moved.flatten(0, 1).T).unflatten(1, moved.shape[:2])
        return self.tau[: self.latent_dim] * found.movedim(1, 0)

    def variance_within(
        self, states: Tensor, prompt: Int[Tensor, " responses"]
    ) -> Float[Tensor, "responses features"]:
        """Return the variance of each loc beside those of its prompt under q(V).

        Scaled so that the two of a prompt with two responses add up to that of their difference.
        """
        count = prompt.bincount()[prompt].unsqueeze(-1)
        zero = states.new_zeros(int(prompt.max()) + 1, states.shape[1])
        mean = zero.index_add(0, prompt, states)[prompt] / count
        return self.variance(self.components(states - mean)) * count / (count - 1).clamp(min=1)

    def draw_map(self, generator: torch.Generator | None = None) -> Tensor:
        """Return a draw of the part of ``loc`` that gives E z; that of log sigma is its mean."""
        drawn = super().draw_map(generator)
        return torch.cat([drawn[: self.latent_dim], self.loc[self.latent_dim :]])

    def forward(self, responses: Tensor, groups: Tensor | None = None) -> dist.Independent:
        """Return p(z | x, y), batch (R,), event (d,), for standardised states.

        Args:
            responses: Standardised states.
            groups: Number of the prompt of each response. In training, responses to one prompt
                share the draw of V.
        """
        return self.given_components(self.components(responses), groups)

    def given_components(
        self, phi: Float[Tensor, "responses size"], groups: Tensor | None = None
    ) -> dist.Independent:
        """Return the same from phi(h), which :meth:`components` gives."""
        out = self.gain * self.bias + self.mapped(phi, groups)
        loc, log_scale = out.chunk(2, dim=-1)
        scale = self.initial_sd * log_scale.clamp(-_LOG_SCALE_CAP, _LOG_SCALE_CAP).exp()
        return dist.Normal(loc, scale).to_event(1)
