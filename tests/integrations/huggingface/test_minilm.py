"""The default backbone, from the package that carries a copy of it."""

import pytest
import torch
from helpers.configs import network_config
from helpers.reward_models import OBJECTIVES

from vrm_pyro.backbone import load_backbone, packaged_folder
from vrm_pyro.models.checkpoint import LoadedModel, save_model
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.settings.build import build_model

PROMPTS = ["Wie heißt der längste Fluss?", "Write a poem about 木 and fire.", "Is it safe? " * 60]
RESPONSES = ["Der Nil, nach manchen der Amazonas.", "No.", "It depends; ask a doctor. " * 30]


@pytest.mark.slow
@pytest.mark.skipif(packaged_folder() is None, reason="needs the package with MiniLM's weights")
def test_it_says_what_the_scorer_says(export_run, tmp_path):
    place = str(packaged_folder())
    backbone = load_backbone(place, max_length=128, dtype="float32", device="cpu")
    torch.manual_seed(3)
    config = network_config(
        weight_prior=ConditionalDirichletPrior(hidden_size=8),
        feature_prior=ConditionalNormalPrior(hidden_size=8),
        dtype="float32",
    )
    model = build_model(config, 384, 3, True)
    with torch.no_grad():
        for scaler in (model.prompt_scaler, model.response_scaler):
            scaler.scale.fill_(0.05)  # about that of a state's numbers
    facts = {
        "name": place,
        "pooling": backbone.pooling,
        "max_length": 128,
        "weights_hash": backbone.weights_hash,
        "tokenizer_hash": backbone.tokenizer_hash,
        "template_hash": backbone.template_hash,
    }
    (tmp_path / "run").mkdir()
    save_model(LoadedModel(model.eval(), config, OBJECTIVES, True, facts), tmp_path / "run")
    made = export_run(tmp_path / "run", tmp_path / "hf")
    output = made.model(**made.tokens(PROMPTS, RESPONSES, verbose=False))
    lines = made.scorer(PROMPTS, RESPONSES)
    for key, found in (("reward_mean", output.logits[:, 0]), ("reward_sd", output.reward_sd)):
        expected = torch.tensor([line[key] for line in lines])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    weights = torch.tensor([list(line["weights"].values()) for line in lines])
    torch.testing.assert_close(output.weights, weights, rtol=0, atol=1e-4)
    assert output.logits.std() > 0.05
    assert weights.std(0).min() > 1e-3
