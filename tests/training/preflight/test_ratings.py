"""Checks of rows with ratings alone."""

from dataclasses import replace

import numpy as np
import pytest
from helpers.configs import network_config
from helpers.sources import directed_source, without_pairs

from vrm_pyro.data.rows import load_table
from vrm_pyro.training.preflight.ratings import (
    check_rating_fit,
    check_rating_signal,
    check_ratings,
)


@pytest.fixture(scope="module")
def source():
    """Ratings along one direction of the states, and noise."""
    made = without_pairs(directed_source(ratings=2))
    quality = made.responses @ np.random.default_rng(99).normal(size=made.responses.shape[1])
    return replace(made, ratings=3 + 0.5 * quality[:, None] + 0.1 * made.ratings)


def rated(values):
    return load_table(
        [{"prompt": "a", "response": f"r{i}", "ratings": v} for i, v in enumerate(values)]
    )


def test_ratings_are_counted_and_equal_ones_named():
    found = check_ratings(rated([{"x": 1, "y": 2}, {"x": 2, "y": None}]))
    assert (found.verdict, "3 ratings of 2 responses" in found.finding) == ("warn", True)
    assert "of y are equal" in found.finding
    assert check_ratings(rated([{"x": 1}, {"x": 2}])).verdict == "ok"
    assert check_ratings(rated([{"x": 1}, {"x": 1}])).verdict == "fail"


def test_a_model_learns_a_few_and_one_that_cannot_is_found(source):
    config = network_config(objective="integrated")
    found = check_rating_fit(config, source)
    assert found.verdict == "ok", found
    assert "ratings after" in found.finding
    same = replace(source, responses=0 * source.responses + 1)
    assert check_rating_fit(config, same, num_steps=50).verdict == "fail"


def test_signal_is_found_where_there_is_some(source):
    found = check_rating_signal(source)
    assert found.verdict == "ok", found
    assert "held-out prompts" in found.finding
    held = replace(source, ratings=source.ratings)
    assert "the validation rows" in check_rating_signal(source, held).finding
    noise = np.random.default_rng(0).normal(size=source.ratings.shape)
    assert check_rating_signal(replace(source, ratings=noise)).verdict == "warn"
