"""States of a layer below the last, and of two poolings at once."""

import json

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.text_rows import write_rows
from helpers.tiny_backbones import (
    save_tiny_backbone,
    text,
    tiny_backbone,
    tiny_model,
    tiny_tokenizer,
)
from transformers import AutoConfig, AutoModel, PretrainedConfig

from vrm_pyro.backbone import load_backbone, wrap_model
from vrm_pyro.backbone.layers import default_layer, keep_layers
from vrm_pyro.cli import main
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import backbone_facts, read_data
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.models.checkpoint import load_model, settings_from_json
from vrm_pyro.models.settings.config import check_settings
from vrm_pyro.prediction.opening import read_inputs
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.run.fit import fit
from vrm_pyro.training.run.inputs import adopt_store
from vrm_pyro.training.run.read_settings import read_settings, settings_parser

KINDS = ("bert", "roberta", "llama", "qwen3")
PROMPTS, RESPONSES = [text(1, 9), text(2, 3)], [text(3, 5), text(4, 12), text(5, 1)]
OWNER = [0, 0, 1]


def text_rows(path, num_prompts):
    """Rows of random words."""
    with open(write_rows(path / f"{num_prompts}.jsonl", num_prompts, 7)) as file:
        return [json.loads(line) for line in file]


def below(kind, sequence, layer):
    """The states of a layer that transformers gives, through the final norm if there is one."""
    model = tiny_model(kind)
    inputs = {"input_ids": torch.tensor(sequence.input_ids[None], dtype=torch.long)}
    if kind == "bert":
        inputs["token_type_ids"] = torch.tensor(sequence.type_ids[None], dtype=torch.long)
    with torch.inference_mode():
        hidden = model(**inputs, output_hidden_states=True).hidden_states[layer]
        if layer < model.config.num_hidden_layers and hasattr(model, "norm"):
            hidden = model.norm(hidden)  # that of the last layer has been through it
    return hidden[0].numpy()


@pytest.mark.parametrize("layer", [1, 2])
@pytest.mark.parametrize("kind", KINDS)
def test_states_are_those_that_transformers_calls_hidden_states(kind, layer):
    last, mean, both = (
        tiny_backbone(kind, layer=layer, pooling=pooling)
        for pooling in ("last", "mean", "last+mean")
    )
    sequences = last.sequences(PROMPTS, RESPONSES, OWNER)
    expected = [below(kind, sequence, layer) for sequence in sequences]
    tokens = [np.stack([h[-1] for h in expected]), np.stack([h.mean(0) for h in expected])]
    close = {"rtol": 1e-4, "atol": 1e-5}
    np.testing.assert_allclose(last.states(sequences), tokens[0], **close)
    np.testing.assert_allclose(mean.states(sequences), tokens[1], **close)
    np.testing.assert_allclose(both.states(sequences), np.concatenate(tokens, axis=1), **close)
    assert (last.hidden_size, both.hidden_size) == (32, 64)


@pytest.mark.parametrize("kind", KINDS)
def test_layers_above_do_not_exist(kind):
    one, all_layers = tiny_backbone(kind, layer=1), tiny_backbone(kind)
    assert one.model.config.num_hidden_layers == 1
    names = {name for name in one.model.state_dict() if ".1." in name}
    assert not names
    assert len(one.model.state_dict()) < len(all_layers.model.state_dict())
    assert one.weights_hash != all_layers.weights_hash
    # The last layer by its number: the same states under another name.
    assert tiny_backbone(kind, layer=2).weights_hash == all_layers.weights_hash


class Stack(torch.nn.Module):
    """A model of so many layers, in one list or in several."""

    def __init__(self, layers, lists=1):
        super().__init__()
        self.config = PretrainedConfig(num_hidden_layers=layers)
        for i in range(lists):
            own = torch.nn.ModuleList(torch.nn.Identity() for _ in range(layers))
            self.add_module(f"list_{i}", own)


def test_default_layer_of_a_decoder_is_at_two_thirds_of_its_depth():
    assert [default_layer(Stack(n)) for n in (1, 2, 24, 30)] == [1, 1, 16, 20]
    assert default_layer(Stack(4, lists=2)) is None


@pytest.mark.parametrize(
    ("kind", "layer", "pooling"),
    [("bert", None, "mean"), ("llama", 1, "last+mean"), ("qwen3", 1, "last+mean")],
)
def test_defaults_are_those_of_the_kind_of_backbone(kind, layer, pooling):
    found = tiny_backbone(kind, layer="auto")
    assert (found.layer, found.pooling) == (layer, pooling)
    assert found.key().get("layer") == layer
    assert found.weights_hash == tiny_backbone(kind, layer=layer).weights_hash


