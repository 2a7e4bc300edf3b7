"""Whether some rows are unlike those the model was trained on (spec 4.12)."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.moment_test import MIN_PROMPTS

NAME: Final = "shift"
ALL: Final = "all rows"


def shift(
    values: Mapping[str, NDArray[Any]],
    subset: Sequence[str],
    reference: Mapping[str, NDArray[Any]] | None = None,
    name: str = NAME,
) -> Finding:
    """Compare quantities of the prompts of each subset with those of reference prompts.

    Quantities that need no outcome, such as KL of w and z and Var[Delta], say whether texts are
    unlike; k-hat says whether outcomes are. Each is compared by ranks (Mann-Whitney), two-sided,
    and the alarm is corrected for the number of comparisons.

    Args:
        values: By name, one value a prompt, NaN where there is none, each (P,).
        subset: Subset of each prompt, empty text for none.
        reference: The same quantities of training prompts; None to compare each subset with the
            rest of the rows.
        name: Of the finding.
    """
    named = np.asarray(subset, dtype=object)
    groups = {held: named == held for held in sorted({str(s) for s in subset if s})}
    if reference is not None:
        groups = {ALL: np.ones(len(named), dtype=bool)} | (groups if len(groups) > 1 else {})
    rows: list[dict[str, Any]] = []
    for group, inside in groups.items():
        for quantity, array in values.items():
            mine = _finite(array[inside])
            other = _finite(
                array[~inside] if reference is None else reference.get(quantity, array[:0])
            )
            if min(len(mine), len(other)) < MIN_PROMPTS:
                continue
            test = stats.mannwhitneyu(mine, other, alternative="two-sided", method="asymptotic")
            rows.append(
                {
                    "subset": group, "quantity": quantity, "num_prompts": len(mine),
                    "mean": float(mine.mean()), "reference_mean": float(other.mean()),
                    "standard_error": float(mine.std(ddof=1) / math.sqrt(len(mine))),
                    # Probability that a prompt of the subset has the larger value.
                    "larger": float(test.statistic / (len(mine) * len(other))),
                    "p_value": float(test.pvalue) if np.ptp(np.append(mine, other)) > 0 else 1.0,
                }
            )  # fmt: skip
    against = "training rows" if reference is not None else "the other rows"
    if not rows:
        return not_applicable(
            name,
            f"no two groups of {MIN_PROMPTS} prompts: the rows name no subsets of that size, and "
            "no --reference rows were given to compare with.",
        )
    p_value = smallest(row["p_value"] for row in rows)
    alarm = is_alarm(p_value)
    worst = max(rows, key=lambda row: abs(row["larger"] - 0.5))
    far = sorted({row["subset"] for row in rows if row["p_value"] < LEVEL / len(rows)})
    verdict = (
        f"{len(far)} of {len({row['subset'] for row in rows})} groups differ from {against}"
        + (f" ({', '.join(far)})" if far else "")
        + f"; most: {worst['quantity']} in {worst['subset']} {worst['mean']:.3g} against "
        f"{worst['reference_mean']:.3g}."
    )
    advice = (
        "Do not carry accuracy over from one group to the other: evaluate by subset, and label "
        "some rows of the group that differs. reward_sd need not grow on texts unlike training."
    )
    return Finding(
        name, abs(worst["larger"] - 0.5) * 2, "rank difference, 0 alike to 1 apart", None,
        p_value, alarm, verdict, advice if alarm else "",
        detail={"against": against, "comparisons": rows},
    )  # fmt: skip


def _finite(values: NDArray[Any]) -> NDArray[np.float64]:
    array = np.asarray(values, np.float64)
    # An infinite k-hat is larger than any other; only what is missing is left out.
    return np.nan_to_num(array[~np.isnan(array)], posinf=1e6)
