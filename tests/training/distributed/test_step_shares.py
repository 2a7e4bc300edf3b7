import pytest

from vrm_pyro.errors import InputError
from vrm_pyro.training.distributed.step_shares import deal
from vrm_pyro.training.manifest import StepShape


@pytest.mark.parametrize(
    ("before", "processes", "now"),
    [
        ((2, 8, 1), 1, (8, 2)),
        ((1, 8, 2), 2, (8, 1)),
        ((1, 8, 1), 2, (4, 1)),  # smaller batches where there are not enough of them
        ((1, 8, 3), 2, (6, 2)),
        ((4, 8, 1), 8, (4, 1)),
        ((8, 8, 1), 6, None),
        ((2, 3, 1), 4, None),
    ],
)
def test_same_prompts_in_a_step(before, processes, now):
    shape = StepShape(*before)
    if now is None:
        with pytest.raises(InputError, match="cannot share evenly"):
            deal(shape, processes, fixed_batches=False)
        return
    found = deal(shape, processes, fixed_batches=False)
    assert found == StepShape(processes, *now)
    assert found.prompts == shape.prompts


def test_groups_of_a_token_budget_stay():
    assert deal(StepShape(2, 8, 1), 1, fixed_batches=True) == StepShape(1, 8, 2)
    with pytest.raises(InputError, match="1 batches of a token budget"):
        deal(StepShape(1, 8, 1), 2, fixed_batches=True)