def test_backbone_that_is_trained_keeps_its_layers():
    parser = settings_parser()
    for settings, layer in (
        ({}, "auto"),
        ({"tuning.method": "lora"}, None),
        ({"tuning.method": "lora", "model.layer": 2}, 2),
        ({"model.layer": None}, None),
    ):
        assert read_settings(overrides=settings, parser=parser).layer == layer


@pytest.mark.parametrize("kind", ["gpt_neo", "mamba"])
def test_kinds_of_layers_follow_their_number(kind):
    """Whether a configuration lists them, or derives the list from the number."""
    given = {"vocab_size": 300, "hidden_size": 32, "num_hidden_layers": 2}
    if kind == "gpt_neo":
        given |= {"attention_types": [[["global", "local"], 1]], "num_heads": 2}
    model = AutoModel.from_config(AutoConfig.for_model(kind, **given))
    keep_layers(model, 1, kind)
    read = type(model.config).from_dict(model.config.to_dict())
    assert read.num_hidden_layers == 1
    kinds = read.attention_layers if kind == "gpt_neo" else read.layer_types
    assert len(kinds) == 1


def test_saved_settings_without_a_layer_are_of_the_last():
    assert settings_from_json({}, "config.json").layer is None
    for layer in ("auto", None, 3):
        assert settings_from_json({"layer": layer}, "config.json").layer == layer
    for layer in ("first", True, 1.5):
        with pytest.raises(InputError, match="'layer' is .*, but must be a whole number or one"):
            settings_from_json({"layer": layer}, "config.json")


def test_settings_take_the_layer_of_a_store(tmp_path):
    table = load_table(text_rows(tmp_path, 6))
    for layer in (1, None):
        backbone = tiny_backbone("llama", layer=layer)
        store = write_store(table, backbone, tmp_path / str(layer), progress=False)
        model = network_config()
        adopt_store(model, [store])
        assert (model.layer, model.pooling) == (layer, "last+mean")
    with pytest.raises(InputError, match="model.layer is 1, but the states .* with None"):
        adopt_store(network_config(layer=1), [store])
    with pytest.raises(InputError, match="model.layer is None, but the states .* with 1"):
        adopt_store(network_config(layer=None), [open_store(tmp_path / "1")])


