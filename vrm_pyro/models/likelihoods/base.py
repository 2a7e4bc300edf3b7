"""Base class of preference likelihoods."""

import math
from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.models.likelihoods.quadrature import expect_normal, hermite_nodes, root


class PreferenceLikelihood(ABC):
    """Base class of the likelihoods of a preference given the reward difference Delta.

    Source: spec 2.4.

    A likelihood depends on the scalar Delta = r_first - r_second alone. It is antisymmetric:
    p(c | Delta) = p(1 - c | -Delta) exactly, so the order of the two answers does not matter.

    A preference c is one of the ``outcomes``: 0 and 1; 0, 1/2 and 1 if the likelihood has ties;
    or L grades l / (L - 1). Any other c in [0, 1] is a soft label. Its log p(c | Delta) is
    interpolated linearly between the two neighbouring outcomes: a quasi-likelihood. So c = 1/2
    is half a win and half a loss under a binary likelihood, and a tie under one with ties.

    Settings are a frozen dataclass. Without learned parameters it is the likelihood itself;
    otherwise :meth:`build` returns a module with the same methods.
    """

    #: Whether the ``margin`` of a pair is used, see :meth:`given_margin`.
    takes_margin: ClassVar[bool] = False

    #: Whether rankings of more than two have a joint likelihood, instead of one pair by pair.
    joint_rankings: ClassVar[bool] = False
    #: Whether the likelihood has label noise: flips at a rate that does not depend on Delta.
    lapses: ClassVar[bool] = False
    #: c with E p(1 | Delta) near p(1 | E Delta / sqrt(1 + c Var Delta)): pi / 8 for a sigmoid.
    flattening: ClassVar[float] = math.pi / 8

    @property
    def outcomes(self) -> tuple[float, ...]:
        """Possible values of c, in increasing order from 0 to 1 and symmetric about 1/2."""
        return (0.0, 1.0)

    def build(self) -> "PreferenceLikelihood":
        """Return the likelihood that the model uses: this object, or a module with parameters."""
        return self

    def detach(self) -> "PreferenceLikelihood":
        """Return the likelihood with detached parameters."""
        return self

    def given_margin(self, margin: Tensor | None) -> "PreferenceLikelihood":
        """Return the likelihood of pairs with a known ``margin``; ``self`` if it uses none.

        Args:
            margin: Margins, NaN where a pair has none, in a shape that broadcasts with Delta;
                None if no pair has one.
        """
        return self

    def log_prior(self) -> Tensor | float:
        """Return the log prior density of the parameters, up to a constant; 0 without any."""
        return 0.0

    @abstractmethod
    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return log p(c | Delta), elementwise.

        Args:
            delta: Reward difference, any shape.
            preference: c in [0, 1], broadcastable; 1 if the first is preferred. A value between
                two outcomes is a soft label and gives a quasi-likelihood.
        """

    @abstractmethod
    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that the first is preferred, elementwise.

        It is p(c > 1/2 | Delta) + p(c = 1/2 | Delta) / 2: a tie counts half for each answer, so
        the probabilities at Delta and -Delta sum to 1.
        """

    def expected_log_prob(
        self,
        loc: Float[Tensor, "*#shape"],
        variance: Float[Tensor, "*#shape"],
        preference: Float[Tensor, "*#shape"],
    ) -> Float[Tensor, "*#shape"]:
        """Return E log p(c | Delta) for Delta ~ N(loc, variance), elementwise (spec 2.6).

        By Gauss-Hermite quadrature, which is right to 1e-4 up to a variance of 16; likelihoods of
        sigmoids have a closed form.
        """
        nodes, mass = (
            part.reshape(-1, *[1] * loc.dim()) for part in hermite_nodes(loc)
        )  # first, so that margins and labels broadcast
        return (mass * self.log_prob(loc + root(variance) * nodes, preference)).sum(0)

    def expected_probability(
        self, loc: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Return E p(first preferred | Delta) for Delta ~ N(loc, variance), elementwise."""
        return expect_normal(self.probability, loc, variance)

    @abstractmethod
    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return the score d log p(c | Delta) / d Delta, elementwise."""

    @abstractmethod
    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the Fisher information of one label about Delta, elementwise."""

    def without_lapse(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability of the label before label noise.

        Without label noise in the likelihood, it is ``probability``.

        Args:
            probability: E p(c = 1 | Delta) over any distribution of Delta, any shape.
        """
        return probability

    def with_lapse(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability of the label from that before label noise."""
        return probability

    def outcome_probabilities(
        self, delta: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape outcomes"]:
        """Return p(c | Delta) of every outcome, in an additional last dimension."""
        values = delta.new_tensor(self.outcomes).unbind()
        return torch.stack([self.log_prob(delta, c).exp() for c in values], dim=-1)


def like(value: float | tuple[float, ...] | Tensor, delta: Tensor) -> Tensor:
    """Return a fixed or learned parameter with dtype and device of ``delta``."""
    return value.to(delta) if isinstance(value, Tensor) else delta.new_tensor(value)
