import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import scipy.stats
import torch
from helpers.configs import network_config
from helpers.sources import NumberSource, without_pairs
from helpers.tiny_backbones import save_tiny_backbone, text
from safetensors.torch import load_file
from transformers import TrainerCallback

from vrm_pyro.cli import main
from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.rating_rates import rating_rates
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import load_model, save_model
from vrm_pyro.models.guides import LabelBlindGuide
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.models.priors import ConditionalDirichletPrior, DirichletPrior, NormalPrior
from vrm_pyro.models.ratings import DifferenceRatings
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.distributed.validation import VALIDATION_METRICS
from vrm_pyro.training.preparation import (
    data_facts,
    rating_ranges,
    rating_unit,
    useful_prompts,
)
from vrm_pyro.training.train import train
from vrm_pyro.training.trainer import LIKELIHOOD_STEP

HIDDEN = 8
VIB = {
    "mode": "vib",
    "weight_prior": DirichletPrior(),
    "feature_prior": NormalPrior(),
    "guide": LabelBlindGuide(hidden_size=8),
    "objective": "integrated",
    "kl_weights": 0.1,
    "kl_features": 0.1,
    "warmup_fraction": 0.5,
}
KINDS = {
    "pairwise": {},
    "dropout": {"weight_prior": ConditionalDirichletPrior(hidden_size=8, dropout=0.5)},
    "sampled": {"objective": "sampled"},
    "vib with warm-up": VIB,
    "baseline": {"architecture": "bradley_terry", "head_size": 8, "head_dropout": 0.5},
    "ensemble": {
        "architecture": "bradley_terry",
        "head_size": 8,
        "head_dropout": 0.5,
        "ensemble_size": 3,
    },
}


def numbers(num_prompts, seed, ratings=2, noise=0.3):
    """Two pairs a prompt; what is preferred lies along one direction of the states."""
    rng = np.random.default_rng(seed)
    direction = np.random.default_rng(99).normal(size=HIDDEN)
    responses = rng.normal(size=(4 * num_prompts, HIDDEN)).astype(np.float32)
    quality = responses @ direction + noise * rng.normal(size=len(responses))
    first, second = 2 * np.arange(2 * num_prompts), 2 * np.arange(2 * num_prompts) + 1
    first, second = np.where(quality[first] > quality[second], (first, second), (second, first))
    return NumberSource(
        rng.normal(size=(num_prompts, HIDDEN)).astype(np.float32),
        responses,
        np.repeat(np.arange(num_prompts), 4),
        first,
        second,
        np.ones(len(first)),
        np.ones(len(first)),
        3 + 0.5 * quality[:, None] + rng.normal(0, 0.5, (len(responses), ratings)),
        tuple("abcdef"[:ratings]),
    )


TRAIN, VALIDATION = numbers(24, 0), numbers(8, 1)


def arguments(folder, **settings):
    values = {
        "output_dir": str(folder),
        "num_train_epochs": 4,
        "per_device_train_batch_size": 8,
        "early_stopping_patience": 0,
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
        **settings,
    }
    return TrainArguments(**values)


def fit(folder, kind="pairwise", callbacks=None, sources=(TRAIN, VALIDATION), **settings):
    config = network_config(**KINDS[kind])
    return train(config, arguments(folder, **settings), *sources, callbacks=callbacks)


def steady(history):
    """Return log entries without what a clock says."""
    clock = ("runtime", "per_second", "total_flos")
    return [{k: v for k, v in e.items() if not any(c in k for c in clock)} for e in history]


def same_tensors(one, two):
    first, second = one.loaded.model.state_dict(), two.loaded.model.state_dict()
    return first.keys() == second.keys() and all(first[k].equal(second[k]) for k in first)


class Stop(Exception):
    """What cuts a run off."""


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise Stop


