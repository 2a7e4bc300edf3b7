"""What a preference likelihood has to offer."""

from torch import Tensor


class PreferenceLikelihood:
    """Base class of the likelihoods of a preference given the reward difference Delta.

    All of them are functions of the scalar Delta = r_first - r_second alone (spec 2.4).
    Exchanging the two answers must turn Delta into -Delta and c into 1 - c, exactly.

    An entry of the table is a frozen dataclass. With nothing to learn it is the likelihood
    itself; otherwise :meth:`build` returns a module with the same three methods.
    """

    def build(self) -> "PreferenceLikelihood":
        """Return what the model uses: this object, or a module that has parameters."""
        return self

    def detach(self) -> "PreferenceLikelihood":
        """Return the likelihood with its parameters held fixed."""
        return self

    def log_prior(self) -> Tensor | float:
        """Return the log prior density of the parameters, up to a constant; 0 without any."""
        return 0.0

    def log_prob(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return log p(c | Delta), elementwise.

        Args:
            delta: Reward difference, any shape.
            preference: c in [0, 1], broadcastable; 1 if the first is preferred. Between 0 and 1
                it is a soft label, and the value a quasi-likelihood.
        """
        raise NotImplementedError

    def probability(self, delta: Tensor) -> Tensor:
        """Return p(c = 1 | Delta), elementwise."""
        raise NotImplementedError

    def score(self, delta: Tensor, preference: Tensor) -> Tensor:
        """Return d log p(c | Delta) / d Delta, elementwise: the pull of a label on Delta."""
        raise NotImplementedError

    def information(self, delta: Tensor) -> Tensor:
        """Return the Fisher information of one label about Delta, elementwise."""
        raise NotImplementedError
