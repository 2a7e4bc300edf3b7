"""Clopper-Pearson upper limit of an error rate."""

from scipy.stats import binomtest

from vrm_pyro.diagnostics.certificates.bound import check_delta


def clopper_pearson_upper(errors: int, n: int, delta: float) -> float:
    """Return the exact one-sided upper limit of a binomial rate (spec 3.3.1).

    Args:
        errors: Number of errors, 0 to n.
        n: Number of independent units, >= 1.
        delta: Probability that the limit is too low.

    Raises:
        InputError: If delta is not between 0 and 1.
    """
    check_delta(delta=delta)
    test = binomtest(errors, n, alternative="less")
    return float(test.proportion_ci(confidence_level=1 - delta, method="exact").high)
