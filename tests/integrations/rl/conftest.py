"""What the tests of rewards for RL start from."""

import pytest
from helpers.reward_models import save_reward_model


@pytest.fixture(scope="session")
def model_dir(tmp_path_factory):
    """A folder with a small reward model."""
    return save_reward_model(tmp_path_factory.mktemp("reward"))


@pytest.fixture(scope="session")
def bayesian_dir(tmp_path_factory):
    """The same with a distribution of the head's parameters."""
    folder = tmp_path_factory.mktemp("bayesian")
    return save_reward_model(folder, bayesian_head=True, head_draws=4)
