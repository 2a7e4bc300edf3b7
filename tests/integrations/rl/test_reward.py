"""The reward as a function: values, groups, draws, pickles, logs, settings."""

import ast
import pickle
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.reward_models import OBJECTIVES
from helpers.tiny_backbones import text

from vrm_pyro.data.rows import load_table
from vrm_pyro.data.rows.conversation import check_prompt
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.integrations.rl.conversations import prompt_messages
from vrm_pyro.integrations.rl.reward import reward
from vrm_pyro.prediction.scorer import Scorer

PROMPTS = [text(0, 6)] * 3 + [text(1, 8)] * 3
COMPLETIONS = [text(10 + i, 4 + i) for i in range(6)]


def call(function, prompts=PROMPTS, completions=COMPLETIONS, **more):
    return function(prompts=prompts, completions=completions, **more)


def at(step):
    return SimpleNamespace(global_step=step)


def messages(role, content):
    return [{"role": role, "content": content}]


@pytest.fixture(scope="module")
def mean(model_dir):
    return VRMReward(model_dir, dtype="float32")


class TestMean:
    def test_it_is_that_of_the_scorer(self, mean, model_dir):
        scorer = Scorer.from_pretrained(model_dir, dtype="float32")
        expected = [line["reward_mean"] for line in scorer(PROMPTS, COMPLETIONS)]
        assert call(mean) == pytest.approx(expected, abs=1e-5)

    def test_messages_say_the_same_as_texts(self, mean):
        prompts = [messages("user", prompt) for prompt in PROMPTS]
        completions = [messages("assistant", c) for c in COMPLETIONS]
        assert call(mean, prompts, completions) == pytest.approx(call(mean), abs=1e-6)
        parts = [messages("user", [{"type": "text", "text": prompt}]) for prompt in PROMPTS]
        assert call(mean, parts, completions) == pytest.approx(call(mean), abs=1e-6)

    def test_a_prompt_says_what_it_says_as_a_row(self):
        call = {"type": "function", "function": {"name": "look", "arguments": {"at": "sky"}}}
        prompt = [
            *messages("user", "why"),
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "blue", "name": "look"},
        ]
        assert prompt_messages(prompt) == check_prompt(prompt)
        assert prompt_messages(prompt)[1]["tool_calls"] == [call]

    def test_tool_calls_of_a_completion_are_not_read(self, mean):
        spoken = [
            {"role": "assistant", "content": None, "tool_calls": [{"name": "look"}]},
            {"role": "tool", "content": "42"},
            {"role": "assistant", "content": COMPLETIONS[0]},
        ]
        assert call(mean, PROMPTS[:1], [spoken]) == pytest.approx(call(mean)[:1], abs=1e-6)

    def test_no_batch_mate_matters(self, mean):
        order = [4, 0, 5, 2, 1, 3]
        shuffled = call(mean, [PROMPTS[i] for i in order], [COMPLETIONS[i] for i in order])
        expected = call(mean)
        assert shuffled == pytest.approx([expected[i] for i in order], abs=1e-5)

    def test_training_mode_does_not_matter(self, mean):
        expected = call(mean)
        mean.scorer.model.train()
        assert call(mean) == expected
        assert mean.scorer.model.training
        mean.scorer.model.eval()

    def test_token_budget_reaches_the_backbone(self, mean, model_dir):
        small = VRMReward(model_dir, token_budget=40, dtype="float32")
        assert call(small) == pytest.approx(call(mean), abs=1e-5)
        assert small.scorer.backbone.token_budget == 40

    def test_images_and_unequal_numbers_are_refused(self, mean):
        with pytest.raises(InputError, match="its content is no text"):
            call(mean, [messages("user", [{"type": "image"}])], ["good"])
        with pytest.raises(InputError, match="has no 'role'"):
            call(mean, [[{"content": "hi"}]], ["good"])
        with pytest.raises(InputError, match="2 prompts for 1 completions"):
            call(mean, ["a", "b"], ["good"])