@pytest.mark.parametrize(
    ("kind", "step"), [*((kind, 8) for kind in sorted(KINDS)), ("pairwise", 6)]
)
def test_resumed_equals_uninterrupted(tmp_path, kind, step):
    whole = fit(tmp_path / "whole", kind)
    with pytest.raises(Stop):
        fit(tmp_path / "cut", kind, [StopAt(step)])
    torch.manual_seed(12345)  # another process would not have this one's random state
    resumed = fit(tmp_path / "cut", kind, resume_from_checkpoint="true")
    assert resumed.metrics.keys() == whole.metrics.keys()
    for name in set(whole.metrics) - {"train_runtime"}:
        if "runtime" not in name and "per_second" not in name:
            assert resumed.metrics[name] == whole.metrics[name], name
    assert same_tensors(whole, resumed)
    # The step that was cut off is logged again, as it was.
    evaluations = [
        [e for e in steady(r.log_history) if "eval_log_loss" in e] for r in (whole, resumed)
    ]
    assert evaluations[0] == evaluations[1]
    steps = [
        {e["step"]: e for e in steady(r.log_history) if "loss" in e} for r in (whole, resumed)
    ]
    assert steps[1] == steps[0]


def test_a_checkpoint_cut_off_while_it_was_written_is_passed_over(tmp_path):
    whole = fit(tmp_path / "whole")
    with pytest.raises(Stop):
        fit(tmp_path / "cut", callbacks=[StopAt(8)])
    state = tmp_path / "cut" / "checkpoint-6" / "trainer_state.json"
    state.write_text(state.read_text()[:50])
    resumed = fit(tmp_path / "cut", resume_from_checkpoint="true")
    assert same_tensors(whole, resumed)


def test_resuming_a_run_that_was_over_takes_no_further_step(tmp_path):
    whole = fit(tmp_path / "run")
    again = fit(tmp_path / "run", resume_from_checkpoint="true")
    assert again.metrics["steps"] == whole.metrics["steps"] == 12
    assert same_tensors(whole, again)


def test_resume_without_a_checkpoint_starts_afresh(tmp_path):
    whole = fit(tmp_path / "a")
    assert same_tensors(whole, fit(tmp_path / "b", resume_from_checkpoint="true"))


def test_a_named_checkpoint_has_to_be_one(tmp_path):
    with pytest.raises(InputError, match="nowhere is not a complete checkpoint"):
        fit(tmp_path, resume_from_checkpoint=str(tmp_path / "nowhere"))


def test_seeds(tmp_path):
    runs = []
    for i, seed in enumerate((1, 1, 2)):
        torch.rand(i)  # what came before must not count
        runs.append(fit(tmp_path / str(i), seed=seed))
    assert same_tensors(runs[0], runs[1])
    assert not same_tensors(runs[0], runs[2])


def test_learns_what_there_is_to_learn(tmp_path):
    result = fit(tmp_path, num_train_epochs=15, learning_rate=3e-2)
    assert result.metrics["eval_log_loss"] < 0.45
    assert result.metrics["eval_accuracy"] > 0.8
    assert result.loaded.rated
    assert not result.loaded.model.training


class TestEarlyStopping:
    @pytest.fixture
    def noise(self):
        """Labels that are a coin's: validation soon gets worse."""
        train_source = numbers(24, 0, noise=1e6)
        return train_source, numbers(8, 1, noise=1e6)

    def fit(self, folder, noise, **settings):
        fast = {"learning_rate": 3e-2, "num_train_epochs": 40, "early_stopping_patience": 3}
        return fit(folder, "baseline", sources=noise, **(fast | settings))

    def test_stops_after_patience_and_keeps_the_best(self, tmp_path, noise):
        result = self.fit(tmp_path, noise)
        losses = [e["eval_log_loss"] for e in result.log_history if "eval_log_loss" in e]
        losses = losses[:-1]  # the last is of the best model again
        best = int(np.argmin(losses))
        assert len(losses) == best + 1 + 3 < 40
        assert result.metrics["steps"] == 3 * len(losses)
        assert result.metrics["best_step"] == 3 * (best + 1)
        assert result.metrics["eval_log_loss"] == pytest.approx(losses[best], abs=1e-7)

    def test_patience_outlives_a_resume(self, tmp_path, noise):
        whole = self.fit(tmp_path / "whole", noise)
        last = whole.metrics["steps"]
        cut = {"callbacks": [StopAt(last - 2)]}
        with pytest.raises(Stop):
            self.fit(tmp_path / "cut", noise, **cut)
        resumed = self.fit(tmp_path / "cut", noise, resume_from_checkpoint="true")
        assert resumed.metrics["steps"] == last
        assert same_tensors(whole, resumed)

    def test_none_at_0(self, tmp_path, noise):
        result = self.fit(tmp_path, noise, early_stopping_patience=0, num_train_epochs=10)
        assert result.metrics["steps"] == 30


