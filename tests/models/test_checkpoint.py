import json
import os
import stat
from dataclasses import dataclass, replace

import pytest
import torch
from helpers.configs import network_config
from helpers.problems import Arrays, small_batch
from safetensors.torch import load_file

from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import (
    LoadedModel,
    load_model,
    save_model,
    settings_from_json,
    settings_to_json,
)
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.priors import ConditionalDirichletPrior, DirichletPrior, NormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.training.preparation import fit_scalers

OBJECTIVES = ("clear", "safe", "short")
CONFIGS = {
    "default": network_config(),
    "identity": network_config(
        scores="identity", latent_dim=0, rating_likelihood=GaussianRatings(learn_scale=False)
    ),
    "other sizes": network_config(
        weight_prior=ConditionalDirichletPrior(hidden_size=0), latent_dim=2
    ),
    "vib": network_config(
        mode="vib",
        weight_prior=DirichletPrior(0.7),
        feature_prior=NormalPrior(2.0),
        guide=LabelBlindGuide(hidden_size=4),
        objective="integrated",
        supervision="weights",
        kl_weights=0.1,
    ),
    "baseline": network_config(architecture="bradley_terry", head_size=5),
    "linear baseline": network_config(architecture="bradley_terry", head_size=0),
    "ensemble": network_config(architecture="bradley_terry", head_size=5, ensemble_size=3),
    "ensemble of VRMs": network_config(ensemble_size=2),
}


def trained(name="default", rated=True):
    """Return a model whose every number is its own."""
    config = CONFIGS[name]
    batch = small_batch(dtype=torch.float32)
    model = build_model(config, batch.prompts.shape[1], len(OBJECTIVES), rated)
    fit_scalers(model, Arrays(batch))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    if config.architecture == "vrm":
        model.set_rating_unit(3.3, 0.7)
    facts = {"name": "tiny", "pooling": "mean", "max_length": 60, "weights_hash": "ab"}
    facts |= {"template_hash": "cd", "tokenizer_hash": "ef"}
    return LoadedModel(model.eval(), config, OBJECTIVES, rated, facts)


def saved(folder, name="default", rated=True):
    held = trained(name, rated)
    save_model(held, folder)
    return held


@pytest.mark.parametrize("rated", [True, False])
@pytest.mark.parametrize("name", sorted(CONFIGS))
def test_round_trip_is_exact(tmp_path, name, rated):
    held = saved(tmp_path, name, rated)
    again = load_model(tmp_path)
    before, after = held.model.state_dict(), again.model.state_dict()
    assert before.keys() == after.keys()
    assert all(before[key].equal(after[key]) for key in before)
    assert again.config == held.config
    assert (again.objectives, again.rated, again.backbone) == (OBJECTIVES, rated, held.backbone)
    assert (again.rating_loc, again.rating_scale) == (held.rating_loc, held.rating_scale)
    assert (again.architecture, again.mode) == (held.config.architecture, held.config.mode)
    assert again.hidden_size == 3
    assert not again.model.training
    batch = small_batch(dtype=torch.float32)
    assert held.model.predict_pairs(batch).equal(again.model.predict_pairs(batch))
    one, two = (m.predict_responses(batch).reward for m in (held.model, again.model))
    assert one.mean.equal(two.mean)
    assert one.variance.equal(two.variance)


def test_saving_twice_gives_the_same_bytes(tmp_path):
    held = trained()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        save_model(held, tmp_path / name)
    for file in ("config.json", "model.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


def test_others_may_read_what_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        saved(tmp_path)
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "model.safetensors").stat().st_mode) == 0o644


def test_description_is_values_and_names_of_closed_tables(tmp_path):
    saved(tmp_path)
    description = json.loads((tmp_path / "config.json").read_text())
    assert description["model_type"] == "vrm_pyro"
    assert description["settings"]["guide"]["class"] == "OutcomeAwareGuide"
    assert "vrm_pyro." not in json.dumps(description["settings"])


