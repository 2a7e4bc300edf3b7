"""A chat template that writes today's date reads as on the day of training, on any day."""

from functools import partial

import numpy as np
import pytest
from helpers.clock import set_day
from helpers.reward_models import facts_of, save_reward_model
from helpers.tiny_backbones import CHAT_TEMPLATE, llama_tokenizer, text
from transformers import AutoTokenizer

from vrm_pyro.backbone import load_backbone, quiet_transformers, reading
from vrm_pyro.integrations.huggingface import VRMForSequenceClassification
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.models.checkpoint import load_model, save_model
from vrm_pyro.prediction.scorer import Scorer

PROMPT, RESPONSES = text(0, 4), [text(1, 4), text(2, 6)]


# Those that the run was trained on.
STATES = {"pooling": "last", "layer": None, "max_length": 120, "dtype": "float32"}


@pytest.fixture
def on(monkeypatch):
    return partial(set_day, monkeypatch)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    """A model whose facts are those of a dated template, as training keeps them."""
    folder = tmp_path_factory.mktemp("dated")
    run = save_reward_model(folder, "llama-chat")
    tokenizer = llama_tokenizer(chat=True)
    tokenizer.chat_template = "{{ strftime_now('%d %B %Y') }}" + CHAT_TEMPLATE
    tokenizer.save_pretrained(folder / "llama-chat")
    backbone = load_backbone(str(folder / "llama-chat"), **STATES)
    backbone = backbone.with_settings(reading.ReadingSettings("2025-03-09"))
    loaded = load_model(run)
    loaded.backbone = {**facts_of(backbone, str(folder / "llama-chat")), **backbone.settings.key()}
    save_model(loaded, run)
    return run


def rewards(scorer):
    return np.array([line["reward_mean"] for line in scorer(PROMPT, RESPONSES)])


def test_rewards_stay_overnight_and_in_the_export(model, on, tmp_path):
    on("2026-11-30")
    first = Scorer.from_pretrained(model, dtype="float32")
    assert first.backbone.settings.date == "2025-03-09"
    before = rewards(first)
    on("2026-12-25")
    np.testing.assert_array_equal(rewards(Scorer.from_pretrained(model, dtype="float32")), before)
    with quiet_transformers():
        write_export(Scorer.from_pretrained(model, dtype="float32"), tmp_path, ExportSettings())
        made = VRMForSequenceClassification.from_pretrained(tmp_path)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path)
    chats = [
        [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": response}]
        for response in RESPONSES
    ]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    assert all("09 March 2025" in rendered for rendered in texts)
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    np.testing.assert_allclose(made(**batch).logits[:, 0].numpy(), before, atol=1e-5)


def test_a_model_without_a_day_reads_todays_with_a_warning(model, on):
    loaded = load_model(model)
    del loaded.backbone["date"]
    found = []
    for day in ("2026-11-30", "2026-12-25"):
        on(day)
        backbone = load_backbone(loaded.backbone["name"], **STATES)
        with pytest.warns(UserWarning, match="does not say on which day it was trained"):
            found.append(rewards(Scorer(loaded, backbone)))
    assert np.abs(found[0] - found[1]).max() > 1e-4
