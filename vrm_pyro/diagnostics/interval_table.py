"""How good the intervals of a model's preference probabilities are."""

from typing import Any, Final

import numpy as np
import torch

from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.evaluation import entry
from vrm_pyro.diagnostics.metrics.interval_rates import interval_rates
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.predict import Predictions

SDS: Final = 1.0
"""Standard deviations of the reward difference on each side of an interval."""


def interval_table(
    model: RewardModel, source: FeatureSource, predictions: Predictions
) -> dict[str, Any] | None:
    """Return metrics of the intervals [p(Delta - sd), p(Delta + sd)] of all pairs, as JSON values.

    ``total`` takes the standard deviation of the reward difference with everything that the model
    leaves open, ``epistemic`` that of the parameters alone, as RewardUQ's methods do. See
    :func:`~vrm_pyro.diagnostics.metrics.interval_rates.interval_rates`.

    Args:
        model: The model.
        source: Rows with states and comparisons.
        predictions: What :func:`~vrm_pyro.prediction.predict.predict` gave for them.

    Returns:
        None without a comparison.

    Raises:
        ValueError: If the predictions lack reward differences.
    """
    weight = np.asarray(source.pair_weight, dtype=np.float64)
    if not (weight > 0).any():
        return None
    if predictions.delta is None:
        raise ValueError(
            "evaluate: predictions lack reward differences. Give what vrm_pyro.predict returned."
        )
    with evaluation_mode(model) as device:
        mean, ambiguity, epistemic = torch.from_numpy(predictions.delta).to(device)
        ends = [
            model.likelihood.probability(mean + side * SDS * variance.sqrt())
            for variance in (ambiguity + epistemic, epistemic)
            for side in (-1, 1)
        ]
        bounds = torch.stack(ends).cpu().numpy()
    preference = np.asarray(source.preference, dtype=np.float64)
    prompt = np.asarray(source.response_prompt)[np.asarray(source.pair_first)]
    found: dict[str, Any] = {"sds": SDS}
    for name, (low, high) in (("total", bounds[:2]), ("epistemic", bounds[2:])):
        rates = interval_rates(low, high, preference, weight, prompt)
        found[name] = {
            "lower_calibration_error": rates.lower_calibration_error,
            "upper_calibration_error": rates.upper_calibration_error,
            **entry("confident_true", rates.confident_true),
            **entry("confident_false", rates.confident_false),
        }
    return found
