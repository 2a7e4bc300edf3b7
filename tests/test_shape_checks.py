"""The decorator that checks calls of the package in tests."""

import pytest
import torch
from helpers.shape_checks import jaxtyped
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from vrm_pyro.models.likelihoods import BradleyTerry

checked = jaxtyped(typechecker=None)


@checked
def outer(left: Float[Tensor, "rows dim"], right: Float[Tensor, " dim"]) -> Float[Tensor, " rows"]:
    """Multiply; `right` of one entry is returned as it is, which has no `rows`."""
    return right if left.shape[0] == 2 else inner(left.T) @ right


@checked
def inner(turned: Float[Tensor, "rows dim"]) -> Float[Tensor, "dim rows"]:
    """Names of axes mean other sizes than at the caller."""
    return turned.T


def test_right_shapes_pass_and_each_call_has_its_own_names():
    torch.testing.assert_close(outer(torch.ones(4, 3), torch.ones(3)), torch.full((4,), 3.0))


def test_an_axis_has_one_size_in_all_arguments():
    with pytest.raises(TypeCheckError, match="right"):
        outer(torch.ones(4, 3), torch.ones(4))


def test_the_result_is_checked_with_the_sizes_of_the_arguments():
    with pytest.raises(TypeCheckError, match="return"):
        outer(torch.ones(2, 3), torch.ones(3))


def test_types_without_shapes_are_checked():
    @checked
    def half(number: int) -> float:
        return number / 2

    assert half(3) == 1.5
    with pytest.raises(TypeCheckError, match="number"):
        half("3")


def test_the_package_is_checked():
    with pytest.raises(TypeCheckError, match="delta"):
        BradleyTerry().probability([0.0])
    with pytest.raises(TypeCheckError, match="probability"):
        BradleyTerry().without_lapse(torch.ones(3, dtype=torch.int64))
