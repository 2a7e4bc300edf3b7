"""Every kind of head that training knows is exported with its numbers."""

import pytest
import torch
from helpers.reward_models import save_reward_model
from helpers.tiny_backbones import text

from vrm_pyro.models.guides import FullCovarianceGuide, LabelBlindGuide
from vrm_pyro.models.priors import (
    ConditionalLogisticNormalPrior,
    CorrelatedNormalPrior,
    DirichletPrior,
    KernelDirichletPrior,
    NormalPrior,
)

PROMPTS = [text(i // 2, 6) for i in range(6)]
RESPONSES = [text(50 + i, 3 + 2 * i) for i in range(6)]

HEADS = {
    "bradley_terry": {"architecture": "bradley_terry", "head_size": 8},
    "ensemble": {"architecture": "bradley_terry", "head_size": 8, "ensemble_size": 3},
    "vib": {
        "mode": "vib",
        "objective": "integrated",
        "supervision": "weights",
        "weight_prior": DirichletPrior(),
        "feature_prior": NormalPrior(),
        "guide": LabelBlindGuide(hidden_size=8),
    },
    "covariances": {
        "weight_prior": ConditionalLogisticNormalPrior(hidden_size=8),
        "feature_prior": CorrelatedNormalPrior(hidden_size=8),
        "guide": FullCovarianceGuide(),
    },
    "kernel": {"weight_prior": KernelDirichletPrior()},
    "bayesian": {"bayesian_head": True, "head_draws": 4},
    "laplace": {"bayesian_head": True, "head_draws": 4, "head_covariance": "laplace"},
}


SLOW = ("bayesian", "ensemble", "kernel")


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.slow) if n in SLOW else n for n in sorted(HEADS)]
)
def test_it_says_what_the_scorer_says(export_run, name, tmp_path):
    run = save_reward_model(tmp_path, "qwen3", **HEADS[name])
    made = export_run(run, tmp_path / "hf")
    output = made.model(**made.tokens(PROMPTS, RESPONSES), num_draws=3)
    lines = made.scorer(PROMPTS, RESPONSES)
    for key, found in (("reward_mean", output.logits[:, 0]), ("reward_sd", output.reward_sd)):
        expected = torch.tensor([line[key] for line in lines])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert output.logits.std() > 0.05
    assert output.draws.shape == (3, 6)
    plain = HEADS[name].get("architecture") == "bradley_terry"
    assert (output.weights is None) == (output.scores is None) == plain
    assert (float(output.reward_sd.max()) > 0) != plain
