"""Small trainings, for tests of stopping and resuming."""

import numpy as np
from helpers.configs import network_config
from helpers.sources import NumberSource
from transformers import TrainerCallback

from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

BASELINE = network_config(architecture="bradley_terry", head_size=8, head_dropout=0.0)
_SMALL = {
    "num_objectives": 3,
    "latent_dim": 3,
    "weight_prior": ConditionalDirichletPrior(hidden_size=8, dropout=0.0),
    "feature_prior": ConditionalNormalPrior(hidden_size=8, dropout=0.0),
}
VRM = network_config(**_SMALL)


class StopAfter(TrainerCallback):
    """Raise after some steps, as an interrupt would."""

    def __init__(self, steps):
        self.steps = steps

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= self.steps:
            raise KeyboardInterrupt


def number_source(num_prompts, seed):
    """Return two to five responses a prompt, all compared with the first."""
    rng = np.random.default_rng(seed)
    sizes = rng.integers(2, 6, size=num_prompts)
    response_prompt = np.repeat(np.arange(num_prompts), sizes)
    responses = rng.normal(size=(len(response_prompt), 5)).astype(np.float32)
    reward = responses[:, :2].sum(1) + 0.5 * rng.normal(size=len(responses))
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    second = np.setdiff1d(np.arange(len(responses)), starts)
    first = starts[response_prompt[second]]
    return NumberSource(
        prompts=rng.normal(size=(num_prompts, 5)).astype(np.float32),
        responses=responses,
        response_prompt=response_prompt,
        pair_first=first,
        pair_second=second,
        preference=(reward[first] > reward[second]).astype(np.float64),
        pair_weight=np.ones(len(first)),
        ratings=np.zeros((len(responses), 0)),
    )


def run(config, folder, callbacks=None, num_prompts=27, num_validation=9, **settings):
    """Train for a few epochs; the last batch of an epoch is not full."""
    values = {
        "output_dir": str(folder), "num_train_epochs": 3, "use_cpu": True, "disable_tqdm": True,
        "logging_steps": 1, "early_stopping_patience": 0,
    }  # fmt: skip
    sources = number_source(num_prompts, 0), number_source(num_validation, 1)
    return train(config, TrainArguments(**(values | settings)), *sources, callbacks=callbacks)
