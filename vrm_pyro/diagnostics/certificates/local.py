"""Fixed-design local certificate: fresh labels on the same items, never new prompts."""

import math
from dataclasses import dataclass

from vrm_pyro.diagnostics.certificates.binary_kl import binary_kl_inverse
from vrm_pyro.diagnostics.certificates.bound import Bound, check_delta, check_units
from vrm_pyro.errors import InputError

STATEMENT = (
    "fresh labels on the same items: these prompts and responses, labelled again. It says "
    "nothing about a new prompt"
)


@dataclass(frozen=True)
class LocalCertificate(Bound):
    """Upper limit of R(Q) on fresh labels for the same inputs; ``observed`` is Rhat(Q).

    Args:
        observed_prior: Rhat(P), the loss of the prior, which has not seen these labels. The
            limit is never below it (Proposition 2).
        divergence: D(Q || P), summed over prompts and responses, in nats.
    """

    observed_prior: float
    divergence: float


def check_provenance(fitted_on_disjoint_data: bool) -> None:
    """Raise InputError unless prior and decoder are declared as fitted on other data."""
    if not fitted_on_disjoint_data:
        raise InputError(
            "local certificate: refused without --prior_fitted_on_disjoint_data. Prior and "
            "decoder must have been fitted on other data than these labels; a prior that saw them "
            "may have memorised them, and would be certified at any risk. Declare it if it is "
            "true, or leave --local out."
        )


def local_certificate(
    risk: float,
    risk_prior: float,
    divergence: float,
    n: float,
    delta: float = 0.05,
    *,
    fitted_on_disjoint_data: bool,
    risk_upper: float | None = None,
    delta_mc: float = 0.0,
) -> LocalCertificate:
    """Return kl^-1(Rhat(Q), [D + ln(2 sqrt(n) / delta)] / n) (spec 3.1).

    Args:
        risk: Rhat(Q): mean over units of E_q of the loss, on the observed labels.
        risk_prior: Rhat(P).
        divergence: D(Q || P) in nats, all prompts and responses together.
        n: Units (prompts; the loss of a unit is its average over pairs).
        delta: Probability over the labels that the limit is too low.
        fitted_on_disjoint_data: Whether prior and decoder were fitted on data without these
            labels and the ratings that determine them. Otherwise the bound is invalid: a prior
            that memorised the labels has D = 0 and any training loss.
        risk_upper: ``risk`` corrected for Monte Carlo error, when it is an estimate.
        delta_mc: Probability that the correction is too small.

    Raises:
        InputError: If the flag is not set, there are fewer than 8 units, or delta is not in range.
    """
    check_provenance(fitted_on_disjoint_data)
    check_delta(delta=delta)
    check_units(n, "local certificate")
    rate = (divergence + math.log(2 * math.sqrt(n) / delta)) / n
    return LocalCertificate(
        binary_kl_inverse(risk if risk_upper is None else risk_upper, rate),
        1 - delta - delta_mc,
        n,
        "prompt",
        "error",
        risk,
        STATEMENT,
        risk_prior,
        divergence,
    )
