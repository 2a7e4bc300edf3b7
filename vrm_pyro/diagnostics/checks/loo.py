"""Check ``loo`` (spec 4.8): does the model predict better than a coin, and than other models?"""

import math
import warnings
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
import xarray as xr
from arviz_stats import compare
from numpy.typing import NDArray

from vrm_pyro.diagnostics.checks.applies import no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS, mean_test
from vrm_pyro.diagnostics.metrics.predictive_density import elpd

NAME: Final = "loo"
# Equal draws, as of fixed parameters: ArviZ takes a limit of k-hat from their number.
ELPD_DRAWS: Final = 100


def loo_by_prompt(
    log_score: NDArray[Any],
    chance: NDArray[Any],
    others: Mapping[str, NDArray[Any]] | None = None,
) -> Finding:
    """Return the leave-one-prompt-out log density of the preferences, against other models.

    The unit is the prompt, with w and z integrated out: without its outcomes a prompt's latents
    follow from the text, and the parameters are fixed, so this is plain prediction. Densities
    given drawn w and z would be far too optimistic. The alarm tests over prompts that the model
    is no worse than a coin, and no worse than each of the others.

    >>> found = loo_by_prompt(np.linspace(-0.5, -0.3, 30), np.full(30, np.log(0.5)))
    >>> round(found.value, 1), found.alarm
    (-12.0, False)

    Args:
        log_score: log p(preferences of the prompt | texts), nats, shape (P,).
        chance: The same for a coin: log(1/2) times the weight of the prompt's pairs, (P,).
        others: The same for other models, on the same prompts.
    """
    score = np.asarray(log_score, np.float64)
    if len(score) < MIN_PROMPTS:
        return not_applicable(
            NAME, f"{len(score)} prompts with a comparison; it takes {MIN_PROMPTS} or more."
        )
    others = others or {}
    rivals = {"a coin": np.asarray(chance, np.float64), **others}
    tests = {name: mean_test(score - other) for name, other in rivals.items()}
    p_value = smallest(test.p_below for test in tests.values())
    alarm = is_alarm(p_value)
    size = len(score)
    total, error = float(score.sum()), float(score.std(ddof=1) * math.sqrt(size))
    verdict = (
        f"elpd {total:.1f} over {size} prompts; a prompt is predicted "
        + ", ".join(
            f"{abs(t.value):.3f} +- {t.standard_error:.3f} nats "
            f"{'better' if t.value >= 0 else 'worse'} than by {name}"
            for name, t in tests.items()
        )
        + "."
    )
    better = [name for name, t in tests.items() if len(tests) * t.p_below < 0.01]
    advice = ""
    if "a coin" in better:
        advice = (
            "Worse than a coin: look at calibration for whether labels are flipped, and at "
            "shift for rows unlike the training rows."
        )
    elif better:
        advice = f"Use {better[0]} on rows like these, or stack the models with the weights given."
    table = _table(score, others) if others else None
    return Finding(
        NAME, total, "nats", error, p_value, alarm, verdict, advice,
        detail={
            "num_prompts": size,
            "against": {
                name: {
                    "elpd": float(rivals[name].sum()),
                    "difference": float((score - rivals[name]).sum()),
                    "standard_error": t.standard_error * size, "p_better": t.p_below,
                }
                for name, t in tests.items()
            },
            "compare": table,
        },
    )  # fmt: skip


def _table(score: NDArray[np.float64], others: Mapping[str, NDArray[Any]]) -> list[dict[str, Any]]:
    """Return ArviZ's comparison, best first: elpd, difference, its error and stacking weight."""
    with warnings.catch_warnings():
        # ArviZ 0.8 sorts with an argument that pandas 3 deprecates.
        warnings.filterwarnings(
            "ignore", message="The inplace keyword", category=DeprecationWarning
        )
        found = compare({"this model": _elpd(score), **{n: _elpd(v) for n, v in others.items()}})
    kept = ("rank", "elpd", "elpd_diff", "dse", "weight")
    return [
        {"model": str(name), **{key: float(row[key]) for key in kept}}
        for name, row in found.iterrows()
    ]


def _elpd(score: NDArray[Any]) -> Any:
    values = np.broadcast_to(np.asarray(score, np.float64), (1, ELPD_DRAWS, len(score)))
    data = xr.Dataset({"outcomes": (("chain", "draw", "prompt"), values)})
    return elpd(xr.DataTree.from_dict({"log_likelihood": data, "posterior": data}))


def find_loo(inputs: CheckInputs) -> Finding:
    """Log predictive density by prompt, against a coin and other models."""
    if reason := no_pairs(inputs):
        return not_applicable(NAME, reason)
    mass = np.bincount(
        inputs.rows.pair_prompt, inputs.pair_weight, minlength=inputs.rows.num_prompts
    )
    used = mass > 0
    return loo_by_prompt(
        inputs.log_scores[used],
        -np.log(2) * mass[used],
        {name: values[used] for name, values in inputs.others.items()},
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_loo,
    question="Does it predict better than a coin, and than other models?",
    group="log_likelihood",
    costly=False,
)
