"""Likelihoods made of sigmoids of Delta: their expectations over a Normal Delta."""

from abc import abstractmethod
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.likelihoods.quadrature import expect_log_sigmoid, expect_sigmoid

Elementwise = Callable[[Tensor], Tensor]


class LogisticLikelihood(PreferenceLikelihood):
    """Base of likelihoods whose log-probability is linear in log sigmoids of Delta + constants.

    The formula stands once and takes the function to use: log sigmoid itself, or its expectation
    (:func:`expect_log_sigmoid`), which is right for any variance. Source: spec 2.4, 2.6.
    """

    @abstractmethod
    def _log_prob(self, delta: Tensor, preference: Tensor, log_sigmoid: Elementwise) -> Tensor: ...

    @abstractmethod
    def _probability(self, delta: Tensor, sigmoid: Elementwise) -> Tensor: ...

    def log_prob(
        self, delta: Float[Tensor, "*#shape"], preference: Float[Tensor, "*#shape"]
    ) -> Float[Tensor, "*#shape"]:
        """Return log p(c | Delta), elementwise."""
        # Do not use softplus: torch's is linear above 20, so the two outcomes would not sum to 1.
        return self._log_prob(delta, preference, logsigmoid)

    def probability(self, delta: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
        """Return the probability that the first is preferred, elementwise."""
        return self._probability(delta, torch.sigmoid)

    def expected_log_prob(
        self,
        loc: Float[Tensor, "*#shape"],
        variance: Float[Tensor, "*#shape"],
        preference: Float[Tensor, "*#shape"],
    ) -> Float[Tensor, "*#shape"]:
        """Return E log p(c | Delta) for Delta ~ N(loc, variance), elementwise."""
        return self._log_prob(loc, preference, lambda x: expect_log_sigmoid(x, variance))

    def expected_probability(
        self, loc: Float[Tensor, "*shape"], variance: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """Return E p(first preferred | Delta) for Delta ~ N(loc, variance), elementwise."""
        return self._probability(loc, lambda x: expect_sigmoid(x, variance))
