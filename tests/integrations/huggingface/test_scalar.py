"""A scalar model: fitted to E[r], hosted by transformers' own class, honest about its loss."""

import numpy as np
import pytest
import torch
from helpers.reward_models import save_reward_model
from helpers.tiny_backbones import text
from helpers.workspace import vrm_pyro as command
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.scalar import _losses, _ridge, export_scalar
from vrm_pyro.prediction.scorer import Scorer

ROWS = [
    {
        "prompt": text(i, 5),
        "chosen": text(100 + i, 4 + i % 5),
        "rejected": text(500 + i, 3 + i % 4),
        "subset": f"kind {i % 2}",
    }
    for i in range(60)
]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scalar")
    run = save_reward_model(folder, "llama-chat")
    found = export_scalar(run, folder / "out", ROWS, device="cpu", cache=False)
    return run, folder / "out", found


def test_ridge_is_least_squares_with_a_penalty():
    rng = np.random.default_rng(0)
    states, truth = rng.normal(size=(200, 5)), rng.normal(size=5)
    rewards = states @ truth + 3.0
    weights, level = _ridge(states, rewards, 1e-9)
    assert weights == pytest.approx(truth, abs=1e-6)
    assert level == pytest.approx(3.0, abs=1e-6)
    penalty = 0.3
    scale = penalty * states.var(0).mean() * len(states)
    centred = states - states.mean(0)
    expected = np.linalg.inv(centred.T @ centred + scale * np.eye(5)) @ centred.T @ rewards
    assert _ridge(states, rewards, penalty)[0] == pytest.approx(expected)


def test_transformers_own_class_hosts_it(made):
    run, folder, found = made
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    assert type(model).__name__ == "LlamaForSequenceClassification"
    assert "vrm" not in model.config.model_type
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scorer = Scorer.from_pretrained(run, device="cpu", dtype="float32")
    prompts, answers = [r["prompt"] for r in ROWS], [r["chosen"] for r in ROWS]
    chats = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": a}]
        for p, a in zip(prompts, answers, strict=True)
    ]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    with torch.no_grad():
        rewards = model.eval()(batch["input_ids"], batch["attention_mask"]).logits[:, 0].numpy()
    states = scorer.encode(prompts, answers).responses
    weights = model.score.weight.detach().numpy()[0]
    assert rewards == pytest.approx(states[:, : len(weights)] @ weights, abs=1e-4)
    full = [line["reward_mean"] for line in scorer(prompts, answers)]
    assert np.corrcoef(rewards, full)[0, 1] > 0.5


def test_the_card_says_what_is_lost(made):
    _, folder, found = made
    card = (folder / "README.md").read_text("utf-8")
    assert [row.kind for row in found.loss] == ["all", "kind 0", "kind 1"]
    assert [row.responses for row in found.loss] == [120, 60, 60]
    for row in found.loss:
        assert row.r2 <= 1
        assert 0 <= row.agreement <= 1
        assert f"| {row.kind} | {row.responses} | {row.r2:.3f} | {row.r2_within:.3f} |" in card
    assert "rows given to the export" in card


def test_nothing_is_lost_of_a_scalar_truth():
    from vrm_pyro.data.rows import load_table

    rows = [{"prompt": f"{i}", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]} for i in range(4)]
    table = load_table(rows)
    full = np.tile([3.0, 2.0, 1.0], 4) + np.repeat(np.arange(4.0), 3)
    (loss,) = _losses(table, full, full)
    assert loss[2:] == (1, 1, 1, 1, 1, 1)
    (loss,) = _losses(table, full, -full)
    assert (loss.agreement, loss.accuracy, loss.accuracy_full) == (0, 0, 1)
    assert loss.rank_correlation == pytest.approx(-1)


def test_what_cannot_be_distilled_is_said(made, tmp_path):
    run, _, _ = made
    with pytest.raises(InputError, match="prompts are too few"):
        export_scalar(run, tmp_path / "a", ROWS[:3], device="cpu", cache=False)
    encoder = save_reward_model(tmp_path, "bert")
    with pytest.raises(InputError, match="last token of a decoder"):
        export_scalar(encoder, tmp_path / "a", ROWS, device="cpu")
    done = command("export", "--model", run, "--out", tmp_path / "a", "--scalar")
    assert done.code == 2
    assert "--scalar needs --data" in done.err
    done = command(
        "export", "--model", run, "--out", tmp_path / "a", "--scalar", "--empty_reward", "1"
    )
    assert "has no such setting" in done.err
