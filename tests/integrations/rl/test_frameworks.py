"""Adapters against calls in the shapes that OpenRLHF, verl and ms-swift make."""

import concurrent.futures
import json

import numpy as np
import pytest
import torch
from helpers import tiny_backbones
from helpers.tiny_backbones import text

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.integrations.rl.frameworks import (
    OpenRLHFReward,
    SwiftReward,
    VerlReward,
    compute_score,
)

PROMPT, RESPONSE = text(0, 6), text(1, 5)
TEMPLATED = f"<s><|user|>{PROMPT}<|end|><|assistant|>"


@pytest.fixture(scope="module")
def single(model_dir):
    return VRMReward(model_dir, empty_reward=-3.0, dtype="float32")


@pytest.fixture(scope="module")
def expected(single):
    return single.assess([PROMPT], [RESPONSE]).rewards[0]


@pytest.fixture(scope="module")
def policy_tokenizer():
    return tiny_backbones.llama_tokenizer(chat=True)


class TestOpenRLHF:
    def test_the_template_of_the_policy_is_taken_off(self, single, expected, policy_tokenizer):
        function = OpenRLHFReward(single, policy_tokenizer)
        found = function(
            queries=[f"{TEMPLATED}{RESPONSE}<|end|></s>"],
            prompts=[TEMPLATED],
            labels=[None],
            metadata={"any": 1},
        )
        assert found["rewards"].tolist() == pytest.approx([expected], abs=1e-5)
        assert found["rewards"].dtype == torch.float32
        assert found["extra_logs"]["vrm_sd"].item() > 0
        assert set(found) == {"rewards", "extra_logs"}

    def test_texts_without_a_template_are_taken_as_they_are(self, single, expected):
        found = OpenRLHFReward(single)([PROMPT + RESPONSE], [PROMPT], ["label"])
        assert found["rewards"].tolist() == pytest.approx([expected], abs=1e-5)

    def test_other_servers_get_nothing(self, single):
        found = OpenRLHFReward(single)([], [], [])
        assert found["rewards"].shape == (0,)
        assert found["extra_logs"]["vrm_sd"].shape == (0,)

    def test_an_answer_of_an_end_mark_alone_is_empty(self, single, policy_tokenizer):
        function = OpenRLHFReward(single, policy_tokenizer)
        found = function([f"{TEMPLATED}</s>"], [TEMPLATED], [None])
        assert found["rewards"].tolist() == [-3.0]

    def test_what_cannot_be_told_apart_is_refused(self, single, policy_tokenizer):
        function = OpenRLHFReward(single, policy_tokenizer)
        with pytest.raises(InputError, match="does not begin with its prompt"):
            function([RESPONSE], [TEMPLATED], [None])
        with pytest.raises(InputError, match="not one user text in the chat template"):
            function([PROMPT + RESPONSE], [PROMPT], [None])
        two = f"<s><|user|>a<|end|><|assistant|>b<|end|><|user|>{PROMPT}<|end|><|assistant|>"
        with pytest.raises(InputError, match="not one user text in the chat template"):
            function([two + RESPONSE], [two], [None])
        with pytest.raises(InputError, match="no chat template"):
            OpenRLHFReward(single, tiny_backbones.llama_tokenizer(chat=False))


class TestVerl:
    def test_the_prompt_is_read_from_extra_info(self, single, expected):
        function = VerlReward(single)
        for prompt in (PROMPT, np.array([{"role": "user", "content": PROMPT}], dtype=object)):
            found = function(
                data_source="set",
                solution_str=RESPONSE,
                ground_truth="42",
                extra_info={"prompt": prompt, "index": 3},
                reward_router_address=None,
                reward_model_tokenizer=None,
            )
            assert found["score"] == pytest.approx(expected, abs=1e-5)
            assert set(found) == {"score", "vrm_sd"}
            json.dumps(found, allow_nan=False)

    def test_threads(self, single, expected):
        function = VerlReward(single, prompt_key="question")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            calls = [
                pool.submit(function, "set", RESPONSE, "", {"question": PROMPT}) for _ in range(8)
            ]
        assert [c.result()["score"] for c in calls] == pytest.approx([expected] * 8, abs=1e-5)

    def test_an_empty_solution_has_the_same_keys(self, single):
        found = VerlReward(single)("set", "", "", {"prompt": PROMPT})
        assert found == {"score": -3.0, "vrm_sd": 0.0}

    def test_a_missing_prompt_is_said(self, single):
        with pytest.raises(InputError, match="extra_info has no 'prompt'"):
            VerlReward(single)("set", RESPONSE, "", {"index": 3})

    def test_the_function_of_the_environment(self, model_dir, expected, monkeypatch):
        monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", str(model_dir))
        monkeypatch.setenv("VRM_PYRO_REWARD_DTYPE", "float32")
        info = {"q": PROMPT}
        with pytest.raises(InputError, match="Set empty_reward"):
            compute_score("set", RESPONSE, "", info, prompt_key="q")
        monkeypatch.setenv("VRM_PYRO_REWARD_EMPTY_REWARD", "-3")
        found = compute_score("set", RESPONSE, "", info, prompt_key="q")
        assert found["score"] == pytest.approx(expected, abs=1e-5)


class TestSwift:
    def test_the_answer_is_cut_from_the_messages(self, single, expected):
        user = {"role": "user", "content": PROMPT}
        answer = {"role": "assistant", "content": RESPONSE}
        function = SwiftReward(reward=single)
        for conversation in ([user, answer], [user]):
            found = function([RESPONSE], messages=[conversation], solution=["42"])
            assert found == pytest.approx([expected], abs=1e-5)
        with pytest.raises(InputError, match="passed no messages"):
            function([RESPONSE])

    def test_it_is_made_from_the_environment(self, model_dir, expected, monkeypatch):
        monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", str(model_dir))
        monkeypatch.setenv("VRM_PYRO_REWARD_DTYPE", "float32")
        function = SwiftReward("arguments of the trainer", template=None)
        found = function([RESPONSE], [[{"role": "user", "content": PROMPT}]])
        assert found == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("adapter", [OpenRLHFReward, VerlReward])
def test_one_at_a_time_there_is_no_group(adapter, model_dir):
    for aggregation in ("lower_bound", "quantile", "thompson"):
        with pytest.raises(InputError, match="one reward at a time"):
            adapter(VRMReward(model_dir, aggregation, empty_reward=0.0))
    with pytest.raises(InputError, match="Set empty_reward"):
        adapter(VRMReward(model_dir))
