import copy

import pytest
import torch
from torch import nn

from vrm_pyro.errors import InputError
from vrm_pyro.training.checkpoint_files import check_optimizer, check_random


@pytest.fixture
def parts(tmp_path):
    """An optimizer with a schedule after a step, and their checkpoint."""
    module = nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    schedule.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save(schedule.state_dict(), tmp_path / "scheduler.pt")
    return tmp_path, optimizer, schedule


@pytest.mark.parametrize("kind", ["SGD", "Adagrad", "Adadelta", "RMSprop", "Rprop", "NAdam"])
def test_optimizers_of_torch_pass(tmp_path, kind):
    module = nn.Linear(3, 2)
    optimizer = getattr(torch.optim, kind)(module.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)
    module(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), tmp_path / "optimizer.pt")
    torch.save(schedule.state_dict(), tmp_path / "scheduler.pt")
    check_optimizer(tmp_path, optimizer, schedule)


def test_what_was_written_passes(parts):
    check_optimizer(*parts)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s["state"][0].update(exp_avg=torch.zeros(7)), "'state.0.exp_avg' is torch.fl"),
        (lambda s: s["state"][1].update(step="many"), "'state.1.step' is 'many'"),
        (lambda s: s["state"][0]["exp_avg_sq"].fill_(-1), "'state.0.exp_avg_sq' must be at least"),
        (lambda s: s["param_groups"][0].update(lr=float("nan")), "'param_groups.0.lr' is nan"),
        (lambda s: s["param_groups"][0].update(params=[0, 0]), "must name each once"),
        (lambda s: s["param_groups"].append(s["param_groups"][0]), "a list of 1 values"),
    ],
)
def test_another_state_is_refused(parts, change, words):
    folder, optimizer, schedule = parts
    state = copy.deepcopy(optimizer.state_dict())
    change(state)
    torch.save(state, folder / "optimizer.pt")
    with pytest.raises(InputError, match=words):
        check_optimizer(folder, optimizer, schedule)


def test_random_states(tmp_path):
    torch.save({"python": 3}, tmp_path / "rng_state.pth")
    with pytest.raises(InputError, match="rng_state.pth: 'python' is 3"):
        check_random(tmp_path, "rng_state.pth")