@pytest.fixture(scope="module")
def entries(tmp_path_factory):
    """Log entries of every step of a run, and the run."""
    result = fit(tmp_path_factory.mktemp("run"))
    return [e for e in result.log_history if "loss" in e], result


class TestLog:
    PARTS = ("elbo", "kl_weights", "kl_features", "log_lik_preference", "log_lik_rating")
    UNITS = ("active_units_weights", "active_units_features", "accuracy")

    def test_every_step_has_every_part(self, entries):
        steps = entries[0]
        assert [e["step"] for e in steps] == list(range(1, 13))
        assert all({*self.PARTS, *self.UNITS, "hyperprior_penalty"} <= set(e) for e in steps)
        assert all(np.isfinite(list(e.values())).all() for e in steps)

    def test_ranges(self, entries):
        for entry in entries[0]:
            assert 0 <= entry["accuracy"] <= 1
            assert entry["kl_weights"] >= -1e-6
            assert entry["kl_features"] >= -1e-6
            assert 0 <= entry["active_units_weights"] <= 2
            assert 0 <= entry["active_units_features"] <= network_config().latent_dim

    def test_elbo_is_the_sum_of_its_parts(self, entries):
        # Units: prompts, but pairs for the preferences (2 a prompt) and responses for KL(z) (4).
        for entry in entries[0]:
            total = (
                2 * entry["log_lik_preference"]
                + entry["log_lik_rating"]
                - entry["kl_weights"]
                - 4 * entry["kl_features"]
            )
            assert entry["elbo"] == pytest.approx(total, abs=1e-4)

    def test_loss_is_penalty_minus_objective(self, entries):
        for entry in entries[0]:
            expected = entry["hyperprior_penalty"] - entry["objective"]
            assert entry["loss"] == pytest.approx(expected, abs=1e-3)  # the Trainer rounds it

    def test_validation_metrics_are_those_one_can_train_by(self, entries):
        evaluated = {k.removeprefix("eval_") for k in entries[1].metrics if "eval_" in k}
        clock = {"runtime", "samples_per_second", "steps_per_second"}
        assert evaluated - clock == set(VALIDATION_METRICS)

    def test_short_runs_have_a_log(self, tmp_path):
        result = fit(tmp_path, num_train_epochs=1, logging_steps=10)
        assert [e["step"] for e in result.log_history if "loss" in e] == [1]

    def test_warm_up_is_visible(self, tmp_path):
        result = fit(tmp_path, "vib with warm-up")
        kappa = [e["kappa_weights"] for e in result.log_history if "loss" in e]
        # From a hundredth of .1, over half of the 12 steps.
        assert kappa == pytest.approx([0.1 * (0.01 + 0.99 * min(1, i / 6)) for i in range(12)])


