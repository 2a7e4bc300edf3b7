"""Training a tiny random backbone together with the heads."""

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
from transformers import LlamaForSequenceClassification, TrainerCallback

from vrm_pyro.backbone import load_backbone
from vrm_pyro.backbone.sharding import find_blocks, sharded_names
from vrm_pyro.cli import main
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import Tuner, TuningConfig, read_texts
from vrm_pyro.training.train import train
from vrm_pyro.training.trainer import LIKELIHOOD_STEP

# Without dropout, so that what should be equal is.
PLAIN = ModelConfig(
    architecture="bradley_terry", head_size=8, head_dropout=0.0, max_length=100, dtype="float32"
)
VRM = ModelConfig(
    num_objectives=3, latent_dim=3, max_length=100, dtype="float32",
    weight_prior=ConditionalDirichletPrior(hidden_size=8),
    feature_prior=ConditionalNormalPrior(hidden_size=8),
)  # fmt: skip


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    return tuple(
        load_table(write_rows(folder / f"{name}.jsonl", size, seed, ratings=True))
        for name, size, seed in (("train", 16, 0), ("validation", 6, 90_000))
    )


def arguments(folder, **settings):
    values = {
        "output_dir": str(folder),
        "num_train_epochs": 2,
        "per_device_train_batch_size": 4,
        "logging_steps": 1,
        "max_grad_norm": 1e9,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainArguments(**(values | settings))


def tuned(tables, folder, kind="qwen3", model=PLAIN, tuning=None, callbacks=None, **settings):
    """Train; return the result and the tuner."""
    backbone = tiny_backbone(kind, max_length=100)
    tuner = Tuner(tuning or TuningConfig("full", learning_rate=1e-3), backbone)
    sources = [read_texts(table, backbone) for table in tables]
    if not settings.pop("rated", False):
        model = replace(model, supervision="none")
    result = train(
        model, arguments(folder, **settings), *sources, callbacks=callbacks, tuner=tuner
    )
    return result, tuner


def weights(result, tuner):
    """All that was trained, by name."""
    state = dict(tuner.backbone.model.state_dict())
    return state | {f"heads.{k}": v for k, v in result.loaded.model.state_dict().items()}


def losses(result):
    return [entry["loss"] for entry in result.log_history if "loss" in entry]


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


def test_shared_prompts_give_the_same_training(tables, tmp_path):
    runs = [
        tuned(
            tables, tmp_path / str(share),
            tuning=TuningConfig("full", learning_rate=1e-4, share_prompts=share),
            max_steps=4,
        )
        for share in (True, False)
    ]  # fmt: skip
    assert losses(runs[0][0]) == pytest.approx(losses(runs[1][0]), rel=1e-4)
    assert runs[0][0].metrics["eval_log_loss"] == pytest.approx(
        runs[1][0].metrics["eval_log_loss"], rel=1e-4
    )


class Gradients(TrainerCallback):
    """Keeps the gradient of every parameter at the first step, before clipping and stepping."""

    def __init__(self):
        self.found = None

    def on_pre_optimizer_step(self, args, state, control, model=None, **kwargs):
        if self.found is None:
            self.found = {
                name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None
            }


@pytest.mark.parametrize("sizes", [(4, 4), (6, 3)])
def test_accumulated_batches_equal_the_large_one(tables, tmp_path, sizes):
    """Also where the last batch of a step is smaller than the others (16 = 6 + 6 + 4)."""
    size, accumulated = sizes
    found = []
    for name, batch, steps in (("large", 16, 1), ("small", size, accumulated)):
        kept = Gradients()
        tuned(
            tables, tmp_path / name, callbacks=[kept], max_steps=1,
            per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
        )  # fmt: skip
        found.append(kept.found)
    assert found[0].keys() == found[1].keys()
    for name, large in found[0].items():
        torch.testing.assert_close(found[1][name], large, rtol=1e-3, atol=1e-6)


def test_gradient_checkpointing_changes_nothing(tables, tmp_path):
    found = []
    for on in (False, True):
        kept = Gradients()
        tuned(
            tables, tmp_path / str(on), callbacks=[kept], max_steps=1, activation_checkpointing=on
        )
        found.append(kept.found)
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=1e-4, atol=1e-7)


def test_heads_stay_in_float32_where_the_backbone_computes_in_bfloat16(tables, tmp_path):
    seen = set()

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.update(p.dtype for p in model.parameters())

    kept = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: kept.append((type(module).__name__, output))
    )
    try:
        result, _ = tuned(tables, tmp_path, model=VRM, bf16=True, max_steps=1, callbacks=[Look()])
    finally:
        handle.remove()
    assert seen == {torch.float32}
    half = {name for name, out in kept if getattr(out, "dtype", None) == torch.bfloat16}
    assert "Linear" in half  # those of the backbone
    priors = [out for name, out in kept if isinstance(out, torch.distributions.Distribution)]
    assert priors
    assert all(p.mean.dtype == torch.float32 for p in priors)
    assert np.isfinite(losses(result)).all()


