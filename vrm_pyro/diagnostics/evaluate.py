"""How well a model predicts the preferences of some rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.evaluation import RATES, Evaluation, entry
from vrm_pyro.diagnostics.interval_table import interval_table
from vrm_pyro.diagnostics.metrics.active_units import active_units
from vrm_pyro.diagnostics.metrics.length_baseline import length_baseline
from vrm_pyro.diagnostics.metrics.pair_metrics import cluster_mean, pair_metrics
from vrm_pyro.diagnostics.rating_rates import rating_rates
from vrm_pyro.features.reading import DataLike
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.opening import ModelLike, as_model, check_outcomes, open_both
from vrm_pyro.prediction.predict import Predictions, predict
from vrm_pyro.prediction.scorer import Scorer

NO_SUBSET = "(none)"


def evaluate(
    model: ModelLike | RewardModel,
    data: DataLike | FeatureSource,
    *,
    subset: Sequence[str | None] | None = None,
    lengths: Sequence[int] | NDArray[np.int64] | None = None,
    predictions: Predictions | None = None,
) -> Evaluation:
    """Measure how well a model predicts the preferences in some rows.

    ::

        print(vrm_pyro.evaluate("runs/rated", "test.jsonl"))

    Rates have standard errors over prompts, in all rows and by subset, beside the rates of "the
    longer response is better" and "the shorter one is". With the likelihood ``Lapse``, rates are
    computed on the labels as given, flipped ones included; ``without_lapse`` holds those of the
    prediction before label noise, for rows whose labels are right. ``ratings`` holds how well
    ratings are foretold (:func:`~vrm_pyro.diagnostics.rating_rates.rating_rates`), of a model
    that was trained with ratings; its rows need no comparison then.
    ``intervals`` holds how good the intervals of the preference probabilities are
    (:func:`~vrm_pyro.diagnostics.interval_table.interval_table`).

    Args:
        model: The folder of a run, a run, a loaded model or a scorer; or a module.
        data: Rows in any form, see :func:`~vrm_pyro.prediction.opening.read_inputs`; for a module
            rows with states.
        subset: Subset of each pair, shape (N,); those of the rows when omitted.
        lengths: Characters of each response, shape (R,); those of the rows when omitted.
        predictions: What :func:`~vrm_pyro.prediction.predict.predict` gave for the same model and
            rows, where it is known.

    Raises:
        InputError: If model or rows cannot be read, or no pair has a positive weight and no
            rating is one that the model foretells.
        ValueError: If ``subset`` or ``lengths`` do not fit the rows.
    """
    if not isinstance(model, RewardModel | Scorer):
        model = as_model(model)
    module, source, table = open_both(model, data, needs_outcomes=True)
    objectives = (
        source.objectives if isinstance(model, RewardModel) else as_model(model).objectives
    )
    if table is not None:
        subset = table.pair_subset if subset is None else subset
        lengths = [len(text) for text in table.responses] if lengths is None else lengths
    weight = np.asarray(source.pair_weight, dtype=np.float64)
    check_outcomes(source, module, objectives)
    if subset is not None and len(subset) != len(weight):
        raise ValueError(f"evaluate: {len(subset)} subsets for {len(weight)} pairs.")
    if lengths is not None and len(lengths) != source.responses.shape[0]:
        raise ValueError(
            f"evaluate: {len(lengths)} lengths for {source.responses.shape[0]} responses."
        )
    if predictions is None:
        predictions = predict(module, source)
    size = None if lengths is None else np.asarray(lengths, dtype=np.int64)
    result = _rates(predictions.p_first, source, size, np.arange(len(weight)))
    if predictions.p_without_lapse is not None:
        rows = np.arange(len(weight))
        result["without_lapse"] = _pair_rates(predictions.p_without_lapse, source, rows)
    result |= _latents(predictions, source)
    result["intervals"] = interval_table(module, source, predictions)
    result["ratings"] = rating_rates(module, source, objectives)
    result["by_subset"] = {
        name: _rates(predictions.p_first, source, size, rows)
        for name, rows in _subsets(subset, weight).items()
    }
    return Evaluation(result)


def _rates(
    p_first: NDArray[np.float64],
    source: FeatureSource,
    lengths: NDArray[np.int64] | None,
    rows: NDArray[np.int64],
) -> dict[str, Any]:
    result = _pair_rates(p_first, source, rows)
    result["length_baseline"] = None
    if lengths is not None:
        first, second = np.asarray(source.pair_first)[rows], np.asarray(source.pair_second)[rows]
        prompt = np.asarray(source.response_prompt)[first]
        preference = np.asarray(source.preference, dtype=np.float64)[rows]
        weight = np.asarray(source.pair_weight, dtype=np.float64)[rows]
        rules = length_baseline(lengths[first], lengths[second], preference, weight, prompt)
        result["length_baseline"] = {
            **entry("longest", rules.longest),
            **entry("shortest", rules.shortest),
        }
    return result


def _pair_rates(
    p_first: NDArray[np.float64], source: FeatureSource, rows: NDArray[np.int64]
) -> dict[str, Any]:
    if not (np.asarray(source.pair_weight)[rows] > 0).any():
        none = {key: None for name in RATES for key in (name, f"{name}_se")}
        return {"n_pairs": 0, "n_prompts": 0, **none}
    metrics = pair_metrics(
        p_first[rows],
        np.asarray(source.preference, dtype=np.float64)[rows],
        np.asarray(source.pair_weight, dtype=np.float64)[rows],
        np.asarray(source.response_prompt)[np.asarray(source.pair_first)[rows]],
    )
    result: dict[str, Any] = {"n_pairs": metrics.num_pairs, "n_prompts": metrics.num_prompts}
    for name in RATES:
        result |= entry(name, getattr(metrics, name))
    return result


def _latents(predictions: Predictions, source: FeatureSource) -> dict[str, Any]:
    names = ("kl_weights", "kl_weights_se", "kl_features", "kl_features_se")
    units = ("active_units_weights", "active_units_features")
    if predictions.kl_weights is None or predictions.kl_features is None:
        return dict.fromkeys((*names, *units))
    assert predictions.expected_weights is not None
    assert predictions.expected_features is not None
    num_prompts, num_responses = len(predictions.kl_weights), len(predictions.kl_features)
    active = active_units(predictions.expected_weights, predictions.expected_features)
    response_prompt = np.asarray(source.response_prompt)
    return {
        **entry(
            "kl_weights",
            cluster_mean(predictions.kl_weights, np.ones(num_prompts), np.arange(num_prompts)),
        ),
        **entry(
            "kl_features",
            cluster_mean(predictions.kl_features, np.ones(num_responses), response_prompt),
        ),
        units[0]: active.weights,
        units[1]: active.features,
    }


def _subsets(
    subset: Sequence[str | None] | None, weight: NDArray[np.float64]
) -> dict[str, NDArray[np.int64]]:
    """Return the pairs of each subset that has a pair with weight, by sorted name."""
    if subset is None or all(name is None for name in subset):
        return {}
    rows: dict[str, list[int]] = {}
    for row, name in enumerate(subset):
        rows.setdefault(NO_SUBSET if name is None else str(name), []).append(row)
    return {
        name: np.array(held) for name, held in sorted(rows.items()) if (weight[held] > 0).any()
    }
