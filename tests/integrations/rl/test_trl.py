"""Real steps of TRL's trainers with a random policy and the reward as their function."""

import pytest
from helpers import tiny_backbones
from helpers.policies import arguments, group_trainer, policy, prompts, train

from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.integrations.rl.reward import reward

pytestmark = pytest.mark.filterwarnings("ignore")  # what the trainers say of themselves


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
