"""Preference distributions for ``pyro.sample``: for a known Delta, or for a Normal Delta."""

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from pyro import poutine
from torch import Tensor
from torch.distributions import constraints

from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.likelihoods.quadrature import hermite_nodes


class _OutcomeDistribution(dist.TorchDistribution):
    """A distribution over the outcomes of a likelihood; ``log_prob`` also takes soft labels."""

    support = constraints.unit_interval
    likelihood: PreferenceLikelihood

    @property
    def probs(self) -> Tensor:
        """Probability of every outcome of the likelihood: batch shape, then outcomes."""
        raise NotImplementedError

    @property
    def mean(self) -> Tensor:
        """E c, batch shape.

        For outcomes 0 and 1, or 0, 1/2 and 1, it is the probability that the first is preferred.
        """
        probs = self.probs
        return (probs * probs.new_tensor(self.likelihood.outcomes)).sum(-1)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:
        """Draw outcomes of the likelihood; soft labels are never drawn."""
        with torch.no_grad():
            probs = self.probs
            level = dist.Categorical(probs, validate_args=False).sample(sample_shape)
            return probs.new_tensor(self.likelihood.outcomes)[level]


class Preference(_OutcomeDistribution):
    """p(c | Delta) for a known reward difference; takes soft labels (spec 2.4).

    It replaces ``Bernoulli(logits=...)``, whose validation refuses labels strictly between 0 and
    1. For soft labels, ``log_prob`` is a quasi-likelihood.

    >>> from vrm_pyro.models.likelihoods import BradleyTerry
    >>> Preference(torch.tensor([0.0, 1.0]), BradleyTerry()).mean
    tensor([0.5000, 0.7311])

    Args:
        delta: Reward difference, batch shape.
        likelihood: A preference likelihood, such as Bradley-Terry.
    """

    arg_constraints = {"delta": constraints.real}

    def __init__(
        self,
        delta: Tensor,
        likelihood: PreferenceLikelihood,
        validate_args: bool | None = None,
    ) -> None:
        self.delta = delta
        self.likelihood = likelihood
        super().__init__(delta.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "Preference":
        """Return the distribution with its parameters expanded to ``batch_shape``."""
        return Preference(self.delta.expand(batch_shape), self.likelihood, validate_args=False)

    @property
    def probs(self) -> Tensor:
        """p(c | Delta) of every outcome: batch shape, then outcomes."""
        return self.likelihood.outcome_probabilities(self.delta)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log p(value | Delta), batch shape."""
        if self._validate_args:
            self._validate_sample(value)
        return self.likelihood.log_prob(self.delta, value)


class GaussianDelta(_OutcomeDistribution):
    """p(c) = E p(c | Delta) for Delta ~ N(loc, scale^2): the features integrated out (spec 2.13).

    Args:
        loc: Mean of Delta, batch shape.
        scale: Standard deviation of Delta, batch shape.
        likelihood: A preference likelihood.
        weight: Power on p(c | Delta) in ``log_prob``, batch shape; 1 when omitted. It acts inside
            the expectation. A power on the expectation would be larger for weights below 1, and
            would not bound the evidence that ``sampled`` bounds.
        margin: Known thresholds of the pairs, batch shape, NaN for a pair without; None if no
            pair has one.
    """

    arg_constraints = {"loc": constraints.real, "scale": constraints.nonnegative}

    def __init__(
        self,
        loc: Tensor,
        scale: Tensor,
        likelihood: PreferenceLikelihood,
        weight: Tensor | None = None,
        margin: Tensor | None = None,
        validate_args: bool | None = None,
    ) -> None:
        self.loc, self.scale = torch.broadcast_tensors(loc, scale)
        self.likelihood = likelihood
        self.weight, self.margin = weight, margin
        margin = None if margin is None else margin.unsqueeze(-1)  # broadcasts over nodes
        self._given = likelihood.given_margin(margin)
        super().__init__(self.loc.shape, validate_args=validate_args)

    def expand(self, batch_shape: Sequence[int], _instance: None = None) -> "GaussianDelta":
        """Return the distribution with its parameters expanded to ``batch_shape``."""
        loc, scale = self.loc.expand(batch_shape), self.scale.expand(batch_shape)
        return GaussianDelta(loc, scale, self.likelihood, self.weight, self.margin, False)

    @property
    def probs(self) -> Tensor:
        """E p(c | Delta) of every outcome, without ``weight``: batch shape, then outcomes."""
        delta, weights = self._nodes()
        given_delta = self._given.outcome_probabilities(delta)
        return (given_delta * weights.unsqueeze(-1)).sum(-2)

    def log_prob(self, value: Tensor) -> Tensor:
        """Return log sum_q g_q p(value | loc + sd x_q)^weight, batch shape."""
        if self._validate_args:
            self._validate_sample(value)
        delta, weights = self._nodes()
        log_prob = self._given.log_prob(delta, value.unsqueeze(-1))
        if self.weight is not None:
            log_prob = self.weight.unsqueeze(-1) * log_prob
        return torch.logsumexp(log_prob + weights.log(), dim=-1)

    def _nodes(self) -> tuple[Tensor, Tensor]:
        """Return Delta at the quadrature nodes, batch shape and (Q,), and their masses (Q,)."""
        nodes, weights = hermite_nodes(self.loc)
        return self.loc.unsqueeze(-1) + self.scale.unsqueeze(-1) * nodes, weights


def observe(
    site: str, plate: str, distribution: dist.TorchDistribution, observed: Tensor, weight: Tensor
) -> None:
    """Score outcomes, each with a power on its likelihood, shape (items,)."""
    if len(weight) == 0:
        return
    # Pyro refuses a scale of 0: an outcome of weight 0 is masked instead.
    counted = weight > 0
    scale = torch.where(counted, weight, torch.ones_like(weight))
    with (
        pyro.plate(plate, len(weight), dim=-1),
        poutine.scale(scale=scale),
        poutine.mask(mask=counted),
    ):
        pyro.sample(site, distribution, obs=observed)
