"""Diagnostics of predictions: from a model and rows to findings."""

import numpy as np

from vrm_pyro import sites
from vrm_pyro.diagnose.latent import NO_LATENTS
from vrm_pyro.diagnose.material import Floats, Material, shuffled_predictions
from vrm_pyro.diagnostics import (
    artefacts,
    calibration,
    loo,
    predictive_checks,
    shift,
    shuffle,
    weight_evidence,
)
from vrm_pyro.diagnostics.finding import Finding, not_applicable
from vrm_pyro.diagnostics.power_scaling import MIN_DRAWS, smooth
from vrm_pyro.diagnostics.predictive_checks import Outcomes

NO_PAIRS = "the rows hold no comparison with a positive weight."


def _no_pairs(material: Material) -> bool:
    return not bool((material.pair_weight > 0).any())


def find_calibration(material: Material) -> Finding:
    """Reliability, ECE, Brier score, slope."""
    if _no_pairs(material):
        return not_applicable(calibration.NAME, NO_PAIRS)
    return calibration.calibration(
        material.predictions.p_first,
        material.preference,
        material.pair_weight,
        material.rows.pair_prompt,
        material.seed,
    )


def find_loo(material: Material) -> Finding:
    """Log predictive density by prompt, against a coin and other models."""
    if _no_pairs(material):
        return not_applicable(loo.NAME, NO_PAIRS)
    mass = np.bincount(
        material.rows.pair_prompt, material.pair_weight, minlength=material.rows.num_prompts
    )
    used = mass > 0
    return loo.loo_by_prompt(
        material.log_scores[used],
        -np.log(2) * mass[used],
        {name: values[used] for name, values in material.others.items()},
    )


def find_predictive(material: Material) -> Finding:
    """Observed outcomes against drawn ones, by subset."""
    some, model = material.some, material.vrm
    name = predictive_checks.NAME
    source = some.source
    if model is None:
        if _no_pairs(material):
            return not_applicable(name, NO_PAIRS)
        rng = np.random.default_rng(material.seed)
        p = material.predictions.p_first
        drawn = (rng.random((material.num_draws, len(p))) < p).astype(np.float32)
        return predictive_checks.predictive_checks(
            Outcomes(
                p, material.preference, drawn, material.rows.pair_prompt, None, None,
                np.asarray(material.rows.source.response_prompt), material.rows.prompt_subset, (),
            )
        )  # fmt: skip
    groups = material.draws.groups
    observed, made = groups["observed_data"], groups[material.draws.predictive_group]
    constant = groups["constant_data"]
    empty = np.zeros(0)
    levels = material.loaded.config.rating_likelihood
    known = model.ratings is not None and type(levels).__name__ != "DifferenceRatings"
    return predictive_checks.predictive_checks(
        Outcomes(
            np.asarray(groups["sample_stats"].get("p_first", empty)),
            np.asarray(observed.get(sites.PREFERENCE, empty)),
            np.asarray(made.get(sites.PREFERENCE, np.zeros((material.num_draws, 0)))),
            np.asarray(constant.get("pair_prompt", np.zeros(0, np.int64))),
            observed.get(sites.RATING) if known else None,
            made.get(sites.RATING) if known else None,
            np.asarray(source.response_prompt),
            some.prompt_subset,
            material.loaded.objectives,
        )
    )


def find_weights(material: Material) -> Finding:
    """Standard errors of the weights, and whether labels ask for others."""
    model, name = material.vrm, weight_evidence.NAME
    if model is None:
        return not_applicable(name, NO_LATENTS)
    if model.num_objectives == 1:
        return not_applicable(name, "there is one objective, whose weight is 1.")
    if _no_pairs(material):
        return not_applicable(name, NO_PAIRS)
    scores, source = material.means.scores, material.rows.source
    assert scores is not None
    assert material.predictions.expected_weights is not None
    first, second = np.asarray(source.pair_first), np.asarray(source.pair_second)
    prompt = material.rows.pair_prompt
    return weight_evidence.weight_evidence(
        scores[first] - scores[second],
        material.predictions.expected_weights[prompt],
        float(model.reward().scale.detach()),
        material.predictions.p_first,
        material.preference,
        material.pair_weight,
        prompt,
        material.loaded.objectives,
        [material.rows.prompt_subset[i] for i in prompt],
    )


