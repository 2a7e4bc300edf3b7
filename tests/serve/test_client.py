"""VRMReward with the address of a server is VRMReward with a folder."""

import asyncio
import concurrent.futures
import json
import pickle
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.http_server import listening
from helpers.tiny_backbones import llama_tokenizer, text

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.integrations.rl.frameworks import OpenRLHFReward, VerlReward, compute_score
from vrm_pyro.serve.application import build_application
from vrm_pyro.serve.service import Service
from vrm_pyro.serve.settings import ServeSettings

PROMPTS = [text(0, 6)] * 3 + [text(1, 8)] * 3
COMPLETIONS = [text(10 + i, 4 + i) for i in range(5)] + [" \n"]
KEY = "k" * 32


@pytest.fixture(scope="module")
def address(scorer):
    service = Service(scorer, ServeSettings(max_wait_ms=1.0), "tiny")
    with listening(build_application(service)) as found:
        yield found


def local(chat_dir, *settings, **more):
    return VRMReward(chat_dir, *settings, dtype="float32", device="cpu", **more)


def near(value):
    return pytest.approx(value, abs=1e-5, nan_ok=True)


class Unreliable:
    """An application that fails a few times before another one answers."""

    def __init__(self, app, statuses=()):
        self.app, self.statuses, self.calls = app, list(statuses), 0

    async def __call__(self, scope, receive, send):
        if scope["type"] == "http":
            self.calls += 1
            if self.statuses:
                status = self.statuses.pop(0)
                if status is None:
                    raise RuntimeError("the connection breaks")
                await send({"type": "http.response.start", "status": status, "headers": []})
                await send({"type": "http.response.body", "body": b"no"})
                return
        await self.app(scope, receive, send)


