"""Real steps of TRL's trainers that are given the path of an exported model."""

import pytest
import torch
from helpers import tiny_backbones
from helpers.policies import arguments, group_trainer, policy, prompts, train
from helpers.reward_models import save_reward_model
from transformers import AutoTokenizer

from vrm_pyro.backbone import quiet_transformers
from vrm_pyro.integrations.huggingface import VRMForSequenceClassification
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.prediction.scorer import Scorer

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # what the trainers say of themselves


@pytest.fixture(scope="module", params=[pytest.param("bert", marks=pytest.mark.slow), "qwen3"])
def folders(request, tmp_path_factory):
    """A run and its export, of an encoder and of a decoder."""
    folder = tmp_path_factory.mktemp(request.param)
    run = save_reward_model(folder, request.param)
    (folder / "hf").mkdir()
    with quiet_transformers():
        write_export(Scorer.from_pretrained(run, dtype="float32"), folder / "hf", ExportSettings())
    return run, folder / "hf"


@pytest.mark.parametrize("kind", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_steps(kind, folders, tmp_path):
    """The rewards in the log are those of the scorer, with the model left in training mode."""
    run, folder = folders
    trainer = group_trainer(kind, tmp_path, str(folder))
    (model,) = trainer.reward_funcs
    assert isinstance(model, VRMForSequenceClassification)
    # To be put back: whatever TRL does with it, the reward must not depend on the mode.
    model.train()
    lines, changed = train(trainer)
    assert changed
    assert len(lines) == 2
    name = f"rewards/{folder.name}"
    assert all(line[f"{name}/std"] > 0 for line in lines)
    assert all(line["reward"] == pytest.approx(line[f"{name}/mean"]) for line in lines)
    logs = trainer._logs
    answers = [messages[0]["content"] for messages in logs["completion"]]
    rows = zip(logs["prompt"], answers, logs["rewards"][folder.name], strict=True)
    # A tokenizer may join white space that begins an answer with what stands before it.
    rows = [row for row in rows if row[1] and row[1].strip() == row[1]]
    assert len(rows) >= 2
    expected = Scorer.from_pretrained(run, dtype="float32")(
        [prompt for prompt, _, _ in rows], [answer for _, answer, _ in rows]
    )
    for (_, _, found), line in zip(rows, expected, strict=True):
        assert found == pytest.approx(line["reward_mean"], abs=1e-4)


def test_the_precision_of_the_policy(folders, tmp_path):
    """TRL hands the policy's dtype over; the heads stay as they are."""
    _, folder = folders
    config = trl.GRPOConfig(
        **arguments(tmp_path, num_generations=2, max_completion_length=6, beta=0.0, max_steps=1),
        model_init_kwargs={"dtype": torch.bfloat16},
    )
    place = tmp_path / "policy"
    policy().save_pretrained(place)
    tiny_backbones.llama_tokenizer(chat=True).save_pretrained(place)
    trainer = trl.GRPOTrainer(str(place), str(folder), args=config, train_dataset=prompts(True))
    (model,) = trainer.reward_funcs
    assert model.backbone.dtype == torch.bfloat16
    assert {p.dtype for p in model.head.parameters()} == {torch.float32}
    lines, _ = train(trainer)
    assert lines[0][f"rewards/{folder.name}/std"] > 0


@pytest.mark.parametrize("kind", ["grpo", pytest.param("rloo", marks=pytest.mark.slow)])
def test_a_policy_that_says_nothing_goes_on(kind, folders, tmp_path):
    """Every completion is empty: none is scored, and the run goes on."""
    _, folder = folders
    tokenizer = tiny_backbones.llama_tokenizer(chat=True)
    words = [i for i in range(len(tokenizer)) if i != tokenizer.eos_token_id]
    silent = {"max_steps": 1, "generation_kwargs": {"suppress_tokens": words}}
    lines, changed = train(group_trainer(kind, tmp_path, str(folder), **silent))
    assert len(lines) == 1
    assert lines[0]["loss"] == 0
    assert not changed


def test_online_dpo(folders, tmp_path):
    online_dpo = pytest.importorskip("trl.experimental.online_dpo")
    _, folder = folders
    tokenizer = tiny_backbones.llama_tokenizer(chat=True)
    # An untrained policy samples control characters, which are an empty response to BERT: refused.
    size = len(tokenizer)
    silent = [i for i in range(size) if not tokenizer.decode([i]).strip().isalnum()]
    kept = {"generation_kwargs": {"suppress_tokens": silent}}
    settings = arguments(tmp_path, max_new_tokens=6, max_length=64, **kept)
    trainer = online_dpo.OnlineDPOTrainer(
        model=policy(),
        reward_funcs=[str(folder)],
        args=online_dpo.OnlineDPOConfig(**settings),
        train_dataset=prompts(True),
        processing_class=tokenizer,
        reward_processing_classes=[AutoTokenizer.from_pretrained(folder)],
    )
    lines, changed = train(trainer)
    assert changed
    assert all(line["objective/scores"] != 0 for line in lines)