def find_shuffle(material: Material) -> Finding:
    """Predictions after w or z was dealt to other rows."""
    if material.vrm is None:
        return not_applicable(shuffle.NAME, NO_LATENTS)
    if _no_pairs(material):
        return not_applicable(shuffle.NAME, NO_PAIRS)
    pairs, found = shuffled_predictions(material)
    if not material.vrm.weights_follow_prompt:
        found = {name: values for name, values in found.items() if name != "w"}
    return shuffle.shuffle(
        material.predictions.p_first[pairs],
        found,
        material.preference[pairs],
        material.pair_weight[pairs],
        material.rows.pair_prompt[pairs],
    )


def find_length(material: Material) -> Finding:
    """What rewards, scores and features owe to length and position."""
    if _no_pairs(material):
        return not_applicable(artefacts.NAME, NO_PAIRS)
    source, means = material.rows.source, material.means
    first, second = np.asarray(source.pair_first), np.asarray(source.pair_second)

    def difference(values: Floats) -> Floats:
        return np.asarray(values[first] - values[second])

    found = {"reward": difference(means.reward)}
    if means.scores is not None:
        scores = difference(means.scores)
        names = material.loaded.objectives
        found |= {f"score {n}": scores[:, k] for k, n in enumerate(names)}
    if material.predictions.expected_features is not None:
        features = difference(material.predictions.expected_features)
        found |= {f"feature {d}": features[:, d] for d in range(features.shape[1])}
    ratings = np.asarray(source.ratings, np.float64)
    return artefacts.artefacts(
        difference(np.log1p(material.rows.lengths)),
        found,
        material.predictions.p_first,
        material.preference,
        material.pair_weight,
        material.rows.pair_prompt,
        difference(ratings) if ratings.shape[1] else None,
    )


def find_shift(material: Material) -> Finding:
    """Whether some rows are unlike others, or unlike training rows."""
    reference = material.reference
    whole = _by_prompt(material)
    return shift.shift(
        whole,
        material.rows.prompt_subset,
        None if reference is None else _by_prompt(reference),
    )


def find_shift_of_guide(material: Material) -> Finding:
    """The same of what needs outcomes and draws, k-hat and KL(q || p), on fewer rows."""
    name = "guide_shift"
    if material.vrm is None or material.loaded.config.guide.point:
        return not_applicable(name, "there is no posterior with a spread.")
    if material.num_draws < MIN_DRAWS:
        return not_applicable(name, f"it takes {MIN_DRAWS} draws (--draws).")
    reference = material.reference
    return shift.shift(
        _of_guide(material),
        material.some.prompt_subset,
        None if reference is None else _of_guide(reference),
        name=name,
    )


def _by_prompt(material: Material) -> dict[str, Floats]:
    """Return KLs from a fixed reference and Var[Delta] of each prompt."""
    found, rows = material.predictions, material.rows
    values = {
        "Var[Delta]": _mean(material.means.delta_variance, rows.pair_prompt, rows.num_prompts)
    }
    if found.kl_weights is None or found.kl_features is None:
        values["reward distance"] = _mean(
            np.abs(_pair_differences(material)), rows.pair_prompt, rows.num_prompts
        )
        del values["Var[Delta]"]  # 0 for a model without latents
        return values
    responses = np.asarray(rows.source.response_prompt)
    if np.isfinite(found.kl_weights).all():
        values["KL of w"] = found.kl_weights
        values["KL of z"] = _mean(found.kl_features, responses, rows.num_prompts)
    return values


def _of_guide(material: Material) -> dict[str, Floats]:
    statistics, some = material.draws.groups["sample_stats"], material.some
    responses = np.asarray(some.source.response_prompt)
    kl_z = _mean(np.asarray(statistics["kl_features_guide"]), responses, some.num_prompts)
    return {
        "k-hat": smooth(np.asarray(statistics["log_weight"], np.float64)).khat,
        "KL(q(w) || p(w))": np.asarray(statistics["kl_weights_guide"]),
        "KL(q(z) || p(z))": kl_z,
    }


def _pair_differences(material: Material) -> Floats:
    source, reward = material.rows.source, material.means.reward
    return np.asarray(
        reward[np.asarray(source.pair_first)] - reward[np.asarray(source.pair_second)]
    )


def _mean(values: Floats, group: np.ndarray, num_groups: int) -> Floats:
    """Return the mean of each group, NaN for an empty one."""
    count = np.bincount(group, minlength=num_groups)
    total = np.bincount(group, values, minlength=num_groups)
    return np.divide(total, count, out=np.full(num_groups, np.nan), where=count > 0)
