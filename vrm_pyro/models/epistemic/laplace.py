"""Laplace posterior of the global parameters: a full-covariance Gaussian at the estimate."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from vrm_pyro.errors import InputError
from vrm_pyro.models.epistemic.base import ParameterPosterior

# The fit holds a few float64 matrices of this size: 0.4 GB each at 7,000.
MAX_PARAMETERS = 7000
_SEED = 20260306


class LaplacePosterior(ParameterPosterior):
    """Q = N(theta, (I + P_0)^-1), with information I of the training rows and P_0 = diag s_0^-2.

    Source: spec 2.2.

    theta excludes A. Given A, features are linear in their last layer, and so are scores and
    E Delta at fixed weights. Training finds the maximum a posteriori theta. Then :meth:`fit`
    takes I, which :func:`vrm_pyro.training.laplace_fit.parameter_information` computes once.
    Before the fit, every prediction draw equals theta.

    The state dict holds the lower Cholesky factor of the precision, row by row, and the M fixed
    offsets from theta.

    Args:
        parameters: Name and initial value of every uncertain parameter.
        prior_scale: Prior standard deviation of a parameter times sqrt(inputs of its layer).
        num_draws: Number M of fixed draws for predictions.

    Raises:
        InputError: If there are more than 7,000 parameters.
    """

    penalty_name = "prior_penalty_head"
    # Data identify only the product A W of A and the last layer W of the features. With both in
    # theta, some directions carry no information. Draws along them leave the region where the
    # product is linear, and the spread of E Delta comes out many times too large.
    leaves_out = frozenset({"reward.loading"})
    precision_factor: Tensor
    offsets: Tensor

    def __init__(
        self, parameters: Mapping[str, Tensor], prior_scale: float, num_draws: int
    ) -> None:
        super().__init__(parameters, prior_scale, num_draws)
        self.size = sum(value.numel() for value in parameters.values())
        if self.size > MAX_PARAMETERS:
            largest = max(parameters, key=lambda name: parameters[name].numel())
            raise InputError(
                f"model.head_covariance is laplace, which takes at most {MAX_PARAMETERS} "
                f"parameters of the head, but here are {self.size}: "
                f"{parameters[largest].numel()} of them in {largest}. Lower "
                "feature_prior.hidden_size (0 makes it linear in the states), "
                "model.latent_dim or weight_prior.hidden_size, or set model.head_covariance to "
                "diagonal."
            )
        # Empty until fitted, so training checkpoints do not contain them.
        self.register_buffer("precision_factor", torch.zeros(0))
        self.register_buffer("offsets", torch.zeros(0))

    @property
    def fitted(self) -> bool:
        """Whether :meth:`fit` has set the covariance."""
        return self.precision_factor.numel() > 0

    def reserve(self) -> None:
        """Allocate buffers, so that a fitted state dict can be loaded."""
        self.precision_factor = self.precision_factor.new_zeros(self.size * (self.size + 1) // 2)
        self.offsets = self.offsets.new_zeros(self.num_draws, self.size)

    def flatten(self, values: list[Tensor]) -> Tensor:
        """Return parameters as one vector, shape (p,)."""
        return torch.cat([value.reshape(-1) for value in values])

    def unflatten(self, theta: Tensor) -> dict[str, Tensor]:
        """Return a vector (p,) as parameters by name."""
        shapes = [loc.shape for loc, _ in self.priors()]
        parts = torch.split(theta, [shape.numel() for shape in shapes])
        named = zip(self.names, parts, shapes, strict=True)
        return {name: part.reshape(shape) for name, part, shape in named}

    def prior_precision(self) -> Tensor:
        """Return s_0^-2 of every parameter, shape (p,)."""
        return self.flatten([scale.expand_as(loc) ** -2 for loc, scale in self.priors()])

    def fit(self, information: Tensor) -> None:
        """Set the covariance to (information + P_0)^-1.

        Args:
            information: I of all training rows, shape (p, p), float64.
        """
        precision = information + torch.diag(self.prior_precision().to(information))
        factor = torch.linalg.cholesky(precision)
        generator = torch.Generator().manual_seed(_SEED)
        noise = torch.randn(self.size, self.num_draws, generator=generator, dtype=torch.float64)
        offsets = torch.linalg.solve_triangular(factor.T, noise.to(factor), upper=True).T
        rows, columns = torch.tril_indices(self.size, self.size)
        self.precision_factor = factor[rows, columns].to(self.precision_factor)
        self.offsets = offsets.contiguous().to(self.offsets)

    def factor(self) -> Tensor:
        """Return the lower Cholesky factor L of the precision of Q, shape (p, p)."""
        if not self.fitted:
            raise RuntimeError("LaplacePosterior has no covariance yet; fit it to training rows.")
        found = self.precision_factor.new_zeros(self.size, self.size)
        rows, columns = torch.tril_indices(self.size, self.size, device=found.device)
        found[rows, columns] = self.precision_factor
        return found

    def covariance(self) -> Tensor:
        """Return the covariance of theta under Q, shape (p, p)."""
        return torch.cholesky_inverse(self.factor())

    def divergence(self, model: nn.Module) -> Tensor:
        """Return KL(Q || P) in nats for the whole data set; a scalar.

        It is 1/2 [tr(P_0 C) + (theta - theta_0)' P_0 (theta - theta_0) - p - log det(P_0 C)],
        where C is the covariance of Q.
        """
        factor, prior = self.factor(), self.prior_precision()
        # tr(P_0 C) is the squared norm of L^-1 P_0^(1/2).
        root = torch.linalg.solve_triangular(factor, torch.diag(prior.sqrt()), upper=False)
        log_det = 2 * factor.diagonal().log().sum() - prior.log().sum()
        return 0.5 * (root.square().sum() - self.size + log_det) + self.penalty(model)

    def penalty(self, model: nn.Module) -> Tensor:
        """Return -log P(theta) up to a constant: 1/2 (theta - theta_0)' P_0 (theta - theta_0)."""
        parts = [
            ((value - loc) / scale).square().sum() / 2
            for value, (loc, scale) in zip(self.values(model), self.priors(), strict=True)
        ]
        return torch.stack(parts).sum()

    def training_draw(self, model: nn.Module) -> dict[str, Tensor]:
        """Return no values: training evaluates the model at theta."""
        return {}

    def draw(
        self, model: nn.Module, generator: torch.Generator | None = None
    ) -> dict[str, Tensor]:
        """Return one draw theta + L'^-1 e, e ~ N(0, I), by name."""
        noise = torch.randn(self.size, 1, generator=generator, dtype=torch.float64)
        factor = self.factor()
        offset = torch.linalg.solve_triangular(factor.T, noise.to(factor), upper=True)
        return self.unflatten(self.flatten(self.values(model)) + offset.squeeze(-1))

    def prediction_draws(self, model: nn.Module) -> list[dict[str, Tensor]]:
        """Return the fixed draws that predictions average over; theta alone before the fit."""
        if not self.fitted:
            return [{}]
        theta = self.flatten(self.values(model))
        return [self.unflatten(theta + offset) for offset in self.offsets]