class TestSources:
    def test_facts(self):
        facts = data_facts(TRAIN)
        assert facts.objectives == ("a", "b")
        assert (facts.num_pairs, facts.max_pairs_per_response) == (48, 1)

    def test_an_objective_nobody_rates_is_none(self):
        ratings = TRAIN.ratings.copy()
        ratings[:, 0] = np.nan
        held = NumberSource(**{**vars(TRAIN), "ratings": ratings})
        assert data_facts(held).objectives == ("b",)

    def test_selected_objectives_keep_their_order(self):
        view = with_objectives(TRAIN, ("b", "a"))
        assert np.array_equal(view.ratings, TRAIN.ratings[:, ::-1])
        assert with_objectives(TRAIN, ()).ratings.shape == (96, 0)

    def test_one_unit_for_all_ratings(self):
        loc, scale = rating_unit(TRAIN)
        assert (loc, scale) == pytest.approx((TRAIN.ratings.mean(), TRAIN.ratings.std()))
        assert rating_unit(with_objectives(TRAIN, ())) == (0.0, 1.0)

    def test_a_range_for_each_objective_of_the_ratings_there_are(self, entries):
        ratings = TRAIN.ratings.copy()
        ratings[1:, 0] = np.nan
        ratings[:, 1] = np.nan
        held = NumberSource(**{**vars(TRAIN), "ratings": ratings})
        assert rating_unit(held) == (ratings[0, 0], 1.0)  # of what is rated
        assert rating_ranges(held) == {"a": (ratings[0, 0], ratings[0, 0])}
        low, high = TRAIN.ratings.min(0), TRAIN.ratings.max(0)
        whole = {"a": (low[0], high[0]), "b": (low[1], high[1])}
        assert entries[1].loaded.rating_ranges == whole

    def test_prompts_without_outcome_are_left_out(self):
        pairs = {n: getattr(TRAIN, n)[:6] for n in ("pair_first", "pair_second", "preference")}
        ratings = np.full_like(TRAIN.ratings, np.nan)
        ratings[40, 1] = 3.0  # of prompt 10
        held = NumberSource(**{**vars(TRAIN), **pairs, "ratings": ratings})
        assert useful_prompts(held, rated=False).tolist() == [0, 1, 2]
        assert useful_prompts(held, rated=True).tolist() == [0, 1, 2, 10]

    def test_validation_without_pairs_is_refused(self, tmp_path):
        names = ("pair_first", "pair_second", "preference", "pair_weight")
        none = NumberSource(
            **{**vars(VALIDATION), **{n: getattr(VALIDATION, n)[:0] for n in names}}
        )
        with pytest.raises(InputError, match="validation rows hold no pair"):
            fit(tmp_path, sources=(TRAIN, none))


class TestRatingsAlone:
    SOURCES = tuple(without_pairs(source) for source in (TRAIN, VALIDATION))

    def test_training_stops_by_their_log_score_and_learns(self, tmp_path):
        settings = {"num_train_epochs": 40, "learning_rate": 3e-2, "early_stopping_patience": 3}
        config = network_config(objective="integrated")
        result = train(config, arguments(tmp_path, **settings), *self.SOURCES)
        scores = [e["eval_rating_log_score"] for e in result.log_history if "eval_elbo" in e]
        found = result.metrics["eval_rating_log_score"]
        assert found == pytest.approx(max(scores[:-1]), abs=1e-5)
        # The marginal of the training ratings, each objective by itself.
        loc, scale = TRAIN.ratings.mean(0), TRAIN.ratings.std(0)
        unit = rating_unit(TRAIN)[1]
        marginal = scipy.stats.norm(loc, scale).logpdf(VALIDATION.ratings).mean() + np.log(unit)
        assert found > marginal + 0.1
        assert "eval_log_loss" not in result.metrics
        model = result.loaded.model
        assert rating_rates(model, VALIDATION, ("a", "b"))["r2"] > 0.3

    @pytest.mark.parametrize(
        ("ratings", "settings", "words"),
        [
            (np.nan, {}, "neither a pair nor a rating of a, b"),
            (1.0, {"metric_for_best_model": "accuracy", "greater_is_better": True}, "is accuracy"),
        ],
    )
    def test_what_cannot_stop_training_is_refused(self, ratings, settings, words, tmp_path):
        train_rows, held = self.SOURCES
        held = NumberSource(**{**vars(held), "ratings": held.ratings * ratings})
        with pytest.raises(InputError, match=words):
            fit(tmp_path, sources=(train_rows, held), **settings)

    def test_differences_need_two_responses_of_a_prompt(self, tmp_path):
        train_rows, held = self.SOURCES
        ratings = held.ratings.copy()
        ratings[np.arange(len(ratings)) % 4 > 0] = np.nan
        one = NumberSource(**{**vars(held), "ratings": ratings})
        config = network_config(rating_likelihood=DifferenceRatings(), objective="integrated")
        with pytest.raises(InputError, match="two responses of one prompt"):
            train(config, arguments(tmp_path), train_rows, one)


