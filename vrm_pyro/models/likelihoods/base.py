"""Base class of preference likelihoods."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch
from jaxtyping import Float
from torch import Tensor


class PreferenceLikelihood(ABC):
    """Base class of the likelihoods of a preference given the reward difference Delta.

    All of them are functions of the scalar Delta = r_first - r_second alone (spec 2.4).
    Exchanging the two answers must turn Delta into -Delta and c into 1 - c, exactly.

    A preference c is one of the ``outcomes``: 0 and 1, or 0, 1/2 and 1 where a tie is an outcome
    of its own, or L grades l / (L - 1). Any other c in [0, 1] is a soft label: log p(c | Delta)
    is the linear interpolation between the log-probabilities of the two outcomes beside it, a
    quasi-likelihood. So c = 1/2 is half a win and half a loss under a binary likelihood, and a
    tie under one with ties.

    An entry of the table is a frozen dataclass. With nothing to learn it is the likelihood
    itself; otherwise :meth:`build` returns a module with the same methods.
    """

    #: Whether a pair's own ``margin`` means something, see :meth:`given_margin`.
    takes_margin: ClassVar[bool] = False

    #: Whether rankings of more than two are taken as a whole, instead of pair by pair.
    joint_rankings: ClassVar[bool] = False
    #: Whether labels are noisy: flipped at a rate that does not depend on Delta.
    lapses: ClassVar[bool] = False

    @property
    def outcomes(self) -> tuple[float, ...]:
        """Values of c that are observed, rising from 0 to 1 and symmetric about 1/2."""
        return (0.0, 1.0)

    def build(self) -> "PreferenceLikelihood":
        """Return what the model uses: this object, or a module that has parameters."""
        return self

    def detach(self) -> "PreferenceLikelihood":
        """Return the likelihood with its parameters held fixed."""
        return self

    def given_margin(self, margin: Tensor | None) -> "PreferenceLikelihood":
        """Return the likelihood of pairs whose ``margin`` is known; itself where none counts.

        Args:
            margin: Margins, NaN where a pair has none, in a shape that broadcasts with the Delta
                that follows; None where no pair has one.
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
            preference: c in [0, 1], broadcastable; 1 if the first is preferred. Between two
                outcomes it is a soft label, and the value a quasi-likelihood.
        """

    @abstractmethod
    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that the first is preferred, elementwise.

        It is p(c > 1/2 | Delta) + p(c = 1/2 | Delta) / 2: a tie counts half for either answer,
        so that the probabilities at Delta and at -Delta sum to 1.
        """

    @abstractmethod
    def score(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return d log p(c | Delta) / d Delta, elementwise: the pull of a label on Delta."""

    @abstractmethod
    def information(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the Fisher information of one label about Delta, elementwise."""

    def without_lapse(self, probability: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability of the label before label noise.

        The same where the likelihood has no label noise.

        Args:
            probability: E p(c = 1 | Delta) over any distribution of Delta, any shape.
        """
        return probability

    def outcome_probabilities(
        self, delta: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape outcomes"]:
        """Return p(c | Delta) of every outcome, with one more, trailing dimension."""
        values = delta.new_tensor(self.outcomes).unbind()
        return torch.stack([self.log_prob(delta, c).exp() for c in values], dim=-1)


def like(value: float | tuple[float, ...] | Tensor, delta: Tensor) -> Tensor:
    """Return a parameter, fixed or learned, in dtype and device of ``delta``."""
    return value.to(delta) if isinstance(value, Tensor) else delta.new_tensor(value)
