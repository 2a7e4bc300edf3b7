"""Small random reward models, in memory and on disk, with the tiny backbone they were made for."""

import torch
from helpers import tiny_backbones
from helpers.configs import network_config

from vrm_pyro.backbone import load_backbone
from vrm_pyro.models.checkpoint import LoadedModel, save_model
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.settings.build import build_model

OBJECTIVES = ("clarity", "depth", "safety")


def save_reward_model(folder, kind="bert", **settings):
    """Write a model of random networks that react to their inputs; return its folder."""
    place = tiny_backbones.save_tiny_backbone(folder / kind, kind)
    pooling = "mean" if kind in ("bert", "roberta") else "last"  # states of 32 values
    settings_of_states = {"pooling": pooling, "layer": None, "max_length": 120}
    backbone = load_backbone(str(place), dtype="float32", **settings_of_states)
    torch.manual_seed(3)
    standard = {
        "weight_prior": ConditionalDirichletPrior(hidden_size=8),
        "feature_prior": ConditionalNormalPrior(hidden_size=8),
        "dtype": "float32",
    }
    config = network_config(**(standard | settings))
    model = build_model(config, 32, 3, True)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, torch.nn.Linear):
                layer.weight.mul_(3)
    if config.bayesian_head and config.head_covariance == "laplace":
        model.parameter_posterior.fit(
            10 * torch.eye(model.parameter_posterior.size, dtype=torch.float64)
        )
    (folder / "model").mkdir()
    save_model(
        LoadedModel(model.eval(), config, OBJECTIVES, True, facts_of(backbone, str(place))),
        folder / "model",
    )
    return folder / "model"


def facts_of(backbone, name=None):
    """Return what a model notes of the backbone it was made for."""
    return {
        "name": name or backbone.name,
        "pooling": backbone.pooling,
        "max_length": backbone.max_length,
        "weights_hash": backbone.weights_hash,
        "tokenizer_hash": backbone.tokenizer_hash,
        "template_hash": backbone.template_hash,
    }


def loaded_model(backbone, rated=True, architecture="vrm"):
    """Return a random model of three objectives, with dropout to switch off."""
    torch.manual_seed(3)
    config = network_config(
        architecture=architecture,
        weight_prior=ConditionalDirichletPrior(hidden_size=8, dropout=0.4),
        feature_prior=ConditionalNormalPrior(hidden_size=8, dropout=0.4),
        head_dropout=0.4,
    )
    model = build_model(config, 32, 3, rated)
    if architecture == "vrm":
        with torch.no_grad():
            model.rating_loc.fill_(3.5)
            model.rating_scale.fill_(0.7)
            if rated:
                model.ratings.offset.copy_(torch.tensor([0.3, -0.2, 0.1]))
    return LoadedModel(model.eval(), config, OBJECTIVES, rated, facts_of(backbone))
