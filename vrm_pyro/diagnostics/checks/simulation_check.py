"""Check ``simulation`` (spec 4.5): is the guide right where the truth is known?"""

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.checks.simulated import simulated_ranks
from vrm_pyro.diagnostics.metrics.uniformity import uniformity

NAME: Final = "simulation"


def simulation_check(ranks: Mapping[str, NDArray[np.float64]]) -> Finding:
    """Test that the truth ranks uniformly among draws of the guide, quantity by quantity.

    Given the texts, w, z and outcomes are drawn from the model, and the guide sees the drawn
    outcomes. A guide that is too narrow has too many extreme ranks, one that is too wide too few,
    a shifted one more on one side. Each quantity has a simultaneous band at level .01 divided by
    their number.

    >>> found = simulation_check({"weight safety": np.linspace(0.01, 0.99, 60)})
    >>> found.alarm
    False

    Args:
        ranks: By quantity, one value for each prompt in [0, 1]: :func:`rank_values` of it.
    """
    level = LEVEL / len(ranks)
    found = {name: uniformity(values, level) for name, values in ranks.items()}
    p_value = smallest(f.p_value for f in found.values())
    alarm = is_alarm(p_value)
    outside = [name for name, f in found.items() if f.p_value < level]
    worst = max(float(np.abs(f.ecdf - f.point).max()) for f in found.values())
    size = len(next(iter(ranks.values())))
    shapes = {name: shape(values) for name, values in ranks.items()}
    verdict = (
        f"truth ranks uniformly among the guide's draws for all {len(ranks)} quantities on {size} "
        "simulated prompts."
    )
    if alarm:
        said = "; ".join(f"{name}: {shapes[name]}" for name in outside) or "several a little"
        verdict = f"ranks of the truth leave the band on {size} simulated prompts: {said}."
    advice = (
        "Train the guide longer, or take a richer family (FullCovarianceGuide); a KL weight other "
        "than 1 or free bits in training make a guide too narrow or too wide."
    )
    return Finding(
        NAME, worst, "largest distance of the rank ECDF from uniform", None, p_value, alarm,
        verdict, advice if alarm else "",
        detail={
            "num_prompts": size, "level_of_each": level, "outside": outside,
            "quantities": {
                name: {
                    "p_value": f.p_value, "shape": shapes[name], "point": f.point,
                    "ecdf": f.ecdf, "lower": f.lower, "upper": f.upper,
                }
                for name, f in found.items()
            },
        },
    )  # fmt: skip


def shape(values: NDArray[np.float64]) -> str:
    """Say in words how ranks in [0, 1] differ from uniform ones.

    >>> shape(np.repeat([0.01, 0.99], 50))
    'draws too narrow'
    """
    spread, middle = float(((values - 0.5) ** 2).mean()) * 12, float(values.mean())
    # Standard errors under uniformity: var((u - .5)^2) = 1/180, var(u) = 1/12.
    wide = (spread - 1) / (12 * np.sqrt(1 / 180 / len(values)))
    tilt = (middle - 0.5) / np.sqrt(1 / 12 / len(values))
    if abs(tilt) > max(2.0, abs(wide)):
        return "draws too low" if tilt > 0 else "draws too high"
    if abs(wide) > 2:
        return "draws too narrow" if wide > 0 else "draws too wide"
    return "no clear direction"


def find_simulation(inputs: CheckInputs) -> Finding:
    """Ranks of the truth of simulated outcomes."""
    ranks = simulated_ranks(inputs)
    if isinstance(ranks, str):
        return not_applicable(NAME, ranks)
    return simulation_check(ranks)


CHECK: Final[Diagnostic] = Diagnostic(
    find_simulation,
    question="Is the guide right where the truth is known?",
    group="prior_sbc",
    costly=True,
)
