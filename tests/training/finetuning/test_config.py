"""Settings for training the backbone."""

import pytest
from helpers.tiny_backbones import tiny_backbone

from vrm_pyro.errors import InputError
from vrm_pyro.training.finetuning import Tuner, TuningConfig


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, ("tuning.rank is 0", "at least 1")),
        ({"learning_rate": -1.0}, ("tuning.learning_rate is -1.0", "positive")),
        ({"frozen_fraction": 1.0}, ("tuning.frozen_fraction is 1.0", "[0, 1)")),
        ({"dropout": 1.5}, ("tuning.dropout is 1.5",)),
        ({"alpha": 0}, ("tuning.alpha is 0",)),
        ({"max_batch_tokens": -1}, ("tuning.max_batch_tokens is -1",)),
        ({"shard": True, "compile": True}, ("tuning.shard and tuning.compile",)),
        ({"shard": True, "method": "frozen"}, ("tuning.shard is true", "method is frozen")),
        ({"target_modules": " "}, ("tuning.target_modules", "all-linear")),
        ({"target_modules": "nothing_like_it"}, ("tuning.target_modules", "all-linear")),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(InputError) as error:
        Tuner(TuningConfig(**({"method": "lora"} | settings)), tiny_backbone("qwen3"))
    assert all(word in str(error.value) for word in words)