class TestEmpty:
    def test_it_is_not_scored(self, mean):
        found = call(mean, PROMPTS, [*COMPLETIONS[:5], " \n"])
        assert found[5] is None
        assert found[:5] == pytest.approx(call(mean)[:5], abs=1e-5)
        assert call(mean, PROMPTS[:2], ["", []]) == [None, None]
        assert call(mean, [], []) == []

    def test_or_gets_a_floor(self, model_dir):
        floored = VRMReward(model_dir, empty_reward=-7.5, dtype="float32")
        assert call(floored, PROMPTS[:2], ["", COMPLETIONS[0]])[0] == -7.5
        assert call(floored, PROMPTS[:1], [""]) == [-7.5]

    def test_it_is_no_part_of_the_group(self, model_dir):
        bound = VRMReward(model_dir, "lower_bound", dtype="float32")
        full = call(bound, PROMPTS[:3], [*COMPLETIONS[:2], ""])
        assert full[:2] == pytest.approx(call(bound, PROMPTS[:2], COMPLETIONS[:2]), abs=1e-5)


class TestGroups:
    @pytest.mark.parametrize("folder", ["model_dir", "bayesian_dir"])
    def test_lower_bound_of_two_takes_half_the_spread_of_the_difference(self, folder, request):
        directory = request.getfixturevalue(folder)
        bound = VRMReward(directory, "lower_bound", k=1.5, dtype="float32")
        found = call(bound, PROMPTS[:2], COMPLETIONS[:2])
        row = {"prompt": PROMPTS[0], "chosen": COMPLETIONS[0], "rejected": COMPLETIONS[1]}
        lines = list(bound.scorer.score_table(load_table([row])))
        epistemic = lines[0]["delta_variance_epistemic"]
        half = 0.5 * (lines[0]["delta_variance_ambiguity"] + epistemic) ** 0.5
        assert (epistemic > 0) == (folder == "bayesian_dir")
        for reward_found, line in zip(found, lines, strict=True):
            expected = line["reward_mean"] - 1.5 * half
            assert reward_found == pytest.approx(expected, abs=0.015 * half + 1e-4)

    def test_a_completion_given_twice_weighs_twice_in_its_group(self, model_dir):
        """Of [a, a, b] the group's mean is (2 r_a + r_b) / 3: a third of Delta, not half."""
        bound = VRMReward(model_dir, "lower_bound", k=1.0, dtype="float32")
        mean = np.array(call(VRMReward(model_dir, dtype="float32"), PROMPTS[:2], COMPLETIONS[:2]))
        half = mean - call(bound, PROMPTS[:2], COMPLETIONS[:2])
        first, again, other = call(bound, PROMPTS[:3], [COMPLETIONS[i] for i in (0, 0, 1)])
        assert first == again
        assert [mean[0] - first, mean[1] - other] == pytest.approx(half * [2 / 3, 4 / 3], rel=1e-3)

    def test_a_level_has_no_effect(self, model_dir):
        """Raising all scores by a constant raises all rewards by it, whatever the spread of w."""
        for aggregation in ("lower_bound", "quantile"):
            bound = VRMReward(model_dir, aggregation, dtype="float32")
            before = np.array(call(bound))
            with torch.no_grad():
                bound.scorer.model.reward.intercept.add_(2.0)
                scale = bound.scorer.model.reward().scale.item()
            assert np.allclose(call(bound), before + 2.0 * scale, atol=1e-3)

    def test_quantiles_rise_with_the_level_around_the_mean(self, mean, model_dir):
        levels = [
            call(VRMReward(model_dir, "quantile", level=level, dtype="float32"))
            for level in (0.1, 0.5, 0.9)
        ]
        assert (np.diff(levels, axis=0) > 0).all()
        assert (np.array(levels[0]) < call(mean)).all()
        assert (np.array(levels[2]) > call(mean)).all()

    def test_alone_it_is_the_mean_and_says_so(self, mean, model_dir):
        bound = VRMReward(model_dir, "lower_bound", dtype="float32")
        with pytest.warns(UserWarning, match="1 of 2 prompts have a single completion"):
            found = call(bound, PROMPTS[1:4], COMPLETIONS[1:4])
        assert found[2] == pytest.approx(call(mean)[3], abs=1e-5)
        assert found[0] < call(mean)[1]


