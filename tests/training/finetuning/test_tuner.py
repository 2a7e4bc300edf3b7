"""Training a tiny random backbone together with the heads, and what is saved of it."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.text_rows import write_rows
from helpers.tiny_backbones import (
    save_tiny_backbone,
    text,
    tiny_backbone,
    tiny_model,
    tiny_tokenizer,
)
from helpers.tuned_backbones import VRM, arguments, losses, tuned, weights
from transformers import LlamaForSequenceClassification, TrainerCallback

from vrm_pyro.backbone import load_backbone
from vrm_pyro.backbone.sharding import sharded_names
from vrm_pyro.cli import main
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.finetuning import Tuner, TuningConfig
from vrm_pyro.training.trainer import LIKELIHOOD_STEP


@pytest.mark.parametrize("method", ["lora", "full"])
@pytest.mark.parametrize("kind", ["llama-chat", "qwen3", "bert"])
def test_backbone_and_heads_learn(tables, tmp_path, kind, method):
    before = tiny_backbone(kind).model.state_dict()
    tuning = TuningConfig(method, learning_rate=3e-3, rank=4, dropout=0.0)
    result, tuner = tuned(tables, tmp_path, kind, VRM, tuning, rated=True, num_train_epochs=8)
    values = losses(result)
    assert np.mean(values[-4:]) < np.mean(values[:4])
    now = tuner.backbone.module_under_adapters.state_dict()
    now = {name.replace(".base_layer", ""): value for name, value in now.items()}
    changed = {name for name, value in before.items() if not torch.equal(now[name], value)}
    if method == "lora":
        assert not changed
        trained = [n for n, p in tuner.backbone.model.named_parameters() if p.requires_grad]
        assert trained
        assert all("lora_" in name for name in trained)
    else:
        assert len(changed) > 0.8 * len(before)


def test_learning_rates_of_the_parts(tables, tmp_path):
    rates = {}

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, optimizer=None, **kwargs):
            by_id = {id(p): name for name, p in model.named_parameters()}
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    rates[by_id[id(parameter)]] = (group["lr"], group["weight_decay"])

    from vrm_pyro.models.likelihoods import Lapse

    tuned(
        tables, tmp_path, model=replace(VRM, likelihood=Lapse(0.1)), max_steps=1,
        learning_rate=2e-3, weight_decay=0.1, callbacks=[Look()],
        tuning=TuningConfig("full", learning_rate=3e-5),
    )  # fmt: skip
    assert {rate for name, (rate, _) in rates.items() if name.startswith("backbone.")} == {3e-5}
    assert rates["heads.model.likelihood.logit"] == (LIKELIHOOD_STEP * 2e-3, 0.0)
    rest = {n: r for n, r in rates.items() if not n.startswith("backbone.")}
    del rest["heads.model.likelihood.logit"]
    assert {rate for rate, _ in rest.values()} == {2e-3}


def test_a_run_is_saved_and_read_as_it_was(tmp_path):
    rows = [
        write_rows(tmp_path / f"{n}.jsonl", s, k) for n, s, k in (("t", 12, 0), ("v", 6, 9000))
    ]
    save_tiny_backbone(tmp_path / "qwen", "qwen3")
    for method in ("lora", "full"):
        run = tmp_path / method
        code = main([
            "train", "--data.train", rows[0], "--data.validation", rows[1],
            "--model.backbone", str(tmp_path / "qwen"), "--model.max_length", "100",
            "--tuning.method", method, "--tuning.learning_rate", "0.003",
            "--train.num_train_epochs", "2", "--train.per_device_train_batch_size", "4",
            "--train.use_cpu", "true", "--train.output_dir", str(run),
        ])  # fmt: skip
        assert code == 0
        written = json.loads((run / "metrics.json").read_text())
        out = tmp_path / f"{method}.json"
        options = ["--model", str(run), "--data", rows[1], "--out", str(out), "--device", "cpu"]
        assert main(["evaluate", *options]) == 0
        found = json.loads(out.read_text())
        for name in ("accuracy", "log_loss", "brier", "kl_weights", "kl_features"):
            assert found[name] == pytest.approx(written[name], abs=1e-5)
        # What is loaded is not the backbone that training began with.
        scorer = Scorer.from_pretrained(run, device="cpu")
        first = load_backbone(str(tmp_path / "qwen"), layer=None, max_length=100, device="cpu")
        chat = [text(0, 4)]
        assert not np.allclose(scorer.backbone.encode_prompts(chat), first.encode_prompts(chat))
        assert (run / ("adapter" if method == "lora" else "backbone")).is_dir()
        with pytest.raises(InputError, match="weights changed"):
            Scorer(load_model(run), first)
    size = {m: (tmp_path / m / "checkpoint-3" / "model.safetensors").stat().st_size
            for m in ("lora", "full")}  # fmt: skip
    assert size["lora"] < size["full"]  # an adapter's checkpoint does not repeat the backbone


@pytest.mark.parametrize("method", ["lora", "full"])
def test_resumed_run_equals_the_uninterrupted_one(tables, tmp_path, method):
    tuning = TuningConfig(method, learning_rate=1e-3, dropout=0.1)
    whole = weights(*tuned(tables, tmp_path / "whole", model=VRM, tuning=tuning, max_steps=8))
    tuned(
        tables,
        tmp_path / "cut",
        model=VRM,
        tuning=tuning,
        max_steps=4,
        lr_scheduler_type="constant",
    )
    found = weights(*tuned(
        tables, tmp_path / "cut", model=VRM, tuning=tuning, max_steps=8,
        resume_from_checkpoint="true", load_best_model_at_end=True,
    ))  # fmt: skip
    assert found.keys() == whole.keys()
    assert all(torch.equal(found[name], value) for name, value in whole.items())


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
@pytest.mark.filterwarnings("ignore::DeprecationWarning:torch")  # its own, on the compiler's way
def test_a_compiled_backbone_trains_as_it_does_without(tables, tmp_path):
    torch._dynamo.utils.counters.clear()
    plain, compiled = (
        tuned(
            tables, tmp_path / str(compile),
            tuning=TuningConfig("full", learning_rate=1e-4, compile=compile),
            max_steps=2,
        )
        for compile in (False, True)
    )  # fmt: skip
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0
    assert losses(compiled[0]) == pytest.approx(losses(plain[0]), rel=1e-4)
    # Nothing of the compilation is in what is saved.
    names = [run[1].backbone.model.state_dict().keys() for run in (compiled, plain)]
    assert names[0] == names[1]


def test_a_scalar_reward_model_gives_its_backbone(tmp_path):
    """Its head is left behind, the rest is what it was."""
    torch.manual_seed(1)
    inner = tiny_model("llama")
    reward_model = LlamaForSequenceClassification(inner.config)
    reward_model.model.load_state_dict(inner.state_dict())
    reward_model.save_pretrained(tmp_path)
    tiny_tokenizer("llama-chat").save_pretrained(tmp_path)
    settings = {"layer": None, "max_length": 100, "dtype": "float32", "device": "cpu"}
    backbone = load_backbone(str(tmp_path), **settings)
    Tuner(TuningConfig("lora"), backbone)
    found = backbone.module_under_adapters.state_dict()
    found = {name.replace(".base_layer", ""): value for name, value in found.items()}
    assert all(torch.equal(found[name], value) for name, value in inner.state_dict().items())


def test_a_single_process_says_that_it_does_not_shard(tmp_path, caplog):
    tuner = Tuner(TuningConfig("full", shard=True), tiny_backbone("qwen3"))
    tuner.place(arguments(tmp_path))
    assert "a single process trains: weights stay whole" in caplog.text
    assert not sharded_names(tuner.backbone.model)


def test_shards_are_not_trained_in_float16(tmp_path, monkeypatch):
    tuner = Tuner(TuningConfig("full", shard=True), tiny_backbone("qwen3"))
    made = arguments(tmp_path)
    made.fp16 = True
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="tuning.shard and train.fp16"):
        tuner.place(made)
