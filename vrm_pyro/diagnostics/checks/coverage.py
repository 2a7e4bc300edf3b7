"""Check ``coverage`` (spec 5.11): do intervals hold the truth of data drawn from the model?"""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.checks.simulated import simulated_ranks

NAME: Final = "coverage"
LEVELS: Final = (0.5, 0.8, 0.95)


def coverage(
    ranks: Mapping[str, NDArray[np.float64]],
    levels: Sequence[float] = LEVELS,
) -> Finding:
    """Compare central intervals with what they should hold, quantity by quantity.

    The truth is known because the outcomes are drawn from the fitted model, given the texts of
    the rows. So this says whether the guide is right under the model, and nothing about real
    outcomes: those are the subject of
    :func:`~vrm_pyro.diagnostics.checks.rating_coverage.rating_coverage`.

    A rank u lies in the central interval of level L if its distance from 1/2 is below L / 2: for
    uniform ranks with probability L exactly, whatever the number of draws. Each count is tested
    against the binomial distribution, two-sided, and the alarm is corrected for their number.

    >>> found = coverage({"weight safety": np.linspace(0, 1, 100)})
    >>> found.value, found.alarm
    (0.94, False)

    Args:
        ranks: By quantity, the rank of the truth among draws, one value a prompt in [0, 1]
            (:func:`vrm_pyro.diagnostics.checks.simulated.rank_values`).
        levels: Levels of the intervals.
    """
    rows, p_values = {}, []
    for name, values in ranks.items():
        held = {level: np.abs(values - 0.5) < level / 2 for level in levels}
        tests = [
            float(stats.binomtest(int(h.sum()), len(h), level).pvalue) for level, h in held.items()
        ]
        p_values += tests
        rows[name] = {
            f"{level:g}": {
                "observed": float(h.mean()),
                "standard_error": float(np.sqrt(level * (1 - level) / len(h))),
                "p_value": p,
            }
            for (level, h), p in zip(held.items(), tests, strict=True)
        }
    p_value = smallest(p_values)
    alarm = is_alarm(p_value)
    widest = f"{max(levels):g}"
    observed = {name: float(row[widest]["observed"]) for name, row in rows.items()}  # type: ignore[arg-type]
    value = float(np.mean(list(observed.values())))
    size = len(next(iter(ranks.values())))
    off = max(observed, key=lambda name: abs(observed[name] - max(levels)))
    verdict = (
        f"on outcomes drawn from this model, not on the rows' own, {max(levels):.0%} intervals "
        f"hold the truth in {value:.1%} of cases over {len(ranks)} quantities ({size} prompts; "
        f"furthest off: {off}, {observed[off]:.1%})."
    )
    advice = ""
    if alarm:
        narrow = value < max(levels)
        verdict += " They are too narrow." if narrow else " They are too wide or misplaced."
        advice = (
            "Spreads of this quantity are understated" if narrow else "Spreads are overstated"
        ) + ": see khat, gaps and simulation for whether the guide or the model is at fault."
    return Finding(
        NAME, value, f"coverage of {max(levels):.0%} intervals",
        float(np.sqrt(max(levels) * (1 - max(levels)) / (size * len(ranks)))), p_value, alarm,
        verdict, advice, detail={"levels": list(levels), "num_prompts": size, "quantities": rows},
    )  # fmt: skip


def find_coverage(inputs: CheckInputs) -> Finding:
    """Coverage of the guide's intervals on simulated outcomes."""
    ranks = simulated_ranks(inputs)
    if isinstance(ranks, str):
        return not_applicable(NAME, ranks)
    return coverage(ranks)


CHECK: Final[Diagnostic] = Diagnostic(
    find_coverage,
    question="Do intervals hold the truth where the data are drawn from the model?",
    group="prior_sbc",
    costly=True,
)