class TestThompson:
    def test_seed_and_step_fix_the_draw(self, model_dir):
        first = VRMReward(model_dir, "thompson", seed=1, dtype="float32")
        other = VRMReward(model_dir, "thompson", seed=2, dtype="float32")
        before = torch.get_rng_state()
        found = call(first, trainer_state=at(5))
        assert torch.equal(torch.get_rng_state(), before)
        assert call(first, trainer_state=at(5)) == found
        assert call(first, trainer_state=at(6)) != found
        assert call(other, trainer_state=at(5)) != found

    def test_without_a_step_calls_are_counted(self, model_dir):
        thompson = VRMReward(model_dir, "thompson", dtype="float32")
        found = [call(thompson) for _ in range(2)]
        assert found[0] == call(thompson, trainer_state=at(0))
        assert found[1] == call(thompson, trainer_state=at(1))

    @pytest.mark.parametrize("folder", ["model_dir", "bayesian_dir"])
    def test_ranks_with_parts_of_a_group_agree(self, folder, request):
        whole = VRMReward(request.getfixturevalue(folder), "thompson", dtype="float32")
        expected = call(whole, trainer_state=at(3))
        ranks = [(slice(3, 5)), (slice(0, 3)), (slice(5, 6))]
        for part in ranks:
            found = call(whole, PROMPTS[part], COMPLETIONS[part], trainer_state=at(3))
            assert found == pytest.approx(expected[part], abs=1e-4)

    def test_equal_completions_get_equal_rewards(self, model_dir):
        thompson = VRMReward(model_dir, "thompson", dtype="float32")
        one, other, again = call(
            thompson, PROMPTS[:3], [COMPLETIONS[0], COMPLETIONS[1], COMPLETIONS[0]]
        )
        assert one == again
        assert one != other

    def test_draws_have_the_moments_of_the_reward(self, model_dir):
        thompson = VRMReward(model_dir, "thompson", dtype="float32")
        found = thompson.assess(PROMPTS[:2], COMPLETIONS[:2])
        mean = call(VRMReward(model_dir, dtype="float32"), PROMPTS[:2], COMPLETIONS[:2])
        draws = np.array(
            [thompson.assess(PROMPTS[:2], COMPLETIONS[:2], s).rewards for s in range(150)]
        )
        error = np.array(found.reward_sd) / 150**0.5
        assert (np.abs(draws.mean(0) - mean) < 4.5 * error).all()
        # The sd of a sample sd is about sd / sqrt(2 n) for distributions with tails like these.
        assert draws.std(0) == pytest.approx(found.reward_sd, rel=4.5 / 300**0.5)


class TestLogs:
    def test_metrics_and_columns(self, mean):
        metrics, columns = {}, {}
        call(
            mean,
            PROMPTS,
            [*COMPLETIONS[:5], ""],
            log_metric=metrics.__setitem__,
            log_extra=columns.__setitem__,
            answer=list("abcdef"),
        )
        scored = mean.scorer(PROMPTS[:5], COMPLETIONS[:5])
        assert columns["reward_sd"][:5] == pytest.approx([s["reward_sd"] for s in scored])
        top = [max(s["weights"], key=s["weights"].get) for s in scored]
        assert columns["top_objective"] == [*top, None]
        assert columns["reward_sd"][5] is None
        assert set(metrics) == {
            "vrm/reward_sd", "vrm/weight_entropy", *(f"vrm/top/{name}" for name in OBJECTIVES),
        }  # fmt: skip
        assert metrics["vrm/reward_sd"] == pytest.approx(np.mean(columns["reward_sd"][:5]))
        for name in OBJECTIVES:
            assert metrics[f"vrm/top/{name}"] == pytest.approx(top.count(name) / 5)
        entropy = [-sum(p * np.log(p) for p in s["weights"].values()) for s in scored]
        assert metrics["vrm/weight_entropy"] == pytest.approx(np.mean(entropy), abs=1e-5)

    def test_the_spread_in_the_group_is_logged_where_it_counts(self, model_dir):
        bound = VRMReward(model_dir, "lower_bound", k=2.0, dtype="float32")
        found = bound.assess(PROMPTS, COMPLETIONS)
        mean = call(VRMReward(model_dir, dtype="float32"))
        off = (np.array(mean) - np.array(found.rewards)) / 2
        assert off == pytest.approx(np.array(found.group_sd), abs=1e-4)
        assert found.metrics()["vrm/group_sd"] == pytest.approx(off.mean(), abs=1e-4)

    def test_nothing_scored_logs_nothing(self, mean):
        metrics = {}
        call(mean, PROMPTS[:1], [""], log_metric=metrics.__setitem__)
        assert metrics == {}