def test_a_frozen_start_trains_the_heads_alone(tables, tmp_path):
    kept = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            kept.append({n: p.detach().clone() for n, p in model.named_parameters()})

    tuned(
        tables, tmp_path, tuning=TuningConfig("full", learning_rate=1e-3, frozen_fraction=0.5),
        max_steps=4, callbacks=[Look()], weight_decay=0.0,
    )  # fmt: skip
    names = [name for name in kept[0] if name.startswith("backbone.")]
    first = {f"backbone.{k}": v for k, v in tiny_model("qwen3").named_parameters()}
    assert all(torch.equal(kept[1][name], first[name]) for name in names)
    assert any(not torch.equal(kept[2][name], first[name]) for name in names)
    heads = [name for name in kept[0] if name.startswith("heads.")]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in heads)


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


def test_token_budget_bounds_every_batch(tables, tmp_path):
    sizes = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            sizes.append(state.global_step)

    budget = 300
    result, tuner = tuned(
        tables, tmp_path, tuning=TuningConfig("full", max_batch_tokens=budget), callbacks=[Look()],
        num_train_epochs=1,
    )  # fmt: skip
    data = tuner.dataset(read_texts(tables[0], tuner.backbone), 0.0, 1.0, np.arange(16))
    batches = tuner.batches(data, arguments(tmp_path))
    assert len(sizes) == len(batches.batches)
    assert sorted(i for batch in batches.batches for i in batch) == list(range(16))
    for batch in batches.batches:
        ids = data.collate(data.items[batch])["input_ids"]
        assert ids.numel() <= budget or len(batch) == 1


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
        first = load_backbone(str(tmp_path / "qwen"), max_length=100, device="cpu")
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
    backbone = load_backbone(str(tmp_path), max_length=100, dtype="float32", device="cpu")
    Tuner(TuningConfig("lora"), backbone)
    found = backbone.module_under_adapters.state_dict()
    found = {name.replace(".base_layer", ""): value for name, value in found.items()}
    assert all(torch.equal(found[name], value) for name, value in inner.state_dict().items())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"rank": 0}, ("tuning.rank is 0", "at least 1")),
        ({"learning_rate": -1.0}, ("tuning.learning_rate is -1.0", "positive")),
        ({"frozen_fraction": 1.0}, ("tuning.frozen_fraction is 1.0", "[0, 1)")),
        ({"dropout": 1.5}, ("tuning.dropout is 1.5",)),
        ({"alpha": 0}, ("tuning.alpha is 0",)),
        ({"max_batch_tokens": -1}, ("tuning.max_batch_tokens is -1",)),
        ({"shard": True, "compile": True}, ("tuning.shard and tuning.compile",)),
        ({"shard": True, "method": "frozen"}, ("tuning.shard is true", "method is frozen")),
        ({"target_modules": " "}, ("tuning.target_modules", "all-linear")),
        ({"target_modules": "nothing_like_it"}, ("tuning.target_modules", "all-linear")),
    ],
)
def test_wrong_settings(settings, words):
    with pytest.raises(InputError) as error:
        Tuner(TuningConfig(**({"method": "lora"} | settings)), tiny_backbone("qwen3"))
    assert all(word in str(error.value) for word in words)


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


class TestFindBlocks:
    def test_layers_and_embeddings(self):
        backbone = tiny_backbone("llama-chat")
        model = backbone.model
        blocks = find_blocks(model, backbone.module_under_adapters)
        assert blocks == [*model.layers, model.embed_tokens]

    def test_no_block_inside_another(self):
        model = tiny_backbone("llama-chat").model
        model._no_split_modules = {"LlamaDecoderLayer", "LlamaAttention"}
        assert find_blocks(model, model) == [*model.layers, model.embed_tokens]

    def test_layers_that_are_not_known_or_skipped(self):
        model = tiny_backbone("llama-chat").model
        model._no_split_modules = []
        with pytest.raises(InputError, match="LlamaModel does not say what its layers are"):
            find_blocks(model, model)
        model._no_split_modules = ["LlamaDecoderLayer"]
        model.config.layerdrop = 0.1
        with pytest.raises(InputError, match="skips layers at random"):
            find_blocks(model, model)


def test_the_heads_are_not_compiled(tmp_path, capsys):
    rows = write_rows(tmp_path / "t.jsonl", 4, 0)
    assert main(["train", "--data.train", rows, "--train.torch_compile", "true"]) == 2
    assert "tuning.compile" in capsys.readouterr().err
