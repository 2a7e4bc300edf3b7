"""Dirichlet prior over weights by kernel regression: similar prompts share a concentration."""

from dataclasses import dataclass
from typing import ClassVar, Final

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits, normalize

from vrm_pyro.models.networks import CONCENTRATION_FLOOR, concentration_from, inverse_softplus
from vrm_pyro.models.priors.base import FittedPrior, WeightPrior, check_positive

# Kernel values sum to 1 over the centres. With this factor, coefficients train at the learning
# rate of the other networks.
_GAIN: Final = 100.0
# Number of states that place the centres; memory of the tree grows with its square.
_STATES_PER_CENTRE: Final = 64
_MOST_STATES: Final = 4096
_RIDGE: Final = 0.1


@dataclass(frozen=True)
class KernelDirichletPrior(WeightPrior):
    """Conditional prior p(w | x) = Dir(alpha(h)), linear in normalised RBF features of h.

    Source: spec 2.2.

    Like :class:`ConditionalDirichletPrior`, but prompts near one centre share the evidence of
    their pairs about w. With a few hundred prompts, a network on the raw state overfits to each
    prompt's own pairs; a few narrow centres cannot.

    phi_m(h) = softmax_m(-||u(h) - c_m||^2 / bandwidth), with u(h) = (h / ||h||, relevance *
    rho(h)) and c_m the means of the Ward clusters of the training prompts. rho_k(h) is the
    probability that objective k is rated on such a prompt: a ridge logistic regression on the
    training prompts. Raters often leave out objectives that do not apply, so missing ratings
    tell kinds of prompt apart. Prediction computes rho from the prompt alone.

    Args:
        num_centres: Number of centres: about the number of kinds of prompt. With fewer training
            prompts, every prompt is a centre.
        bandwidth: Squared distance at which the kernel has fallen by a factor e. Two directions
            are at most 4 apart in squared distance, and about 2 for unrelated prompts.
        relevance: Factor on rho: the distance that separates probabilities 0 and 1 of one
            objective. 0 leaves ratings out.
        initial_concentration: Mean concentration per objective before training.

    Raises:
        ValueError: If a setting is out of range.
    """

    num_centres: int = 32
    bandwidth: float = 0.1
    relevance: float = 1.0
    initial_concentration: float = 2.0

    conditional: ClassVar[bool] = True

    def __post_init__(self) -> None:
        check_positive(
            self,
            num_centres=self.num_centres,
            bandwidth=self.bandwidth,
            initial_concentration=self.initial_concentration,
        )
        if self.relevance < 0:
            raise ValueError(
                f"KernelDirichletPrior: relevance is {self.relevance}, but must be >= 0 (0 leaves "
                f"ratings out)."
            )

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return the module for prompt states of size ``hidden_size``."""
        return KernelDirichlet(hidden_size, num_objectives, self)


class KernelDirichlet(FittedPrior):
    """The module of :class:`KernelDirichletPrior`; call :meth:`fit_states` before training.

    Source: spec 2.2.
    """

    centres: Tensor
    relevance_weight: Tensor
    relevance_bias: Tensor

    def __init__(
        self, hidden_size: int, num_objectives: int, settings: KernelDirichletPrior
    ) -> None:
        super().__init__()
        self.bandwidth, self.relevance = settings.bandwidth, settings.relevance
        self.num_states = max(
            settings.num_centres, min(_STATES_PER_CENTRE * settings.num_centres, _MOST_STATES)
        )
        self.register_buffer(
            "centres",
            normalize(torch.randn(settings.num_centres, hidden_size + num_objectives), dim=-1),
        )
        self.register_buffer("relevance_weight", torch.zeros(num_objectives, hidden_size))
        self.register_buffer("relevance_bias", torch.zeros(num_objectives))
        self.coefficients = nn.Linear(settings.num_centres, num_objectives + 1)
        nn.init.zeros_(self.coefficients.weight)
        nn.init.zeros_(self.coefficients.bias)
        self.offset = inverse_softplus(
            num_objectives * max(settings.initial_concentration - CONCENTRATION_FLOOR, 1e-3)
        )

    def fit_states(self, states: Tensor, rated: Tensor | None = None) -> None:
        """Fit the regression rho and the centres.

        Args:
            states: Standardised states of training prompts, (P, hidden).
            rated: Whether any response of the prompt has a rating on objective k, shape (P, K) or
                its first columns. Prompts without any rating are not used for rho.
        """
        states = states.to(self.centres.dtype)
        if rated is not None and self.relevance:
            self._fit_relevance(normalize(states, dim=-1), rated)
        with torch.no_grad():
            self.centres.copy_(_ward_centres(self._position(states), len(self.centres)))

    def relevances(self, prompts: Tensor) -> Tensor:
        """Return the probability that each objective is rated, (P, K); 1/2 where it is not fit."""
        return self._relevances(normalize(prompts, dim=-1))

    def forward(self, prompts: Tensor) -> dist.Dirichlet:
        """Return p(w | x), batch (P,), event (K,), for standardised states."""
        # |u|^2 is the same for all centres: it cancels in the softmax.
        cross = self._position(prompts) @ self.centres.T
        negative_distance = 2 * cross - self.centres.square().sum(-1)
        kernel = _GAIN * torch.softmax(negative_distance / self.bandwidth, dim=-1)
        out = self.coefficients(kernel)
        return dist.Dirichlet(concentration_from(out[..., :-1], out[..., -1:] + self.offset))

    def _relevances(self, directions: Tensor) -> Tensor:
        return torch.sigmoid(directions @ self.relevance_weight.T + self.relevance_bias)

    def _position(self, prompts: Tensor) -> Tensor:
        directions = normalize(prompts, dim=-1)
        return torch.cat([directions, self.relevance * self._relevances(directions)], dim=-1)

    def _fit_relevance(self, directions: Tensor, rated: Tensor) -> None:
        known = rated.any(-1)
        if not known.any():
            return
        target = rated[known].to(torch.float64)
        varies = target.min(0).values < target.max(0).values
        columns = varies.nonzero().squeeze(-1)
        if len(columns) == 0:
            return
        weight, bias = _logistic_regression(directions[known].double(), target[:, columns])
        with torch.no_grad():
            self.relevance_weight[columns] = weight.to(self.relevance_weight.dtype)
            self.relevance_bias[columns] = bias.to(self.relevance_bias.dtype)


def _logistic_regression(inputs: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    """Return weights (K, hidden) and biases (K,) of ridge logistic regressions, one per column."""
    weight = torch.zeros(target.shape[1], inputs.shape[1], dtype=inputs.dtype, requires_grad=True)
    bias = torch.logit(target.mean(0)).requires_grad_()
    optimizer = torch.optim.LBFGS([weight, bias], max_iter=200, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        logits = inputs @ weight.T + bias
        value = binary_cross_entropy_with_logits(logits, target, reduction="sum")
        value = value + 0.5 * _RIDGE * weight.square().sum()
        value.backward()  # type: ignore[no-untyped-call]
        return value

    with torch.enable_grad():
        optimizer.step(loss)  # type: ignore[arg-type]
    return weight.detach(), bias.detach()


def _ward_centres(points: Tensor, num_centres: int) -> Tensor:
    """Return the means of the Ward clusters of points; deterministic."""
    if len(points) > num_centres:
        from scipy.cluster.hierarchy import fcluster, linkage  # slow to import, seldom needed

        tree = linkage(points.double().numpy(), "ward")
        own = torch.from_numpy(fcluster(tree, num_centres, "maxclust").astype("int64")) - 1
        size = torch.bincount(own)
        points = points.new_zeros(len(size), points.shape[1]).index_add(0, own, points)
        points = points / size.unsqueeze(-1)
    # Repeat centres where there are fewer prompts, or ties: a repeated centre changes nothing.
    return points[torch.arange(num_centres) % len(points)]
