"""Rows with missing ratings, and scores of their responses."""

import pytest
import torch
from helpers.problems import small_batch


@pytest.fixture
def batch():
    return small_batch(6)


@pytest.fixture
def scores(batch):
    return torch.randn(batch.num_responses, 3).double()