class TestSameAsAFolder:
    @pytest.mark.parametrize("aggregation", ["mean", "lower_bound", "quantile", "thompson"])
    def test_rewards_spreads_and_weights(self, aggregation, chat_dir, address):
        settings = {"aggregation": aggregation, "k": 1.5, "level": 0.2, "seed": 4}
        here = local(chat_dir, **settings).assess(PROMPTS, COMPLETIONS, 7)
        there = VRMReward(address, **settings).assess(PROMPTS, COMPLETIONS, 7)
        for name in ("rewards", "reward_sd", "group_sd"):
            found, expected = getattr(there, name), getattr(here, name)
            assert [v is None for v in found] == [v is None for v in expected]
            pairs = [(f, e) for f, e in zip(found, expected, strict=True) if e is not None]
            assert [f for f, _ in pairs] == near([e for _, e in pairs]), name
        assert there.objectives == here.objectives
        np.testing.assert_allclose(there.weights, here.weights, atol=1e-5)
        assert there.top_objectives() == here.top_objectives()
        assert there.metrics() == near(here.metrics())

    def test_the_call_of_a_trainer(self, chat_dir, address):
        logged, metrics = {}, {}
        arguments = {
            "prompts": [[{"role": "user", "content": p}] for p in PROMPTS],
            "completions": [[{"role": "assistant", "content": c}] for c in COMPLETIONS],
            "trainer_state": SimpleNamespace(global_step=3),
            "log_extra": logged.__setitem__,
            "log_metric": metrics.__setitem__,
        }
        found = VRMReward(address, "thompson", empty_reward=-9.0)(**arguments)
        assert found == near(local(chat_dir, "thompson", empty_reward=-9.0)(**arguments))
        assert found[5] == -9.0
        assert set(logged) == {"reward_sd", "top_objective"}
        assert "vrm/weight_entropy" in metrics

    def test_nothing_at_all(self, address):
        reward = VRMReward(address)
        assert reward(prompts=[], completions=[]) == []
        assert reward(prompts=["a", "a"], completions=["", " "]) == [None, None]
        with pytest.raises(InputError, match="2 prompts for 1 completions"):
            reward(prompts=["a", "b"], completions=["c"])
        with pytest.raises(InputError, match="its content is no text"):
            reward(prompts=[[{"role": "user", "content": [{"type": "image"}]}]], completions=["a"])

    def test_a_response_without_others_is_warned_of(self, address):
        with pytest.warns(UserWarning, match="1 of 2 prompts have a single completion"):
            VRMReward(address, "lower_bound").assess(
                [*PROMPTS[:2], PROMPTS[3]], ["one", "two", "three"]
            )

    def test_large_calls_are_sent_in_parts_with_whole_groups(self, chat_dir, address, monkeypatch):
        monkeypatch.setattr("vrm_pyro.integrations.rl.remote._RESPONSES", 4)
        prompts = [text(i // 3, 5) for i in range(12)]
        answers = [text(100 + i, 5) for i in range(12)]
        found = VRMReward(address, "quantile").assess(prompts, answers)
        assert found.rewards == near(local(chat_dir, "quantile").assess(prompts, answers).rewards)

    def test_long_texts_are_cut_as_here(self, chat_dir, address):
        long = [text(5, 300)]
        found = VRMReward(address).assess(PROMPTS[:1], long).rewards
        assert found == near(local(chat_dir).assess(PROMPTS[:1], long).rewards)

    def test_pickles_threads_and_event_loops(self, chat_dir, address):
        reward = VRMReward(address, timeout=20)
        expected = local(chat_dir).assess(PROMPTS[:2], COMPLETIONS[:2]).rewards
        assert reward.assess(PROMPTS[:2], COMPLETIONS[:2]).rewards == near(expected)
        copied = pickle.loads(pickle.dumps(reward))
        assert copied.settings == reward.settings
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            calls = [pool.submit(copied.assess, PROMPTS[:2], COMPLETIONS[:2]) for _ in range(8)]
        assert [c.result().rewards for c in calls] == [near(expected)] * 8

        async def several():
            calls = [reward.assess_async(PROMPTS[:2], COMPLETIONS[:2]) for _ in range(8)]
            found = [one.rewards for one in await asyncio.gather(*calls)]
            await reward.client.close_async()
            return found

        assert asyncio.run(several()) == [near(expected)] * 8
        here = asyncio.run(local(chat_dir).assess_async(PROMPTS[:2], COMPLETIONS[:2]))
        assert here.rewards == near(expected)
        with pytest.raises(InputError, match="the model is on the server"):
            _ = reward.scorer


class TestAdapters:
    def test_openrlhf_and_verl_take_it(self, chat_dir, address, monkeypatch):
        (expected,) = local(chat_dir).assess(PROMPTS[:1], COMPLETIONS[:1]).rewards
        reward = VRMReward(address, empty_reward=0.0)
        opened = f"<s><|user|>{PROMPTS[0]}<|end|><|assistant|>"
        found = OpenRLHFReward(reward, llama_tokenizer(chat=True))(
            [f"{opened}{COMPLETIONS[0]}<|end|></s>"], [opened], [None]
        )
        assert found["rewards"].tolist() == near([expected])
        info = {"prompt": PROMPTS[0]}
        assert VerlReward(reward)("set", COMPLETIONS[0], "", info)["score"] == near(expected)
        monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", address)
        monkeypatch.setenv("VRM_PYRO_REWARD_EMPTY_REWARD", "0")
        monkeypatch.setenv("VRM_PYRO_REWARD_TIMEOUT", "20")
        assert compute_score("set", COMPLETIONS[0], "", info)["score"] == near(expected)

    @pytest.mark.filterwarnings("ignore")  # what the trainer says of itself
    def test_grpo_runs_against_a_server(self, address, tmp_path):
        from helpers.policies import group_trainer, train

        lines, changed = train(group_trainer("grpo", tmp_path, [VRMReward(address, "quantile")]))
        assert len(lines) == 2
        assert changed
        for line in lines:
            assert line["rewards/vrm_reward/std"] > 0
            assert line["vrm/group_sd"] > 0


class TestTrouble:
    def test_it_asks_again_until_there_is_an_answer(self, scorer, chat_dir):
        service = Service(scorer, ServeSettings(max_wait_ms=1.0), "tiny")
        app = Unreliable(build_application(service), [503, 502, 429, 500])
        expected = local(chat_dir).assess(PROMPTS[:1], COMPLETIONS[:1]).rewards
        with listening(app) as address:
            reward = VRMReward(address, timeout=30)
            assert reward.assess(PROMPTS[:1], COMPLETIONS[:1]).rewards == near(expected)
            app.statuses = [503]

            async def once():
                found = await reward.assess_async(PROMPTS[:1], COMPLETIONS[:1])
                await reward.client.close_async()
                return found.rewards

            assert asyncio.run(once()) == near(expected)
        assert app.calls == 7

    def test_it_gives_up_in_time(self):
        with pytest.raises(ConnectionError, match=r"no answer in 0\.3 s .*vrm-pyro serve"):
            VRMReward("http://127.0.0.1:9", timeout=0.3).assess(["a"], ["b"])

    def test_what_is_no_server_of_ours_is_said(self):
        async def other(scope, receive, send):
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>"})

        with (
            listening(other) as address,
            pytest.raises(InputError, match="no server of vrm-pyro serve"),
        ):
            VRMReward(address, timeout=10).assess(["a"], ["b"])

    def test_keys(self, scorer, tmp_path, monkeypatch):
        path = tmp_path / "keys"
        path.write_text(KEY)
        settings = ServeSettings(max_wait_ms=1.0, api_key_file=str(path))
        with listening(build_application(Service(scorer, settings, "tiny"))) as address:
            with pytest.raises(InputError, match="VRM_PYRO_API_KEY"):
                VRMReward(address).assess(["a"], ["b"])
            given = VRMReward(address, api_key=KEY)
            assert given.assess(["a"], ["b"]).rewards[0] is not None
            assert KEY not in repr(given.settings)
            monkeypatch.setenv("VRM_PYRO_API_KEY", KEY)
            assert VRMReward(address).assess(["a"], ["b"]).rewards[0] is not None

    def test_settings_of_the_server_are_refused(self):
        for more in ({"device": "cpu"}, {"dtype": "float32"}, {"token_budget": 10}):
            with pytest.raises(InputError, match="settings of the server"):
                VRMReward("http://host", **more)
        with pytest.raises(InputError, match="classes are those of the server"):
            VRMReward("http://host", classes=[dict])
        with pytest.raises(InputError, match="timeout is 0"):
            VRMReward("http://host", timeout=0)

    def test_numbers_that_are_none_are_not_sent(self, address):
        with pytest.raises(InputError, match="k is nan"):
            VRMReward(address, "lower_bound", k=float("nan"))
        json.dumps(VRMReward(address).assess(["a"], ["b"]).rewards, allow_nan=False)
