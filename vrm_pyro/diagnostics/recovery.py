"""Compare a trained model on simulated texts with the truth."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro import names
from vrm_pyro.data.simulation.simulation import KIND_DIM
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import pair_metrics
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.scorer import score_source

Floats = NDArray[Any]


@dataclass(frozen=True)
class Truth:
    """True values of simulated rows, in the order of their table.

    Args:
        kind: Kind of each prompt, shape (P,).
        weights: True w of each prompt, shape (P, K).
        kinds: Names of the kinds that occur in the rows.
        kind_weights: Mean of w for each of these kinds, shape (kinds, K).
        scores: True scores of each response, shape (R, K).
        reward: True reward of each response, shape (R,).
        p_first: True probability that the first response of a pair is preferred, shape (N,).
    """

    kind: NDArray[Any]
    weights: Floats
    kinds: list[str]
    kind_weights: Floats
    scores: Floats
    reward: Floats
    p_first: Floats

    @classmethod
    def of(cls, truth: xr.Dataset, inputs: Inputs, objectives: tuple[str, ...]) -> "Truth":
        """Return the truth of rows, matched by the ids of their pairs.

        Args:
            truth: What :func:`vrm_pyro.data.simulation.simulate_texts` returned, or ``truth.nc``.
            inputs: Rows of that simulation, every response in a pair.
            objectives: Objectives in the order of the model.
        """
        table = inputs.table
        pairs = truth.sel({names.PAIR_DIM: table.pair_id})
        response = np.empty(table.num_responses, dtype=object)
        response[table.pair_first] = pairs["chosen_response"].values
        response[table.pair_second] = pairs["rejected_response"].values
        prompt = np.empty(table.num_prompts, dtype=object)
        prompt[table.pair_prompt] = pairs["pair_prompt"].values
        of_prompt = truth.sel({names.PROMPT_DIM: prompt, names.OBJECTIVE_DIM: list(objectives)})
        of_response = truth.sel(
            {names.RESPONSE_DIM: response, names.OBJECTIVE_DIM: list(objectives)}
        )
        kind = of_prompt["prompt_kind"].values.astype(str)
        kinds = [name for name in truth[KIND_DIM].values.tolist() if name in set(kind)]
        return cls(
            kind,
            of_prompt[names.WEIGHTS].transpose(names.PROMPT_DIM, names.OBJECTIVE_DIM).values,
            kinds,
            of_prompt["kind_weights"]
            .sel({KIND_DIM: kinds})
            .transpose(KIND_DIM, names.OBJECTIVE_DIM)
            .values,
            of_response[names.SCORES].transpose(names.RESPONSE_DIM, names.OBJECTIVE_DIM).values,
            of_response[names.REWARD].values,
            pairs["p_chosen"].values,
        )


def predicted_weights(model: RewardModel, inputs: Inputs) -> tuple[Floats, Floats]:
    """Return mean and standard deviation of w given only the prompt, each (P, K)."""
    states = inputs.source.prompts[np.arange(inputs.table.num_prompts)]
    moments = []
    with torch.no_grad():
        for m, member in enumerate(latent_members(model)):
            found = member.predictive_weights(torch.from_numpy(np.array(states)))
            moments.append([model.aligned(m, v).double() for v in (found.mean, found.variance)])
    mean, variance = (torch.stack(each) for each in zip(*moments, strict=True))
    between = mean.var(0) if len(moments) > 1 else 0.0
    return mean.mean(0).numpy(), (variance.mean(0) + between).sqrt().numpy()


def compare_weights(mean: Floats, truth: Truth, objectives: tuple[str, ...]) -> dict[str, Any]:
    """Compare E[w | prompt] with the truth, next to weights of 1/K for every prompt.

    The text of a prompt shows only its kind, so the mean of the kind is the best prediction.

    Args:
        mean: E[w | prompt], shape (P, K).
        truth: Truth of the same prompts.
        objectives: Names of the K objectives.
    """
    uniform = 1 / len(objectives)
    place = np.array([truth.kinds.index(name) for name in truth.kind])
    expected = truth.kind_weights[place]
    by_kind = np.array([mean[truth.kind == name].mean(axis=0) for name in truth.kinds])
    return {
        "by_kind": _errors(by_kind, truth.kind_weights, uniform),
        "by_prompt": _errors(mean, expected, uniform),
        "kinds": {
            name: {
                "prompts": int((truth.kind == name).sum()),
                "model": dict(zip(objectives, found.tolist(), strict=True)),
                "truth": dict(zip(objectives, true.tolist(), strict=True)),
            }
            for name, found, true in zip(truth.kinds, by_kind, truth.kind_weights, strict=True)
        },
    }


def compare_scores(
    model: RewardModel,
    inputs: Inputs,
    truth: Truth,
    objectives: tuple[str, ...],
    within_prompts: bool = False,
) -> dict[str, float | None]:
    """Return the correlation of E[s | text] with the true scores over responses, by objective.

    ``within_prompts`` takes both from the mean of their prompt: for scores whose level is unknown.
    """
    found, true = score_source(model, inputs.source).scores, truth.scores
    assert found is not None
    if within_prompts:
        prompt = np.asarray(inputs.source.response_prompt)
        found, true = (values - _prompt_means(values, prompt) for values in (found, true))
    return {name: _correlation(found[:, k], true[:, k]) for k, name in enumerate(objectives)}


def _prompt_means(values: Floats, prompt: NDArray[np.int64]) -> Floats:
    """Return the mean of each value's prompt, (R, K)."""
    total = np.zeros((int(prompt.max()) + 1, values.shape[1]))
    np.add.at(total, prompt, values)
    return (total / np.bincount(prompt)[:, None].clip(1))[prompt]


def truth_rates(inputs: Inputs, truth: Truth) -> dict[str, Any]:
    """Return the metrics of the true p(first preferred), the best possible."""
    table = inputs.table
    metrics = pair_metrics(truth.p_first, table.preference, table.pair_weight, table.pair_prompt)
    rates: dict[str, Any] = {}
    for name in ("accuracy", "log_loss", "brier", "ece"):
        estimate = getattr(metrics, name)
        rates[name] = _finite(estimate.value)
        rates[f"{name}_se"] = _finite(estimate.standard_error)
    return rates


def log_loss_difference(p_a: Floats, p_b: Floats, inputs: Inputs) -> dict[str, Any]:
    """Compare the log loss of two predictions on rows whose first response was preferred.

    Args:
        p_a: p(first preferred) of one model, shape (N,).
        p_b: The same for the other model.
        inputs: The rows.

    Returns:
        First minus second, its standard error over prompts, and an 80% interval.
    """
    floor = 1e-7
    losses = [-np.log(np.maximum(np.asarray(p, dtype=np.float64), floor)) for p in (p_a, p_b)]
    found = paired_bootstrap(losses[0], losses[1], inputs.table.pair_prompt)
    return {
        "difference": found.difference,
        "standard_error": found.standard_error,
        "lower": found.lower,
        "upper": found.upper,
    }


def _errors(found: Floats, true: Floats, uniform: float) -> dict[str, float | None]:
    return {
        "mean_absolute_error": float(np.abs(found - true).mean()),
        "mean_absolute_error_uniform": float(np.abs(uniform - true).mean()),
        "correlation": _correlation(found.ravel(), true.ravel()),
    }


def _correlation(a: Floats, b: Floats) -> float | None:
    if len(a) < 2 or np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
