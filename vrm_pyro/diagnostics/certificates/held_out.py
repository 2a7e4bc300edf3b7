"""Held-out bound of a fixed rule: the certificate to report first (spec 3.3.1)."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.certificates.binary_kl import binary_kl_inverse
from vrm_pyro.diagnostics.certificates.bound import LOSS_NAMES, Bound, check_delta, check_units
from vrm_pyro.diagnostics.certificates.clopper_pearson import clopper_pearson_upper
from vrm_pyro.diagnostics.certificates.dependence import effective_units
from vrm_pyro.diagnostics.certificates.prompt_losses import LOSSES, one_pair_each, prompt_means
from vrm_pyro.errors import InputError

CLOPPER_PEARSON = "Clopper-Pearson"
CHERNOFF = "kl (Chernoff)"
DEPENDENT = "kl with n / chi"


@dataclass(frozen=True)
class HeldOutBound(Bound):
    """Upper limit of the risk of one fixed rule.

    Args:
        method: The inequality used.
    """

    method: str


def chernoff_upper(risk: float, n: int, delta: float) -> float:
    """Return kl^-1(risk, ln(1/delta) / n): upper limit of the mean of losses in [0, 1].

    Valid for independent losses in [0, 1] with a common mean, such as prompt averages, because a
    Bernoulli variable has the largest moment generating function for a given mean.

    Args:
        risk: Mean loss of the units.
        n: Number of independent units.
        delta: Probability that the limit is too low.
    """
    check_delta(delta=delta)
    return binary_kl_inverse(risk, math.log(1 / delta) / n)


def held_out_bound(
    losses: NDArray[Any],
    delta: float = 0.05,
    *,
    loss: str = "error",
    one_pair_each: bool = False,
    chi: float = 1.0,
) -> HeldOutBound:
    """Return an upper limit of the risk of a rule that was fixed before seeing these losses.

    With one pair per prompt and losses 0 or 1, it is the Clopper-Pearson limit. Otherwise losses
    are averaged within prompts, and the kl (Chernoff) bound has prompts as units. For dependent
    prompts it is the kl bound with n / chi, which costs ln(2 sqrt(n / chi) / delta).

    Args:
        losses: Mean loss of each prompt, in [0, 1], shape (n,).
        delta: Probability that the limit is too low.
        loss: Name of the loss.
        one_pair_each: Whether every prompt has one pair.
        chi: See :func:`effective_units`.

    Raises:
        InputError: If there is no prompt, or delta or chi is out of range.
        ValueError: If a loss is not in [0, 1].
    """
    losses = np.asarray(losses, dtype=np.float64)
    if len(losses) == 0:
        raise InputError("held-out bound: there is no prompt with a comparison to average over.")
    if not ((losses >= 0) & (losses <= 1 + 1e-12)).all():
        raise ValueError("held_out_bound: losses must lie in [0, 1].")
    check_delta(delta=delta)
    units = effective_units(len(losses), chi)
    # Rounding can make a weighted mean of ones exceed 1.
    risk = min(float(losses.mean()), 1.0)
    if chi > 1:
        check_units(units, "held-out bound under dependence")
        method = DEPENDENT
        value = binary_kl_inverse(risk, math.log(2 * math.sqrt(units) / delta) / units)
    elif one_pair_each and np.isin(losses, (0.0, 1.0)).all():
        method = CLOPPER_PEARSON
        value = clopper_pearson_upper(int(losses.sum()), len(losses), delta)
    else:
        method = CHERNOFF
        value = chernoff_upper(risk, len(losses), delta)
    return HeldOutBound(
        value,
        1 - delta,
        units,
        "prompt",
        loss,
        risk,
        f"the {LOSS_NAMES[loss]} of the trained model's own prediction on new prompts drawn as "
        "these were, averaged inside the prompt; the model was fixed before these labels were "
        "looked at",
        method,
    )


def held_out_bounds(
    p_first: NDArray[Any],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[np.int64],
    delta: float = 0.05,
    chi: float = 1.0,
) -> dict[str, HeldOutBound]:
    """Return the limit for each loss by name, from predictions of pairs.

    Args:
        p_first: Predicted probability that the first response is preferred, shape (N,).
        preference: Probability in [0, 1] that it was, shape (N,).
        weight: Weight of each pair, >= 0, shape (N,).
        prompt: Prompt of each pair, shape (N,).
        delta: Probability that one limit is too low.
        chi: See :func:`effective_units`.
    """
    alone = one_pair_each(weight, prompt)
    return {
        name: held_out_bound(
            prompt_means(values(p_first, preference), weight, prompt),
            delta,
            loss=name,
            one_pair_each=alone,
            chi=chi,
        )
        for name, values in LOSSES.items()
    }
