"""Check ``ratings`` (spec 4.7): do ratings fall where the model expects them?"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vrm_pyro import names
from vrm_pyro.diagnostics.checks.applies import no_latents
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.checks.simulated import rank_values
from vrm_pyro.diagnostics.checks.simulation_check import shape
from vrm_pyro.diagnostics.metrics.clustered_tests import MIN_PROMPTS
from vrm_pyro.diagnostics.metrics.uniformity import uniformity
from vrm_pyro.models.ratings.difference import DifferenceRatingsModule

NAME: Final = "ratings"


def rating_pit(
    draws: NDArray[Any],
    ratings: NDArray[Any],
    response_prompt: NDArray[Any],
    objectives: Sequence[str],
    differences: bool = False,
    seed: int = 0,
) -> Finding:
    """Test that observed ratings rank uniformly among ratings drawn from the model.

    One response of each prompt, drawn at random, so that values are independent. Equal values,
    as of ratings in steps, are ordered at random: the randomised PIT.

    Args:
        draws: Ratings drawn given texts alone, raw units, shape (S, R, K).
        ratings: Observed ratings, NaN where missing, shape (R, K).
        response_prompt: Prompt of each response, shape (R,).
        objectives: Names of the objectives.
        differences: Take the difference of two responses of each prompt instead: for ratings
            that are known up to a level of their prompt.
        seed: Fixes which response is taken, and the order of equal values.
    """
    rng = np.random.default_rng(seed)
    observed, drawn = np.asarray(ratings, np.float32), np.asarray(draws, np.float32)
    values = {}
    for k, name in enumerate(objectives):
        first, second = _rows(~np.isnan(observed[:, k]), response_prompt, differences, rng)
        if len(first) < MIN_PROMPTS:
            continue
        truth, made = observed[first, k], drawn[:, first, k]
        if differences:
            truth, made = truth - observed[second, k], made - drawn[:, second, k]
        values[name] = rank_values(*steps(truth, made, observed), rng)
    if not values:
        return not_applicable(NAME, f"no objective is rated on {MIN_PROMPTS} prompts.")
    level = LEVEL / len(values)
    found = {name: uniformity(v, level) for name, v in values.items()}
    p_value = smallest(f.p_value for f in found.values())
    alarm = is_alarm(p_value)
    off = [name for name, f in found.items() if f.p_value < level]
    worst = max(float(np.abs(f.ecdf - f.point).max()) for f in found.values())
    verdict = f"ratings of {len(values)} objectives fall where the model expects them."
    advice = ""
    if alarm:
        said = "; ".join(f"{name}: {shape(values[name])}" for name in off) or "several a little"
        verdict = f"ratings do not fall where the model expects them: {said}."
        advice = (
            "Too narrow or too wide: learn the scale (GaussianRatings.learn_scale), or take "
            "OrdinalRatings for ratings in steps. Too low or too high everywhere: the rows use "
            "another rating scale than the training rows."
        )
    return Finding(
        NAME, worst, "largest distance of the PIT ECDF from uniform", None, p_value, alarm,
        verdict, advice,
        detail={
            "level_of_each": level, "outside": off, "of_differences": differences,
            "quantities": {
                name: {
                    "num_prompts": len(values[name]), "p_value": f.p_value,
                    "shape": shape(values[name]), "point": f.point, "ecdf": f.ecdf,
                    "lower": f.lower, "upper": f.upper,
                }
                for name, f in found.items()
            },
        },
    )  # fmt: skip


def steps(
    truth: NDArray[Any], drawn: NDArray[Any], ratings: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return values and draws of them in small steps, so that equal levels are equal numbers.

    Args:
        truth: Ratings or differences of them.
        drawn: Draws of them.
        ratings: Ratings, raw units; draws are float32, so the largest one gives the step.
    """
    tick = 1e-5 * float(np.nanmax(np.abs(ratings), initial=1.0))
    return np.round(truth / tick), np.round(drawn / tick)


def _rows(
    rated: NDArray[np.bool_],
    response_prompt: NDArray[Any],
    differences: bool,
    rng: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return one rated response of each prompt and, for differences, another one."""
    rows = rng.permutation(np.flatnonzero(rated))
    rows = rows[np.argsort(response_prompt[rows], kind="stable")]
    start = np.flatnonzero(np.diff(response_prompt[rows], prepend=-1) != 0)
    size = np.diff(np.append(start, len(rows)))
    if not differences:
        return rows[start], rows[start]
    start = start[size > 1]
    return rows[start], rows[start + 1]


class RatedDraws(NamedTuple):
    """Ratings of some rows, observed and drawn.

    Attributes:
        drawn: Ratings drawn given texts alone, raw units, shape (S, R, K).
        observed: Observed ratings, NaN where missing, shape (R, K).
        differences: Whether ratings are known up to a level of their prompt only.
    """

    drawn: NDArray[Any]
    observed: NDArray[Any]
    differences: bool


def rated_draws(inputs: CheckInputs) -> RatedDraws | str:
    """Return the ratings of ``inputs.some``, or why there are none to compare with draws."""
    if reason := no_latents(inputs):
        return reason
    model = inputs.vrm
    assert model is not None
    if model.ratings is None:
        return "the model was trained without ratings."
    observed = inputs.draws.groups["observed_data"].get(names.RATING)
    if observed is None or not np.isfinite(observed).any():
        return "the rows have no ratings of its objectives."
    drawn = inputs.draws.groups[inputs.draws.predictive_group][names.RATING]
    return RatedDraws(drawn, observed, isinstance(model.ratings, DifferenceRatingsModule))


def find_ratings(inputs: CheckInputs) -> Finding:
    """Where observed ratings fall among predicted ones."""
    found = rated_draws(inputs)
    if isinstance(found, str):
        return not_applicable(NAME, found)
    prompt = np.asarray(inputs.some.source.response_prompt)
    return rating_pit(
        found.drawn,
        found.observed,
        prompt,
        inputs.loaded.objectives,
        found.differences,
        inputs.seed,
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_ratings,
    question="Do ratings fall where the model expects them?",
    group="prior_predictive, observed_data",
    costly=True,
)
