"""What a model does not know about a reward difference, in two parts."""

from typing import NamedTuple

from torch import Tensor


class PairUncertainty(NamedTuple):
    """Mean and variance of Delta = r_first - r_second, the variance by where it comes from.

    Attributes:
        mean: E[Delta], in reward units, shape (N,).
        ambiguity: E[Var(Delta | parameters)], in squared reward units, shape (N,): what the
            latents of this item leave open. More training data do not take it away.
        epistemic: Var(E[Delta | parameters]), likewise, shape (N,): what the training data leave
            open about the parameters.
    """

    mean: Tensor
    ambiguity: Tensor
    epistemic: Tensor

    @property
    def total(self) -> Tensor:
        """Var(Delta), shape (N,): the sum of both, by the law of total variance."""
        return self.ambiguity + self.epistemic
