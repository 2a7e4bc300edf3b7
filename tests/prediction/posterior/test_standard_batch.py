"""A batch of some prompts, in the units and the precision of the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import problems, sources

from vrm_pyro.prediction.posterior import log_evidence, standard_batch


@pytest.fixture
def rows():
    """Rows of a batch whose ratings are 3 + 0.8 times standard ones."""
    batch = problems.small_batch(6)
    source = sources.source_of(batch)
    return replace(source, ratings=3 + 0.8 * source.ratings)


def model_of(dtype, ratings=True):
    model = problems.small_model(ratings=ratings).to(dtype)
    with torch.no_grad():
        model.rating_loc.fill_(3.0)
        model.rating_scale.fill_(0.8)
        model.prompt_scaler.loc.fill_(0.2)
        model.response_scaler.scale.fill_(0.5)
    return model


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_and_ratings_are_standardised_in_the_precision_of_the_model(rows, dtype):
    found = standard_batch(model_of(dtype), rows)
    raw = problems.small_batch(6).to(torch.float32)
    assert found.prompts.dtype == found.ratings.dtype == dtype
    torch.testing.assert_close(found.prompts, (raw.prompts - 0.2).to(dtype))
    torch.testing.assert_close(found.responses, (raw.responses / 0.5).to(dtype))
    mask = raw.rating_mask
    assert torch.equal(found.rating_mask, mask)
    expected = raw.ratings[mask].to(dtype)
    torch.testing.assert_close(found.ratings[mask], expected, atol=1e-6, rtol=1e-5)


def test_prompts_come_in_the_order_asked_for_and_count_as_in_the_whole(rows):
    model = model_of(torch.float64)
    whole = standard_batch(model, rows)
    some = standard_batch(model, rows, np.array([4, 1]))
    assert torch.equal(some.prompts, whole.prompts[[4, 1]])
    few, many = (log_evidence(model, b, model.conditionals(b), 4096) for b in (some, whole))
    torch.testing.assert_close(few.log_prob, many.log_prob[[4, 1]], atol=0.05, rtol=0)


def test_a_model_without_ratings_reads_none(rows):
    found = standard_batch(model_of(torch.float64, ratings=False), rows)
    assert found.ratings.shape == (len(found.response_prompt), 0)
    assert not found.has_ratings
