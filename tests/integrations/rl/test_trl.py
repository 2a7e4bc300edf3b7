"""Real steps of TRL's trainers with a random policy and the reward as their function."""

import pytest
import torch
from datasets import Dataset
from helpers import tiny_backbones
from transformers import LlamaConfig, LlamaForCausalLM

from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.integrations.rl.reward import reward

trl = pytest.importorskip("trl")
pytestmark = pytest.mark.filterwarnings("ignore")  # what the trainers say of themselves


def policy():
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=128,
        initializer_range=0.3,
        pad_token_id=1,
        eos_token_id=1,
        bos_token_id=0,
    )
    return LlamaForCausalLM(config)


def prompts(conversational):
    texts = [tiny_backbones.text(i, 5) for i in range(8)]
    if conversational:
        texts = [[{"role": "user", "content": text}] for text in texts]
    return Dataset.from_dict({"prompt": texts, "answer": list("abcdefgh")})


def arguments(folder, **more):
    return {
        "output_dir": str(folder),
        "per_device_train_batch_size": 4,
        "max_steps": 2,
        "learning_rate": 1e-2,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [],
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
        **more,
    }


def train(trainer):
    model = trainer.model
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    trainer.train()
    changed = [n for n, p in model.named_parameters() if not torch.equal(p, before[n])]
    return [line for line in trainer.state.log_history if "loss" in line], changed


def group_trainer(kind, folder, reward_funcs, conversational=True, **more):
    config, trainer = {
        "grpo": (trl.GRPOConfig, trl.GRPOTrainer),
        "rloo": (trl.RLOOConfig, trl.RLOOTrainer),
    }[kind]
    # beta 0: no reference model, which would be loaded from a path.
    more = {"num_generations": 2, "max_completion_length": 6, "beta": 0.0, **more}
    settings = arguments(folder, **more)
    return trainer(
        model=policy(),
        reward_funcs=reward_funcs,
        args=config(**settings),
        train_dataset=prompts(conversational),
        processing_class=tiny_backbones.llama_tokenizer(chat=True),
    )


@pytest.mark.parametrize(
    ("kind", "aggregation", "conversational"),
    [("grpo", "lower_bound", True), ("grpo", "thompson", False), ("rloo", "mean", True)],
)
def test_steps_and_logs(kind, aggregation, conversational, model_dir, tmp_path):
    made = VRMReward(model_dir, aggregation, dtype="float32")
    trainer = group_trainer(kind, tmp_path, [made], conversational)
    lines, changed = train(trainer)
    assert len(lines) == 2
    assert changed
    for line in lines:
        assert line["rewards/vrm_reward/mean"] == pytest.approx(line["reward"])
        assert line["rewards/vrm_reward/std"] > 0
        assert line["vrm/reward_sd"] > 0
        assert 0 < line["vrm/weight_entropy"] <= 1.0987
        assert sum(v for k, v in line.items() if k.startswith("vrm/top/")) == pytest.approx(1)
        assert ("vrm/group_sd" in line) == (aggregation == "lower_bound")
    assert len(trainer._logs["extra"]["reward_sd"]) == 4
    assert set(trainer._logs["extra"]["top_objective"]) <= {"clarity", "depth", "safety"}


def test_the_function_of_the_environment(model_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", str(model_dir))
    monkeypatch.setenv("VRM_PYRO_REWARD_DTYPE", "float32")
    trainer = group_trainer("grpo", tmp_path, [reward], max_steps=1)
    lines, _ = train(trainer)
    assert lines[0]["rewards/reward/std"] > 0
    assert lines[0]["vrm/reward_sd"] > 0


def test_online_dpo(model_dir, tmp_path):
    online_dpo = pytest.importorskip("trl.experimental.online_dpo")
    settings = arguments(tmp_path, max_new_tokens=6, max_length=64)
    trainer = online_dpo.OnlineDPOTrainer(
        model=policy(),
        reward_funcs=[VRMReward(model_dir, empty_reward=-10.0, dtype="float32")],
        args=online_dpo.OnlineDPOConfig(**settings),
        train_dataset=prompts(True),
        processing_class=tiny_backbones.llama_tokenizer(chat=True),
    )
    lines, changed = train(trainer)
    assert changed
    assert all(line["objective/scores"] != 0 for line in lines)
