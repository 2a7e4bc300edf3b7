"""Tests run with the shapes of signatures checked."""

import pytest
import torch
from beartype import beartype
from helpers.shape_checks import CHECKED_CALLS, begin_test, jaxtyped
from jaxtyping import Float, TypeCheckError
from torch import Tensor

from vrm_pyro.models.likelihoods import BradleyTerry


def test_the_package_is_checked():
    with pytest.raises(TypeCheckError, match="delta"):
        BradleyTerry().probability([0.0])
    with pytest.raises(TypeCheckError, match="probability"):
        BradleyTerry().without_lapse(torch.ones(3, dtype=torch.int64))


def plain(number: int, values: Tensor | None = None) -> tuple[int, Tensor | None]:
    return number, values


def alone(x: Float[Tensor, " rows"]) -> None: ...
def inside_a_union(x: Float[Tensor, " rows"] | None) -> None: ...
def inside_others(x: dict[str, list[Float[Tensor, " rows"]]]) -> None: ...
def as_text(x: 'Float[Tensor, " rows"]') -> None: ...
def returned(x) -> Float[Tensor, " rows"]:
    return x


def test_functions_without_shapes_are_left_alone():
    assert jaxtyped(typechecker=None)(plain) is plain


@pytest.mark.parametrize("function", [alone, inside_a_union, inside_others, as_text, returned])
def test_functions_with_shapes_are_decorated(function):
    assert jaxtyped(typechecker=None)(function) is not function


def test_every_test_checks_the_first_calls_again():
    checked = jaxtyped(typechecker=beartype)(alone)
    for _ in range(2):
        begin_test()
        for _ in range(CHECKED_CALLS):
            with pytest.raises(TypeCheckError):
                checked(torch.ones(3, 3))
        checked(torch.ones(3, 3))