def test_weights_of_another_model_are_refused(tmp_path):
    saved(tmp_path)
    description = (tmp_path / "config.json").read_text()
    saved(tmp_path, "other sizes")
    (tmp_path / "config.json").write_text(description)
    with pytest.raises(InputError, match="do not belong together"):
        load_model(tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.99])
def test_a_cut_file_is_refused(tmp_path, share):
    saved(tmp_path)
    path = tmp_path / "model.safetensors"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(InputError, match=r"model\.safetensors: truncated or not safetensors"):
        load_model(tmp_path)


def test_nothing_is_unpickled(tmp_path):
    saved(tmp_path)

    class Trap:
        def __reduce__(self):
            return os.mkdir, (str(tmp_path / "sprung"),)

    torch.save({"x": Trap()}, tmp_path / "model.safetensors")
    with pytest.raises(InputError, match="not safetensors"):
        load_model(tmp_path)
    assert not (tmp_path / "sprung").exists()


def test_settings_as_json_and_back():
    for config in CONFIGS.values():
        values = json.loads(json.dumps(settings_to_json(config)))
        assert settings_from_json(values, "here") == config


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"weight_prior": "DirichletPrior"}, "weight_prior: expected"),
        ({"weight_prior": {"class": "subprocess.Popen", "args": {}}}, "no class 'subprocess.Pop"),
        ({"weight_prior": {"class": ["a"], "args": {}}}, "no class ['a']"),
        ({"weight_prior": {"class": "NormalPrior", "args": {}}}, "no class 'NormalPrior'"),
        ({"guide": {"class": "OutcomeAwareGuide", "args": {"x": 1}}}, "does not take these"),
        ({"guide": {"class": "OutcomeAwareGuide", "args": {"hidden_size": 0}}}, "hidden_size"),
        ({"later_setting": 1}, "unknown setting 'later_setting'"),
        ({"latent_dim": "4"}, "setting 'latent_dim' is '4'"),
        ({"latent_dim": True}, "setting 'latent_dim' is True"),
        ({"rating_power": "1"}, "setting 'rating_power' is '1'"),
        ({"reward_scale": None}, "setting 'reward_scale' is None"),
        ({"objectives": [1]}, "setting 'objectives' is [1]"),
        ({"mode": "other"}, "setting 'mode' is 'other'"),
        ({"mode": "vib"}, "does not take"),
    ],
)
def test_damaged_settings_are_refused(change, words):
    values = json.loads(json.dumps(settings_to_json(network_config()))) | change
    with pytest.raises(InputError) as caught:
        settings_from_json(values, "config.json")
    assert words in str(caught.value)
    assert str(caught.value).startswith("config.json")


def test_whole_numbers_may_stand_for_others():
    values = settings_to_json(network_config()) | {"reward_scale": 2}
    assert settings_from_json(values, "here").reward_scale == 2


@dataclass(frozen=True)
class OwnPrior(ConditionalDirichletPrior):
    """A prior of a user."""

    extra: float = 1.0


class TestOwnClasses:
    @pytest.fixture
    def folder(self, tmp_path):
        held = trained()
        size = held.config.weight_prior.hidden_size
        config = replace(held.config, weight_prior=OwnPrior(size, extra=2.5))
        save_model(replace(held, config=config), tmp_path)
        return tmp_path

    def test_are_not_found_by_their_name(self, folder):
        with pytest.raises(InputError, match="no class 'OwnPrior'.*handed in"):
            load_model(folder)

    def test_are_taken_when_handed_in(self, folder):
        assert load_model(folder, [OwnPrior]).config.weight_prior == OwnPrior(64, extra=2.5)

    def test_other_classes_do_not_help(self, folder):
        with pytest.raises(InputError, match="no class 'OwnPrior'"):
            load_model(folder, [DirichletPrior])


def test_weights_are_float32(tmp_path):
    saved(tmp_path)
    dtypes = {tensor.dtype for tensor in load_file(tmp_path / "model.safetensors").values()}
    assert dtypes == {torch.float32}
