"""Check ``units`` (spec 4.10): which weights and features react to the text?"""

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.checks.applies import no_latents
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import Finding, not_applicable
from vrm_pyro.diagnostics.metrics.active_units import active_units

NAME: Final = "units"


def unit_use(
    expected_weights: NDArray[Any],
    expected_features: NDArray[Any],
    feature_variance: NDArray[Any],
    kl_weights: NDArray[Any],
    objectives: Sequence[str],
) -> Finding:
    """Return active units and the KL from N(0, 1) of each feature.

    The KL of a feature is that of its marginal distribution, averaged over responses; their sum is
    the KL of z where features are independent given the text. No alarm: a model may use fewer
    features than it has; ``collapse`` says when it uses none.

    Args:
        expected_weights: E[w | x], shape (P, K).
        expected_features: E[z | x, y], shape (R, d_z).
        feature_variance: Var[z_d | x, y], shape (R, d_z).
        kl_weights: KL(p(w | x) || Dir(1)), shape (P,).
        objectives: Names, K of them.
    """
    active = active_units(expected_weights, expected_features)
    mean, variance = (
        np.asarray(expected_features, np.float64),
        np.asarray(feature_variance, np.float64),
    )
    with np.errstate(divide="ignore"):  # a point has an infinite KL
        kl = 0.5 * (variance + mean**2 - 1 - np.log(variance)).mean(0)
    finite = kl_weights[np.isfinite(kl_weights)]
    size = mean.shape[1]
    weights = f" and {active.weights} of {len(objectives)} weights" if len(objectives) > 1 else ""
    verdict = (
        f"{active.features} of {size} features{weights} react to the text; "
        f"KL {float(np.mean(kl)):.2f} nats a feature."
    )
    idle = [
        name
        for name, v in zip(objectives, active.variance_weights, strict=True)
        if v <= active.threshold_weights
    ]
    if idle and active.weights:
        verdict += f" Weights that do not: {', '.join(idle)}."
    return Finding(
        NAME, float(active.features), "active features", None, None, None, verdict,
        "" if active.features > size / 2 else "A smaller model.latent_dim would do the same.",
        detail={
            "active_weights": active.weights, "active_features": active.features,
            "objectives": list(objectives), "variance_weights": active.variance_weights,
            "variance_features": active.variance_features, "kl_of_feature": kl,
            "kl_weights": float(finite.mean()) if len(finite) else None,
            "thresholds": [active.threshold_weights, active.threshold_features],
        },
    )  # fmt: skip


def find_units(inputs: CheckInputs) -> Finding:
    """Active units and KL by feature."""
    if reason := no_latents(inputs):
        return not_applicable(NAME, reason)
    found, means = inputs.predictions, inputs.means
    assert found.expected_weights is not None
    assert found.expected_features is not None
    assert found.kl_weights is not None
    assert means.feature_variance is not None
    return unit_use(
        found.expected_weights,
        found.expected_features,
        means.feature_variance,
        found.kl_weights,
        inputs.loaded.objectives,
    )


CHECK: Final[Diagnostic] = Diagnostic(
    find_units,
    question="Which weights and features react to the text?",
    group="sample_stats",
    costly=False,
)
