"""Effective number of dependent units: n / chi instead of n."""

from vrm_pyro.errors import InputError


def effective_units(n: int, chi: float = 1.0) -> float:
    """Return n / chi, the number of units that enters a kl bound under dependence (spec 3.3.4).

    chi is the fractional chromatic number of the dependence graph: the least total weight of sets
    of mutually independent units that cover every unit once. Families of at most m related
    prompts, independent across families, have chi = m.

    Proof: let C_1, C_2, ... be such sets with weights v_j, sum v_j = chi. Then
    (n / chi) kl(mean || risk) is at most the average, with weights v_j / chi, of
    |C_j| kl(mean on C_j || risk), by convexity; exp is convex too, each E exp(|C_j| kl) is at
    most 2 sqrt(|C_j|), and the root is concave: E exp((n / chi) kl) <= 2 sqrt(n / chi).

    Args:
        n: Number of units.
        chi: Fractional chromatic number, >= 1; 1 when units are independent.

    Raises:
        InputError: If chi is below 1 or above n.
    """
    if not 1 <= chi <= max(n, 1):
        raise InputError(
            f"chi is {chi}, but must lie between 1 (prompts are independent) and the number of "
            f"prompts, {n}. For families of related prompts give the size of the largest."
        )
    return n / chi
