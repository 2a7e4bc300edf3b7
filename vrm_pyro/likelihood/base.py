"""What a preference likelihood has to offer."""

from torch import Tensor


class PreferenceLikelihood:
    """Base class of the likelihoods of a preference given the reward difference Delta.

    All of them are functions of the scalar Delta = r_first - r_second alone (spec 2.4).
    Exchanging the two answers must turn Delta into -Delta and c into 1 - c, exactly.
    """

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