@pytest.mark.slow
def test_killed_and_resumed_equals_uninterrupted(tmp_path):
    save_tiny_backbone(tmp_path / "bert")
    for name, first in (("train", 0), ("validation", 500)):
        rows = [
            {
                "prompt": text(first + i, 5),
                "chosen": text(1000 + first + i, 6 + i % 5),
                "rejected": text(3000 + first + i, 9 - i % 5),
            }
            for i in range(40)
        ]
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}.jsonl").write_text(lines)
    settings = {
        "model.backbone": tmp_path / "bert",
        "model.max_length": 60,
        "data.train": tmp_path / "train.jsonl",
        "data.validation": tmp_path / "validation.jsonl",
        "train.num_train_epochs": 60,
        "train.per_device_train_batch_size": 4,
        "train.early_stopping_patience": 0,
        "train.use_cpu": "true",
    }
    common = [part for key, value in settings.items() for part in (f"--{key}", str(value))]
    assert main(["train", *common, "--train.output_dir", str(tmp_path / "whole")]) == 0
    cut = tmp_path / "cut"
    command = [
        sys.executable,
        "-m",
        "vrm_pyro.cli",
        "train",
        *common,
        "--train.output_dir",
        str(cut),
    ]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL) as run:
        deadline = time.monotonic() + 120
        while not list(cut.glob("checkpoint-[1-9]??")) and time.monotonic() < deadline:
            assert run.poll() is None
            time.sleep(0.01)
        os.kill(run.pid, signal.SIGKILL)
    assert not (cut / "config.json").exists(), "the run ended before it was killed"
    folder = ["--train.output_dir", str(cut), "--train.resume_from_checkpoint", "true"]
    assert main(["train", *folder]) == 0
    for name in ("model.safetensors",):
        one, two = (load_file(tmp_path / run / name) for run in ("whole", "cut"))
        assert one.keys() == two.keys()
        assert all(one[key].equal(two[key]) for key in one)
    metrics = [
        json.loads((tmp_path / run / "metrics.json").read_text()) for run in ("whole", "cut")
    ]
    for held in metrics:
        held["training"].pop("seconds")
    assert metrics[0] == metrics[1]


def test_likelihood_parameters_step_further_and_do_not_decay(tmp_path):
    """The first Adam step has the size of the learning rate, here the longer one."""
    config = network_config(likelihood=Lapse(0.2))
    options = arguments(tmp_path, max_steps=1, learning_rate=1e-3, weight_decay=0.9)
    result = train(config, options, TRAIN, VALIDATION)
    start = torch.tensor(0.4).logit()
    step = (result.loaded.model.likelihood.logit - start).abs().item()
    assert step == pytest.approx(LIKELIHOOD_STEP * 1e-3, rel=0.01)


def test_a_learned_lapse_rate_moves_and_is_kept(tmp_path):
    """The likelihood's parameter is trained and comes back from a checkpoint."""
    config = network_config(likelihood=Lapse(0.2))
    result = train(config, arguments(tmp_path / "run"), TRAIN, VALIDATION)
    rate = result.loaded.model.likelihood.rate.item()
    assert 0 < rate < 0.5
    assert abs(rate - 0.2) > 1e-3
    (tmp_path / "saved").mkdir()
    save_model(result.loaded, tmp_path / "saved")
    assert load_model(tmp_path / "saved").model.likelihood.rate.item() == rate
