"""A run whose chat template writes the date keeps that of its first day, also when resumed."""

import json
import shutil
from functools import partial

import pytest
import yaml
from helpers.clock import set_day
from helpers.tiny_backbones import CHAT_TEMPLATE, llama_tokenizer, save_tiny_backbone
from helpers.workspace import rows, succeed, vrm_pyro, write_rows


@pytest.fixture
def on(monkeypatch):
    return partial(set_day, monkeypatch)


LORA = ("--tuning.method", "lora", "--tuning.rank", 2)


@pytest.mark.parametrize("tuning", [(), pytest.param(LORA, marks=pytest.mark.slow)])
def test_a_run_resumed_after_midnight_keeps_its_date(on, tuning, tmp_path):
    save_tiny_backbone(tmp_path / "llama", "llama-chat")
    tokenizer = llama_tokenizer(chat=True)
    tokenizer.chat_template = "{{ strftime_now('%d %B %Y') }}" + CHAT_TEMPLATE
    tokenizer.save_pretrained(tmp_path / "llama")
    data = write_rows(tmp_path / "rows.jsonl", rows(6, ratings=False))
    run = ("train", "--model.backbone", tmp_path / "llama", "--model.max_length", 60,
           "--model.dtype", "float32", "--data.train", data, "--data.validation", data,
           "--train.num_train_epochs", 2, "--train.use_cpu", "true", *tuning,
           "--train.output_dir")  # fmt: skip
    kept = {"warnings_are": "ignore"}
    on("2026-11-30")
    succeed(*run, tmp_path / "whole", **kept)
    # As if it had been stopped in the middle.
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    (tmp_path / "cut" / "config.json").unlink()
    last = max((tmp_path / "cut").glob("checkpoint-*"), key=lambda p: int(p.name.split("-")[1]))
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    on("2026-12-01")
    resumed = vrm_pyro(
        "train", "--train.output_dir", tmp_path / "cut", "--train.resume_from_checkpoint", "true",
        "--train.use_cpu", "true", **kept,
    )  # fmt: skip
    assert resumed.code == 0, resumed.err
    held, metrics = {}, {}
    for name in ("whole", "cut"):
        folder = tmp_path / name
        settings = yaml.safe_load((folder / "config.yaml").read_text())
        facts = json.loads((folder / "config.json").read_text())["backbone"]
        held[name] = settings["data"]["date"], facts["date"]
        metrics[name] = json.loads((folder / "metrics.json").read_text())["log_loss"]
    assert held["whole"] == held["cut"] == ("2026-11-30", "2026-11-30")
    assert metrics["cut"] == pytest.approx(metrics["whole"], abs=1e-6)
