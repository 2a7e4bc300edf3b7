"""A folder that is not what was exported does not load."""

import json
import shutil

import pytest
import torch
from helpers.reward_models import save_reward_model
from helpers.tiny_backbones import text, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForSequenceClassification,
    BertForSequenceClassification,
    LlamaForSequenceClassification,
    Qwen3ForSequenceClassification,
)

from vrm_pyro.cli import main
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface import VRMConfig, VRMForSequenceClassification
from vrm_pyro.integrations.huggingface.self_check import SelfTest

PROMPTS = [text(i, 6) for i in range(4)]
RESPONSES = [text(50 + i, 3 + 2 * i) for i in range(4)]


@pytest.fixture
def copied(exported, tmp_path):
    """A copy of an exported folder that a test may damage."""

    def of(kind):
        made = exported(kind)
        return made._replace(folder=shutil.copytree(made.folder, tmp_path / f"copy-{kind}"))

    return of


def load(folder, **options):
    return AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1, **options)


def change_config(folder, change):
    path = folder / "config.json"
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path, metadata={"format": "pt"})


def test_round_trip(exported, tmp_path):
    made = exported("qwen3")
    made.model.save_pretrained(tmp_path / "again", max_shard_size="40KB")
    assert len(list((tmp_path / "again").glob("*.safetensors"))) > 1
    assert not list((tmp_path / "again").glob("*.bin"))
    again = load(tmp_path / "again")
    batch = made.tokens(PROMPTS, RESPONSES)
    assert torch.equal(again(**batch).logits, made.model(**batch).logits)
    assert again.config.to_dict()["backbone"] == made.model.config.to_dict()["backbone"]


def test_a_changed_model_is_saved_with_its_own_rewards(exported, tmp_path):
    made = exported("qwen3")
    model = load(made.folder)
    with torch.no_grad():
        model.head.reward.intercept.add_(1.0)
    model.to(torch.bfloat16).save_pretrained(tmp_path / "changed")
    again = load(tmp_path / "changed")
    before, now = (SelfTest.from_json(m.config.self_test) for m in (made.model, again))
    assert (before.dtype, now.dtype) == ("float32", "bfloat16")
    assert now.rewards[0] > before.rewards[0] + 0.5
    assert again.backbone.dtype == torch.bfloat16


@pytest.mark.parametrize("part", ["head.reward.intercept", "backbone.norm.weight"])
def test_missing_tensors(copied, part):
    folder = copied("qwen3").folder
    change_weights(folder, lambda state: state.pop(part))
    with pytest.raises(InputError, match=f"lack tensor '{part}'"):
        load(folder)


def test_unexpected_tensors(copied):
    folder = copied("qwen3").folder
    change_weights(folder, lambda state: state.update({"head.more": torch.zeros(2)}))
    with pytest.raises(InputError, match="unexpected tensor 'head.more'"):
        load(folder)


def test_a_head_of_another_shape(copied):
    folder = copied("qwen3").folder
    change_config(folder, lambda c: c["head"]["objectives"].append("more"))
    with pytest.raises((InputError, RuntimeError), match="shape|size"):
        load(folder)


def test_other_weights_fail_the_self_test(copied):
    folder = copied("qwen3").folder

    def change(state):
        state["backbone.layers.1.mlp.down_proj.weight"].mul_(1.3)

    change_weights(folder, change)
    with pytest.raises(InputError, match="self-test: row . of config.json should get the reward"):
        load(folder)
    assert load(folder, verify=False) is not None


def test_another_rotary_base_fails_the_self_test(copied):
    """What a library that reads an old configuration wrongly would do; no tensor is missing."""
    folder = copied("llama-chat").folder

    def change(values):
        values["backbone"]["config"]["rope_parameters"]["rope_theta"] = 100.0

    change_config(folder, change)
    with pytest.raises(InputError, match="self-test"):
        load(folder)


@pytest.mark.parametrize("value", [None, {"rows": [[1]], "rewards": [], "dtype": "float32"}])
def test_no_usable_self_test(copied, value):
    folder = copied("qwen3").folder
    change_config(folder, lambda c: c.update(self_test=value))
    with pytest.raises(InputError, match="'self_test' is not usable"):
        load(folder)


def test_another_template(copied):
    folder = copied("qwen3").folder
    template = folder / "chat_template.jinja"
    template.write_text(template.read_text().replace("<|im_end|>\n", "<|im_end|>"))
    with pytest.raises(InputError, match="its chat template changed"):
        load(folder)


def test_another_opening_token(copied):
    """A tokenizer that no longer begins texts with <s>."""
    folder = copied("llama").folder
    path = folder / "tokenizer.json"
    values = json.loads(path.read_text())
    values["post_processor"]["single"] = values["post_processor"]["single"][1:]
    path.write_text(json.dumps(values))
    with pytest.raises(InputError, match="tokenizer or its special tokens changed"):
        load(folder)


def test_without_a_tokenizer_it_says_that_none_was_compared(copied, caplog):
    folder = copied("qwen3").folder
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (folder / name).unlink()
    load(folder)
    assert "no tokenizer is compared" in caplog.text


@pytest.mark.parametrize(
    ("kind", "scalar"),
    [
        ("llama-chat", LlamaForSequenceClassification),
        ("qwen3", Qwen3ForSequenceClassification),
        ("bert", BertForSequenceClassification),
        ("qwen3", LlamaForSequenceClassification),
    ],
)
def test_a_scalar_class_stops(exported, kind, scalar):
    """Else it starts with random weights and gives numbers."""
    with pytest.raises(Exception, match=r"a reward model of vrm_pyro, not one of this class"):
        scalar.from_pretrained(exported(kind).folder, num_labels=1)


def test_a_run_is_no_export(tmp_path):
    run = save_reward_model(tmp_path)
    with pytest.raises(ValueError, match="vrm_pyro"):
        load(run)


def test_a_configuration_alone():
    config = VRMConfig()
    assert VRMConfig.from_dict(config.to_dict()).text_config is None
    with pytest.raises(InputError, match="'head' or 'reading' is missing"):
        VRMForSequenceClassification(config)


def test_unknown_classes_are_not_looked_for(copied):
    folder = copied("qwen3").folder
    change_config(
        folder, lambda c: c["head"]["settings"]["weight_prior"].update({"class": "os.system"})
    )
    with pytest.raises(InputError, match="no class 'os.system' in the table"):
        load(folder)


def test_another_tokenizer_altogether(copied):
    folder = copied("qwen3").folder
    tiny_tokenizer("llama-chat").save_pretrained(folder)
    with pytest.raises(InputError, match="chat template and tokenizer"):
        load(folder)


def test_classes_of_ones_own_are_refused(exported, tmp_path, capsys):
    """Nobody could make them from the folder alone."""
    run = shutil.copytree(exported("qwen3").run, tmp_path / "run")
    change_config(run, lambda c: c["settings"]["weight_prior"].update({"class": "MyPrior"}))
    assert main(["export", "--model", str(run), "--out", str(tmp_path / "out")]) == 2
    assert "weight_prior is MyPrior, a class of your own" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
