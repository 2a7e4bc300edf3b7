"""Backbones from GGUF files: the numbers of the model, the tokens of its tokenizer, one file."""

import json
import sys

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.reward_models import OBJECTIVES
from helpers.tiny_backbones import qwen3_tokenizer
from helpers.tiny_gguf import gguf_model, write_gguf

from vrm_pyro.backbone import load_backbone, wrap_model
from vrm_pyro.backbone.packaged import file_sha256
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import backbone_facts, read_data
from vrm_pyro.features.writing import write_store
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.models.checkpoint import LoadedModel, load_model, save_model
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.prediction.opening import read_inputs
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.run.fit import fit

pytest.importorskip("gguf", reason="needs the extra gguf")

PROMPTS = ["What is the old river?", "tell me  12345 things\nabout 😀 birds"]
RESPONSES = ["A bird.", "The   2 small houses, don't they?"]
ROWS = [
    {"prompt": p, "chosen": a, "rejected": b}
    for p in PROMPTS
    for a, b in [RESPONSES, [RESPONSES[1], "no " * 40]]
]


def load(path, **settings):
    return load_backbone(
        str(path), max_length=96, device="cpu", **{"dtype": "float32", **settings}
    )


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return write_gguf(tmp_path_factory.mktemp("gguf") / "plain.gguf")


@pytest.fixture(scope="module")
def original():
    settings = {"name": "tiny", "source": "test", "max_length": 96, "dtype": "float32"}
    return wrap_model(gguf_model(), qwen3_tokenizer(), device="cpu", **settings)


def test_states_and_tokens_are_those_of_the_model_in_the_file(plain, original):
    backbone = load(plain)
    assert (backbone.is_decoder, backbone.source) == (True, f"local file {plain}")
    assert backbone.weights_hash == original.weights_hash
    assert backbone.template_hash == original.template_hash
    ours = backbone.sequences(PROMPTS, RESPONSES)
    theirs = original.sequences(PROMPTS, RESPONSES)
    assert [s.input_ids.tolist() for s in ours] == [s.input_ids.tolist() for s in theirs]
    np.testing.assert_array_equal(backbone.states(ours), original.states(theirs))
    tokenizer, known = backbone.tokenizer, original.tokenizer
    assert tokenizer.eos_token_id == known.eos_token_id
    assert tokenizer.pad_token_id == known.pad_token_id
    assert tokenizer.model_max_length == 256


def test_quantized_weights_are_numbers_near_those_of_the_model(tmp_path, plain, original):
    backbone = load(write_gguf(tmp_path / "small.gguf", quantized=True))
    assert backbone.weights_hash != original.weights_hash
    for name, value in backbone.model.state_dict().items():
        assert value.dtype == torch.float32
        exact = original.model.state_dict()[name]
        # Q8_0: 127 steps to the largest of a block of 32.
        assert (value - exact).abs().max() <= exact.abs().max() / 127
    backbone.model.save_pretrained(tmp_path / "saved")
    assert "quantization_config" not in json.loads((tmp_path / "saved/config.json").read_text())


@pytest.mark.parametrize("method", ["frozen", "lora"])
def test_trained_model_loads_its_file_again(tmp_path, method):
    path = write_gguf(tmp_path / "small.gguf", quantized=True)
    run = fit(
        read_data([{**row, "prompt": f"{row['prompt']} {i}"} for i in range(8) for row in ROWS]),
        output_dir=tmp_path / "run",
        settings={
            "model.backbone": str(path),
            "model.dtype": "float32",
            "tuning.method": method,
            "train.num_train_epochs": 1,
            "train.use_cpu": True,
            "train.disable_tqdm": True,
            "data.validation_fraction": 0.3,
        },
    )
    assert load_model(run.path).backbone["file_sha256"] == file_sha256(path)
    scorer = Scorer.from_pretrained(run.path, device="cpu")
    write_export(scorer, tmp_path / "hf", ExportSettings())  # compares rewards with the scorer's
    assert file_sha256(path) in (tmp_path / "hf" / "config.json").read_text()


def test_hashes_do_not_depend_on_precision(plain):
    assert load(plain, dtype="bfloat16").key() == load(plain).key()


