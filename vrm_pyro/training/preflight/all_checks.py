"""All checks before a run."""

from collections.abc import Iterator, Mapping
from typing import Final, cast

import numpy as np

from vrm_pyro.backbone import Backbone, TransformerBackbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.refused import place_of, refused_responses, without_refused
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.preflight.check import Check
from vrm_pyro.training.preflight.encoding import check_drift, check_encoding
from vrm_pyro.training.preflight.environment import check_environment, environment
from vrm_pyro.training.preflight.labels import check_labels
from vrm_pyro.training.preflight.overfit import check_overfit
from vrm_pyro.training.preflight.ratings import (
    check_rating_fit,
    check_rating_signal,
    check_ratings,
)
from vrm_pyro.training.preflight.signal import check_signal

MOST_RESPONSES: Final = 600


def preflight(
    config: ModelConfig,
    backbone: Backbone,
    train: PreferenceTable,
    validation: PreferenceTable | None = None,
    *,
    max_responses: int = MOST_RESPONSES,
    progress: bool = False,
) -> Iterator[Check]:
    """Run all checks of settings and rows, cheapest first; yield each when it is done.

    Args:
        config: Settings of the model.
        backbone: The backbone that the settings name.
        train: Training rows.
        validation: Validation rows.
        max_responses: Approximate number of responses in the sample whose states are computed.
        progress: Whether to show a progress bar while texts are encoded.

    Raises:
        InputError: If settings and rows do not fit.
    """
    yield from check_environment(environment())
    ratings_alone = train.num_pairs == 0 and train.has_ratings and learns_from_ratings(config)
    if ratings_alone:
        yield check_ratings(train)
    else:
        yield from check_labels(train)
        if train.num_pairs == 0:
            return
    if isinstance(backbone, TransformerBackbone):
        refused = refused_responses(train, backbone)
        if refused:
            yield check_refused(train, refused)
            train = without_refused(train, backbone)
            validation = validation and without_refused(validation, backbone)
        yield from check_encoding(backbone, train)
    yield check_drift(backbone, train)
    sample = _encoded(train, backbone, max_responses, progress)
    if ratings_alone:
        yield check_rating_fit(config, sample)
        yield check_rating_signal(sample)
        if validation is not None and validation.has_ratings:
            held = _encoded(validation, backbone, max_responses, progress)
            yield check_rating_signal(sample, held)
        return
    yield check_overfit(config, sample)
    yield check_signal(sample)
    if validation is not None and validation.num_pairs:
        yield check_signal(sample, _encoded(validation, backbone, max_responses, progress))


def learns_from_ratings(config: ModelConfig) -> bool:
    """Return whether ratings act on the scores of a model, so that they can train it alone."""
    return config.has_latents and config.supervision == "scores"


def check_refused(table: PreferenceTable, refused: Mapping[int, str]) -> Check:
    """Report the responses that the chat template does not take; the other checks leave them out.

    Args:
        table: The rows.
        refused: Responses with the template's reason.
    """
    first = min(refused)
    return Check(
        "chat template",
        "fail",
        f"{len(refused)} of {table.num_responses} responses stand in conversations that it "
        f"refuses, such as {place_of(table, first)}: {refused[first]}",
        "Write them as the template asks (many take no system turn: put it into the first turn of "
        "the user), or leave them out with --data.skip_invalid true.",
    )


def _encoded(
    table: PreferenceTable, backbone: Backbone, max_responses: int, progress: bool
) -> FeatureSource:
    chosen = sample_prompts(table, max_responses)
    features = encode_table(chosen, backbone, progress=progress)
    return cast(FeatureSource, features)


def sample_prompts(table: PreferenceTable, max_responses: int, seed: int = 0) -> PreferenceTable:
    """Return random prompts, which have about ``max_responses`` responses in total.

    Those with pairs; where there is no pair, those with ratings.
    """
    known = table.pair_prompt
    if table.num_pairs == 0:
        known = table.response_prompt[~np.isnan(table.ratings).all(axis=1)]
    prompts = np.random.default_rng(seed).permutation(np.unique(known))
    counts = np.bincount(table.response_prompt, minlength=table.num_prompts)[prompts]
    kept = int(np.searchsorted(np.cumsum(counts), max_responses, side="right"))
    return table.select_prompts(np.sort(prompts[: max(kept, 1)]))
