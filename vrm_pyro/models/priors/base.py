"""Base classes of priors: settings that build a module from states to a distribution."""

from typing import ClassVar

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn


class WeightPrior:
    """Base class of the priors p(w | x) over objective weights (spec 2.2).

    A child is a frozen dataclass: it is the setting and, through :meth:`build`, the object.
    """

    #: Whether p(w | x) reads the prompt; mode ``conditional`` asks for it, ``vib`` forbids it.
    conditional: ClassVar[bool]

    def build(self, hidden_size: int, num_objectives: int) -> nn.Module:
        """Return a module: prompt states (P, hidden) -> distribution, batch (P,), event (K,)."""
        raise NotImplementedError


class FeaturePrior:
    """Base class of the priors p(z | x, y) over semantic features (spec 2.2)."""

    #: Whether p(z | x, y) reads the response.
    conditional: ClassVar[bool]

    def build(self, hidden_size: int, latent_dim: int) -> nn.Module:
        """Return a module: response states (R, hidden) -> distribution over z, batch (R,)."""
        raise NotImplementedError


class FittedPrior(nn.Module):
    """Base class of prior modules that are fitted to training states before training (spec 2.2).

    Args:
        num_states: Maximum number of standardised states for :meth:`fit_states`.
    """

    num_states: int

    def fit_states(
        self,
        states: Float[Tensor, "prompts hidden"],
        rated: Bool[Tensor, "prompts rated"] | None = None,
    ) -> None:
        """Fit to standardised training states, at most ``num_states``.

        ``rated`` says whether any response of the prompt has a rating on objective k, (P, K); it
        may lack the last columns, which are objectives that are never rated.
        """
        raise NotImplementedError


class FittedFeaturePrior(nn.Module):
    """Base class of modules of p(z | x, y) that are fitted to training states before training.

    Source: spec 2.2.

    Args:
        num_states: Maximum number of standardised states for :meth:`fit_responses`.
    """

    num_states: int

    def fit_responses(
        self, states: Float[Tensor, "responses hidden"], prompt: Int[Tensor, " responses"]
    ) -> None:
        """Fit to standardised states of training responses, and the number of their prompt."""
        raise NotImplementedError


def check_positive(owner: object, **values: float) -> None:
    """Raise ValueError, with class, setting and value, for the first value that is not > 0."""
    for name, value in values.items():
        if not value > 0:
            raise ValueError(f"{type(owner).__name__}: {name} is {value}, but must be > 0.")


def check_network(owner: object, hidden_size: int, dropout: float) -> None:
    """Raise ValueError if the settings of a one-layer network are out of range."""
    name = type(owner).__name__
    if hidden_size < 0:
        raise ValueError(
            f"{name}: hidden_size is {hidden_size}, but must be >= 0 (0 is a linear map)."
        )
    if not 0 <= dropout < 1:
        raise ValueError(f"{name}: dropout is {dropout}, but must lie in [0, 1).")
