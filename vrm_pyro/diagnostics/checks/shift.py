"""Check ``shift`` (spec 4.12): are some rows unlike those trained on?"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Floats
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS

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


def find_shift(inputs: CheckInputs) -> Finding:
    """Whether some rows are unlike others, or unlike training rows."""
    reference = inputs.reference
    whole = _by_prompt(inputs)
    return shift(
        whole,
        inputs.rows.prompt_subset,
        None if reference is None else _by_prompt(reference),
    )


def _by_prompt(inputs: CheckInputs) -> dict[str, Floats]:
    """Return KLs from a fixed reference and Var[Delta] of each prompt."""
    found, rows = inputs.predictions, inputs.rows
    values = {
        "Var[Delta]": prompt_means(inputs.means.delta_variance, rows.pair_prompt, rows.num_prompts)
    }
    if found.kl_weights is None or found.kl_features is None:
        values["reward distance"] = prompt_means(
            np.abs(_pair_differences(inputs)), rows.pair_prompt, rows.num_prompts
        )
        del values["Var[Delta]"]  # 0 for a model without latents
        return values
    responses = np.asarray(rows.source.response_prompt)
    if np.isfinite(found.kl_weights).all():
        values["KL of w"] = found.kl_weights
        values["KL of z"] = prompt_means(found.kl_features, responses, rows.num_prompts)
    return values


def _pair_differences(inputs: CheckInputs) -> Floats:
    source, reward = inputs.rows.source, inputs.means.reward
    return np.asarray(
        reward[np.asarray(source.pair_first)] - reward[np.asarray(source.pair_second)]
    )


def prompt_means(values: Floats, group: np.ndarray, num_groups: int) -> Floats:
    """Return the mean of each group, NaN for an empty one."""
    count = np.bincount(group, minlength=num_groups)
    total = np.bincount(group, values, minlength=num_groups)
    return np.divide(total, count, out=np.full(num_groups, np.nan), where=count > 0)


CHECK: Final[Diagnostic] = Diagnostic(
    find_shift,
    question="Are some rows unlike those trained on?",
    group="sample_stats",
    costly=False,
)