class TestPickle:
    def test_it_holds_path_and_settings_alone(self, model_dir):
        made = VRMReward(model_dir, "lower_bound", 2.0, name="careful", dtype="float32")
        expected = call(made)
        pickled = pickle.dumps(made)
        assert len(pickled) < 1000
        again = pickle.loads(pickled)
        assert again._scorer is None
        assert (again.__name__, again.settings) == ("careful", made.settings)
        assert call(again) == expected

    def test_another_process_finds_the_same_numbers(self, model_dir, tmp_path):
        made = VRMReward(model_dir, "thompson", seed=4, dtype="float32")
        (tmp_path / "reward.pkl").write_bytes(pickle.dumps(made))
        program = (
            "import pickle, sys\n"
            "function, prompts, completions = (pickle.load(open(p, 'rb')) for p in sys.argv[1:])\n"
            "print(function(prompts=prompts, completions=completions))\n"
        )
        for name, value in (("prompts", PROMPTS), ("completions", COMPLETIONS)):
            (tmp_path / name).write_bytes(pickle.dumps(value))
        paths = [str(tmp_path / name) for name in ("reward.pkl", "prompts", "completions")]
        done = subprocess.run(
            [sys.executable, "-c", program, *paths], capture_output=True, text=True, check=True
        )
        assert ast.literal_eval(done.stdout) == pytest.approx(call(made), abs=1e-5)

    def test_threads_wait_for_each_other(self, model_dir):
        made = VRMReward(model_dir, dtype="float32")
        found = [None] * 4

        def work(i):
            found[i] = call(made)

        threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert found[0] is not None
        assert found == [found[0]] * 4


class TestEnvironment:
    def test_it_says_what_is_missing(self, monkeypatch):
        monkeypatch.delenv("VRM_PYRO_REWARD_MODEL", raising=False)
        with pytest.raises(InputError, match="VRM_PYRO_REWARD_MODEL is not set"):
            call(reward)

    def test_settings_are_read(self, monkeypatch, model_dir):
        monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", str(model_dir))
        monkeypatch.setenv("VRM_PYRO_REWARD_AGGREGATION", "lower_bound")
        monkeypatch.setenv("VRM_PYRO_REWARD_K", "0.5")
        monkeypatch.setenv("VRM_PYRO_REWARD_DTYPE", "float32")
        expected = call(VRMReward(model_dir, "lower_bound", 0.5, dtype="float32"))
        assert call(reward) == expected
        assert reward.__name__ == "reward"

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("K", "much", "VRM_PYRO_REWARD_K is 'much', but must be a number"),
            ("SEED", "1.5", "VRM_PYRO_REWARD_SEED is '1.5', but must be a whole number"),
            ("KAY", "1", "VRM_PYRO_REWARD_KAY: there is no such setting"),
            ("AGGREGATION", "median", "aggregation is 'median', but must be one of mean"),
            ("LEVEL", "1", "level is 1.0, but must be between 0 and 1"),
            ("K", "inf", "k is inf"),
            ("EMPTY_REWARD", "nan", "empty_reward is nan"),
            ("TOKEN_BUDGET", "0", "token_budget is 0"),
        ],
    )
    def test_wrong_values_are_refused(self, monkeypatch, name, value, message):
        monkeypatch.setenv("VRM_PYRO_REWARD_MODEL", "somewhere")
        monkeypatch.setenv(f"VRM_PYRO_REWARD_{name}", value)
        with pytest.raises(InputError, match=message):
            call(reward)

    def test_a_missing_model_is_named(self, tmp_path):
        with pytest.raises(InputError, match="no such directory"):
            call(VRMReward(tmp_path / "gone"))