@pytest.mark.parametrize("pooling", ["last", "last+mean"])
@pytest.mark.parametrize("kind", ["llama-chat", "qwen3"])
def test_responses_share_their_prompt(kind, pooling):
    backbone = tiny_backbone(kind, layer=1, pooling=pooling)
    assert backbone.shares_prompts
    prompts = backbone.sequences(PROMPTS)
    responses = backbone.sequences(PROMPTS, RESPONSES, OWNER)
    found = backbone.pair_states(prompts, responses, OWNER)
    for part, sequences in zip(found, (prompts, responses), strict=True):
        np.testing.assert_allclose(part, backbone.states(sequences), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("layer", [0, 3, -1])
def test_number_of_a_layer_that_is_not_there_is_refused(layer):
    with pytest.raises(InputError, match=f"layer is {layer}, but it has 2 layers.*from 1 to 2"):
        tiny_backbone("llama", layer=layer)


def test_model_without_a_list_of_its_layers_is_refused():
    from transformers import AlbertConfig, AlbertModel

    config = AlbertConfig(
        vocab_size=300, embedding_size=8, hidden_size=32, intermediate_size=64,
        num_attention_heads=2, num_hidden_layers=2,
    )  # fmt: skip
    with pytest.raises(InputError, match="AlbertModel does not keep its layers in one list"):
        wrap_model(
            AlbertModel(config), tiny_tokenizer("bert"), name="a", source="test", layer=1,
            max_length=64,
        )  # fmt: skip


@pytest.mark.parametrize(("key", "value"), [("layer", 0), ("max_length", 0)])
def test_settings_are_checked(key, value):
    with pytest.raises(InputError, match=rf"model.{key} is 0, but must be at least 1, or null"):
        check_settings(network_config(**{key: value}))


def test_longest_text_is_what_the_model_reads():
    assert tiny_backbone("llama", max_length=None).max_length == 256
    assert tiny_backbone("bert", max_length=None).max_length == 128
    tokenizer = tiny_tokenizer("bert")
    tokenizer.model_max_length = 10**9
    model = tiny_model("llama")
    model.config.max_position_embeddings = 5000
    settings = {"name": "long", "source": "test", "dtype": "float32", "device": "cpu"}
    found = wrap_model(model, tokenizer, max_length=None, **settings)
    assert found.max_length == 1024


def test_layer_is_part_of_a_store(tmp_path):
    table = load_table(text_rows(tmp_path, 6))
    one = tiny_backbone("llama-chat", layer=1)
    store = write_store(table, one, tmp_path / "store", progress=False)
    assert store.meta["key"]["layer"] == 1
    with pytest.raises(InputError, match=r"layer \(1 there, None here\)"):
        write_store(table, tiny_backbone("llama-chat"), tmp_path / "store", progress=False)
    assert backbone_facts(store)["layer"] == 1


def test_store_without_a_layer_is_of_the_last(tmp_path):
    """So are those of earlier versions."""
    table, backbone = load_table(text_rows(tmp_path, 6)), tiny_backbone("llama-chat")
    store = write_store(table, backbone, tmp_path / "store", progress=False)
    assert "layer" not in store.meta["key"]
    assert "layer" not in backbone_facts(store)
    store.check_key({"rows": table.content_hash()})
    with pytest.raises(InputError, match=r"layer \(None there, 1 here\)"):
        store.check_key(tiny_backbone("llama-chat", layer=1).key())


@pytest.mark.parametrize(
    ("method", "layer", "pooling"),
    [(m, 1, "last+mean") for m in ("frozen", "lora", "full")] + [("frozen", "auto", "auto")],
)
def test_trained_model_scores_and_exports_with_its_layer(tmp_path, method, layer, pooling):
    folder = save_tiny_backbone(tmp_path / "tiny", "llama-chat")
    run = fit(
        read_data(text_rows(tmp_path, 16)),
        output_dir=tmp_path / "run",
        settings={
            "model.backbone": str(folder),
            "model.layer": layer,
            "model.pooling": pooling,
            "model.max_length": None,
            "model.dtype": "float32",
            "tuning.method": method,
            "train.num_train_epochs": 1,
            "train.use_cpu": True,
            "train.disable_tqdm": True,
            "data.validation_fraction": 0.3,
        },
    )
    loaded = load_model(run.path)
    facts = {key: loaded.backbone[key] for key in ("layer", "pooling", "max_length")}
    assert facts == {"layer": 1, "pooling": "last+mean", "max_length": 256}
    assert loaded.hidden_size == 64
    scorer = Scorer.from_pretrained(run.path, device="cpu")
    assert scorer.backbone.module_under_adapters.config.num_hidden_layers == 1
    # It compares the rewards of what it wrote with those of the scorer.
    write_export(scorer, tmp_path / "hf", ExportSettings())
    written = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert written["backbone"]["config"]["num_hidden_layers"] == 1


def test_model_refuses_states_of_another_layer(tmp_path):
    table = load_table(text_rows(tmp_path, 6))
    one, last = tiny_backbone("qwen3", layer=1), tiny_backbone("qwen3")
    run = fit(
        read_data(text_rows(tmp_path, 12)),
        backbone=one,
        output_dir=tmp_path / "run",
        settings={
            "train.num_train_epochs": 1,
            "train.use_cpu": True,
            "train.disable_tqdm": True,
            "data.validation_fraction": 0.3,
        },
    )
    with pytest.raises(InputError, match="its weights and layer changed"):
        Scorer.from_pretrained(run.path, backbone=last)
    store = write_store(table, last, tmp_path / "store", progress=False)
    with pytest.raises(
        InputError, match=r"layer is None there and 1 in the model.*--model.layer 1"
    ):
        read_inputs(run.path, store)


def test_command_line_takes_both(tmp_path):
    folder = save_tiny_backbone(tmp_path / "tiny", "llama-chat")
    rows = write_rows(tmp_path / "rows.jsonl", 6, 7)
    settings = ["--model.backbone", str(folder), "--model.dtype", "float32"]
    settings += ["--model.layer", "1", "--model.pooling", "last+mean"]
    settings += ["--model.max_length", "null"]
    out = tmp_path / "store"
    assert main(["features", "--data", str(rows), "--out", str(out), *settings]) == 0
    key = open_store(out).meta["key"]
    assert (key["layer"], key["pooling"], key["max_length"]) == (1, "last+mean", 256)
    loaded = load_backbone(str(folder), layer=1, pooling="last+mean", max_length=None)
    assert open_store(out).meta["hidden_size"] == loaded.hidden_size == 64
