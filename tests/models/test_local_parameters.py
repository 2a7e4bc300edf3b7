import subprocess
import sys

import pyro
import torch
from helpers.problems import small_batch, small_model

from vrm_pyro.models.evaluation import evaluation_mode

READ = (
    "import pyro, vrm_pyro.models.vrm, vrm_pyro.training.module, vrm_pyro.integrations.rl;"
    "assert pyro.settings.get('module_local_params') is False"
)


def test_importing_the_package_leaves_pyro_as_it_is():
    subprocess.run([sys.executable, "-c", READ], check=True)


def test_parameters_are_local_within_our_own_calls():
    model, batch = small_model(), small_batch()
    held = []
    model.feature_prior.register_forward_hook(
        lambda *_: held.append(pyro.settings.get("module_local_params"))
    )
    model.conditionals(batch)
    with evaluation_mode(model):
        assert pyro.settings.get("module_local_params")
    assert held == [True]
    assert not pyro.settings.get("module_local_params")


def test_a_user_program_keeps_its_store():
    """A module of the user's own registers its parameters where Pyro does by default."""
    small_model()

    class Own(pyro.nn.PyroModule):
        def __init__(self):
            super().__init__()
            self.scale = pyro.nn.PyroParam(torch.tensor(2.0))

        def forward(self):
            return self.scale

    Own()()
    assert "scale" in pyro.get_param_store()
