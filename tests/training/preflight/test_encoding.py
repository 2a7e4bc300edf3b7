import json

import numpy as np
import pytest
import torch
from helpers import tiny_backbones
from helpers.chat_families import FAMILIES, family_tokenizer
from helpers.configs import network_config
from helpers.tiny_backbones import text

from vrm_pyro.backbone import Backbone
from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.data.rows import load_table
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.training.preflight import check_drift, check_encoding, preflight
from vrm_pyro.training.preflight.all_checks import sample_prompts


def table(tmp_path, num=40, words=8, prefix=""):
    path = tmp_path / "rows.jsonl"
    rows = [
        {
            "prompt": text(i, 4),
            "chosen": prefix + text(100 + i, words),
            "rejected": prefix + text(200 + i, words - 2),
        }
        for i in range(num)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_table(str(path))


@pytest.mark.parametrize("kind", ["bert", "roberta", "llama", "llama-chat"])
def test_sound_encodings_pass(tmp_path, kind):
    backbone = tiny_backbones.tiny_backbone(kind)
    checks = check_encoding(backbone, table(tmp_path, words=5))
    assert [c.verdict for c in checks] == ["ok", "ok"], checks
    assert check_drift(backbone, table(tmp_path, words=5)).verdict == "ok"


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_templates_of_known_families_pass(tmp_path, name):
    """Some write an empty <think> part, or a channel, before the answer."""
    backbone = tiny_backbones.tiny_backbone("llama-chat")
    backbone.tokenizer = family_tokenizer(name)
    backbone.chat = ChatEncoder(backbone.tokenizer, 400, True)
    assert check_encoding(backbone, table(tmp_path, num=4))[0].verdict == "ok"


def test_doubled_opening_token_fails(tmp_path):
    backbone = tiny_backbones.tiny_backbone("llama-chat")
    template = backbone.tokenizer.chat_template
    backbone.tokenizer.chat_template = template.replace("{{ bos_token }}", "{{ bos_token * 2 }}")
    backbone.chat = type(backbone.chat)(backbone.tokenizer, 120, True)
    check = check_encoding(backbone, table(tmp_path))[0]
    assert check.verdict == "fail"
    assert "begin with two <s>" in check.finding


def test_a_script_the_tokenizer_does_not_know_fails(tmp_path):
    check = check_encoding(tiny_backbones.tiny_backbone(), table(tmp_path, prefix="数学 नमस्ते "))[0]
    assert check.verdict == "fail"
    assert "0 of 64" in check.finding
    assert "know this language" in check.advice


def test_texts_that_do_not_fit_are_counted(tmp_path):
    backbone = tiny_backbones.tiny_backbone(max_length=16)
    check = check_encoding(backbone, table(tmp_path, words=30))[1]
    assert check.verdict == "warn"
    assert "100% of the responses lose their end" in check.finding


def test_drift_of_rewards(tmp_path):
    backbone = tiny_backbones.tiny_backbone()
    torch.manual_seed(0)
    model = build_model(network_config(), 32, 8, False)
    rows = table(tmp_path)
    found = check_drift(backbone, rows, model)
    assert found.verdict == "ok"
    assert found.finding.startswith("rewards of 32")
    assert model.training


def test_drift_is_found(tmp_path, monkeypatch):
    backbone = tiny_backbones.tiny_backbone()
    plain = Backbone.states

    def leaky(self, sequences, progress=None):
        return plain(self, sequences, progress) + np.float32(0.01 * len(sequences))

    monkeypatch.setattr(Backbone, "states", leaky)
    found = check_drift(backbone, table(tmp_path))
    assert found.verdict == "warn"
    assert "near ties may flip" in found.advice


def test_preflight_runs_every_check(tmp_path):
    rows = table(tmp_path)
    checks = list(
        preflight(network_config(), tiny_backbones.tiny_backbone(), rows, rows, max_responses=60)
    )
    names = [check.name for check in checks]
    assert names[-3:] == ["overfit", "label orientation", "label orientation"]
    assert {"versions", "devices", "threads", "labels", "length", "batch size"} <= set(names)
    assert all(check.advice for check in checks if check.verdict != "ok")


def test_sample_keeps_whole_prompts(tmp_path):
    rows = table(tmp_path)
    sample = sample_prompts(rows, 20)
    assert sample.num_prompts == sample.num_pairs == 10
    assert sample_prompts(rows, 1).num_prompts == 1
    assert sample_prompts(rows, 10_000).num_prompts == rows.num_prompts