def test_store_and_model_keep_the_hash_of_the_file_and_refuse_another(tmp_path, plain):
    """A renamed model in the file: equal weights, yet another file."""
    sha256, table = file_sha256(plain), load_table(ROWS)
    backbone, other = load(plain), load(write_gguf(tmp_path / "b.gguf", title="other"))
    assert backbone.weights_hash == other.weights_hash
    store = write_store(table, backbone, tmp_path / "store", progress=False)
    assert store.meta["key"]["file"] == sha256
    with pytest.raises(InputError, match="different GGUF file of the backbone"):
        write_store(table, other, tmp_path / "store", progress=False)
    facts = backbone_facts(store)
    assert (facts["name"], facts["file_sha256"]) == (str(plain), sha256)
    model = build_model(network_config(), backbone.hidden_size, len(OBJECTIVES), False)
    loaded = LoadedModel(model.eval(), network_config(), OBJECTIVES, False, facts)
    save_model(loaded, tmp_path / "run")
    assert np.isfinite(Scorer.from_pretrained(tmp_path / "run")("a", "b")[0]["reward_mean"])
    with pytest.raises(InputError, match="its GGUF file changed since the model was trained"):
        Scorer.from_pretrained(tmp_path / "run", backbone=other)
    held = write_store(table, other, tmp_path / "held", progress=False)
    with pytest.raises(InputError, match="file_sha256 is .* there and .* in the model"):
        read_inputs(loaded, held)


def test_model_of_full_weights_refuses_quantized_ones(tmp_path, plain, original):
    store = write_store(load_table(ROWS), original, tmp_path / "store", progress=False)
    model = build_model(network_config(), original.hidden_size, len(OBJECTIVES), False).eval()
    loaded = LoadedModel(model, network_config(), OBJECTIVES, False, backbone_facts(store))
    # Equal weights in another container are the same backbone.
    assert Scorer(loaded, load(plain)).backbone.file_sha256 is not None
    small = load(write_gguf(tmp_path / "small.gguf", quantized=True))
    with pytest.raises(InputError, match="its weights changed since the model was trained"):
        Scorer(loaded, small)


def test_missing_package_names_the_extra(plain, monkeypatch):
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(InputError, match=r'plain.gguf: .*pip install "vrm-pyro\[gguf\]"'):
        load(plain)


@pytest.mark.parametrize("keep", [0, 3, 30, 5_000, 20_000, -20_000, -1])
def test_damaged_file_is_refused(tmp_path, plain, keep):
    damaged = tmp_path / "cut.gguf"
    damaged.write_bytes(plain.read_bytes()[:keep])
    with pytest.raises(InputError, match=r"cut.gguf: cannot be loaded from .*damaged"):
        load(damaged)


def test_file_of_another_kind_is_refused(tmp_path):
    (tmp_path / "text.gguf").write_text("no weights at all " * 100)
    with pytest.raises(InputError, match=r"text.gguf: cannot be loaded from .*magic bytes"):
        load(tmp_path / "text.gguf")
    for missing in (tmp_path / "missing.gguf", "models/missing.gguf"):
        with pytest.raises(InputError, match=r"there is no such folder.*a \.gguf file"):
            load(missing)


def test_texts_are_split_as_the_file_says(tmp_path, plain):
    """SmolLM2 splits digits first, so that spaces before one stay together."""
    texts = ["a  1", "about  12  3", "a 1"]
    smol = load(write_gguf(tmp_path / "smol.gguf", split="smollm")).tokenizer.backend_tokenizer
    usual = load(plain).tokenizer.backend_tokenizer
    pieces = [[p for p, _ in t.pre_tokenizer.pre_tokenize_str(texts[1])] for t in (smol, usual)]
    assert pieces == [["about", "ĠĠ", "1", "2", "ĠĠ", "3"], ["about", "Ġ", "Ġ12", "Ġ", "Ġ3"]]
    with pytest.warns(UserWarning, match="splitting texts, 'unheard-of', is not known"):
        load(write_gguf(tmp_path / "unknown.gguf", split="unheard-of"))
