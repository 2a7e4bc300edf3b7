"""Tests run with the shapes of signatures checked."""

import pytest
import torch
from jaxtyping import TypeCheckError

from vrm_pyro.models.likelihoods import BradleyTerry


def test_the_package_is_checked():
    with pytest.raises(TypeCheckError, match="delta"):
        BradleyTerry().probability([0.0])
    with pytest.raises(TypeCheckError, match="probability"):
        BradleyTerry().without_lapse(torch.ones(3, dtype=torch.int64))
