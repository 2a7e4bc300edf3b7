"""Check ``shuffle``: do predictions need the w and z of their own rows?"""

import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from scipy.special import logit

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.checks.applies import no_latents, no_pairs
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs, Floats
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, is_alarm, not_applicable, smallest
from vrm_pyro.diagnostics.metrics.clustered_tests import (
    MIN_PROMPTS,
    mean_test,
    prompt_sums,
    residual_z,
)
from vrm_pyro.diagnostics.metrics.pair_metrics import PROBABILITY_FLOOR, log_loss_values
from vrm_pyro.models.evaluation import double_copy

NAME: Final = "shuffle"
SHUFFLED_PROMPTS: Final = 1000
"""Prompts that are looked at: each permutation predicts them all again."""
NUM_SHUFFLES: Final = 4
LEAST_CHANGE: Final = 0.005
"""Mean change of the probability below which a permutation counts as without effect."""


def shuffle(
    p_first: NDArray[Any],
    shuffled: Mapping[str, NDArray[Any]],
    preference: NDArray[Any],
    weight: NDArray[Any],
    prompt: NDArray[Any],
) -> Finding:
    """Compare predictions with those after w, or z, was permuted over rows.

    If the model is right, another row's w raises the log loss by KL(p || p') nats a pair, where
    p' is the prediction with it. Two one-sided tests for each of w and z: that the rise is not
    below what the model itself expects (else the latents belong to other rows, or carry no
    information), and that the probability changes by at least :data:`LEAST_CHANGE` (else
    predictions do not use the text).

    Args:
        p_first: Predicted probability that the first is preferred, shape (N,).
        shuffled: The same after a permutation, by what was permuted, each (permutations, N).
        preference: Observed, shape (N,).
        weight: Weight of each pair, shape (N,).
        prompt: Prompt of each pair, shape (N,).
    """
    used = np.asarray(weight) > 0
    p, c, w = (np.asarray(a, np.float64)[used] for a in (p_first, preference, weight))
    prompt = np.asarray(prompt)[used]
    groups = len(np.unique(prompt))
    if groups < MIN_PROMPTS:
        return not_applicable(
            NAME, f"{groups} prompts with a comparison; it takes {MIN_PROMPTS} or more."
        )
    rows, p_values, parts, advice = {}, [], [], ""
    for name, other in shuffled.items():
        q = np.asarray(other, np.float64)[:, used]
        rise = (log_loss_values(q, c) - log_loss_values(p, c)).mean(0)
        expected = (log_loss_values(q, p) - log_loss_values(p, p)).mean(0)
        change = np.abs(np.clip(q, PROBABILITY_FLOOR, 1) - p).mean(0)
        mass = prompt_sums(w, prompt)
        per_pair = mass.mean()
        observed = mean_test(prompt_sums(w * rise, prompt) / per_pair)
        # Rise minus expected rise is (label - prediction) times the change of the logit.
        change_of_logit = _logit(p) - _logit(q).mean(0)
        lacking = float(stats.norm.cdf(residual_z(w * change_of_logit, c - p, p, prompt)))
        moved = mean_test(prompt_sums(w * change, prompt) / mass, LEAST_CHANGE)
        # Predictions that do not move at all have no spread to test with.
        still = 0.0 if math.isnan(moved.p_below) and moved.value < LEAST_CHANGE else moved.p_below
        p_values += [lacking, still]
        rows[name] = {
            "rise_in_log_loss": observed.value, "standard_error": observed.standard_error,
            "expected_rise": float((w * expected).sum() / w.sum()),
            "p_less_than_expected": lacking, "change_of_probability": moved.value,
            "p_no_change": still,
        }  # fmt: skip
        parts.append(
            f"another row's {name} changes the probability by {moved.value:.3f} and costs "
            f"{observed.value:.4f} +- {observed.standard_error:.4f} nats a pair (the model "
            f"expects {rows[name]['expected_rise']:.4f})"
        )
    p_value = smallest(p_values)
    alarm = is_alarm(p_value)
    number = len(p_values)
    for name, row in rows.items():
        if number * row["p_no_change"] < 0.01:
            advice += f"Predictions do not use {name}: see collapse. "
        elif number * row["p_less_than_expected"] < 0.01:
            advice += (
                f"The {name} of other rows would do nearly as well: check that states and rows "
                "are in the same order, and whether the model is overconfident (calibration). "
            )
    first = next(iter(rows.values()))
    return Finding(
        NAME, first["rise_in_log_loss"], "nats a pair", first["standard_error"], p_value, alarm,
        "; ".join(parts) + ".", advice.strip(), detail={"shuffled": rows, "num_prompts": groups},
    )  # fmt: skip


def _logit(p: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(logit(np.clip(p, PROBABILITY_FLOOR, 1 - PROBABILITY_FLOOR)))


def shuffled_predictions(inputs: CheckInputs) -> tuple[NDArray[np.int64], dict[str, Floats]]:
    """Return pairs, and their predictions with the states of other prompts or responses.

    Permuting prompt states gives each prompt another one's w; permuting response states gives
    each response another one's z. States are permuted within chunks of prompts.

    Returns:
        Pairs looked at (n,), and by ``w`` and ``z`` predictions (permutations, n).
    """
    rng = np.random.default_rng(inputs.seed)
    data = PromptDataset(
        inputs.rows.source,
        prompts=np.sort(rng.permutation(inputs.rows.num_prompts)[:SHUFFLED_PROMPTS]),
    )
    pairs: list[NDArray[np.int64]] = []
    found: dict[str, list[Floats]] = {"w": [], "z": []}
    with double_copy(inputs.loaded.model) as copied:
        for chunk in chunks(data):
            batch = chunk.batch.to(torch.float64)
            if not batch.num_pairs:
                continue
            pairs.append(chunk.pairs)
            for name, states in (("w", "prompts"), ("z", "responses")):
                held = getattr(batch, states)
                orders = [
                    torch.from_numpy(rng.permutation(len(held))) for _ in range(NUM_SHUFFLES)
                ]
                permuted = [replace(batch, **{states: held[order]}) for order in orders]
                found[name].append(
                    np.stack([copied.predict_pairs(other).numpy() for other in permuted])
                )
    joined = {name: np.concatenate(parts, axis=1) for name, parts in found.items()}
    return np.concatenate(pairs), joined


def find_shuffle(inputs: CheckInputs) -> Finding:
    """Predictions after w or z was permuted over rows."""
    if reason := no_latents(inputs) or no_pairs(inputs):
        return not_applicable(NAME, reason)
    model = inputs.vrm
    assert model is not None
    pairs, found = shuffled_predictions(inputs)
    if not model.weights_follow_prompt:
        found = {name: values for name, values in found.items() if name != "w"}
    return shuffle(
        inputs.predictions.p_first[pairs],
        found,
        inputs.preference[pairs],
        inputs.pair_weight[pairs],
        inputs.rows.pair_prompt[pairs],
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_shuffle,
    question="Do predictions need the w and z of their own rows?",
    group="posterior_predictive",
    costly=False,
)
