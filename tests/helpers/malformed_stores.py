"""Stores and backbones that are not usable, and what the message about them must say.

``STORES`` and ``BACKBONES`` are lists of ``(name, build, fragments)``: ``build(folder)`` writes
the input and returns the path that the user would name; every fragment stands in the message.
"""

import atexit
import json
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from helpers.tiny_backbones import save_tiny_backbone, text, tiny_backbone, tiny_tokenizer
from safetensors.torch import load_file, save_file
from transformers import T5Config

from vrm_pyro.data.rows import PreferenceTable, load_table
from vrm_pyro.features.writing import write_store

Case = tuple[str, Callable[[Path], str], tuple[str, ...]]


def small_table(prompts: int = 5, seed: int = 0) -> PreferenceTable:
    """Return a table with two rated pairs a prompt over three responses."""
    rows = []
    for i in range(prompts):
        a, b, c = (text(seed + 1000 * i + k, 3 + 4 * k + i % 5) for k in range(3))
        prompt, rated = text(seed + 1000 * i + 9, 4 + i % 3), {"clear": 1.0, "safe": None}
        shared = {"prompt": prompt, "id": f"row-{i}", "subset": f"kind {i % 2}"}
        rows.append({**shared, "chosen": a, "rejected": b, "chosen_ratings": rated})
        rows.append({**shared, "chosen": b, "rejected": c, "preference": 0.75, "weight": 2.0})
    return load_table(rows, objectives=["clear", "safe"])


def small_store(folder: Path) -> Path:
    """Put a finished store with several shards of each kind there."""
    # Written once: every file of a store is flushed to disk, which takes its time.
    shutil.copytree(_written_store(), folder)
    return folder


@cache
def _written_store() -> Path:
    place = Path(tempfile.mkdtemp(prefix="vrm_pyro_store_"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    write_store(small_table(), tiny_backbone(), place / "s", progress=False, shard_rows=4)
    return place / "s"


def _cut(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def _meta(folder: Path, **changes: Any) -> None:
    path = folder / "store.json"
    meta = {**json.loads(path.read_text(encoding="utf-8")), **changes}
    path.write_text(json.dumps({k: v for k, v in meta.items() if v is not None}))


def _store(damage: Callable[[Path], object]) -> Callable[[Path], str]:
    def build(folder: Path) -> str:
        store = small_store(folder / "store")
        damage(store)
        return str(store)

    return build


def _no_store(folder: Path) -> str:
    (folder / "empty").mkdir()
    return str(folder / "empty")


STORES: list[Case] = [
    ("no folder", lambda folder: str(folder / "nowhere"), ("nowhere", "no feature store")),
    ("not a store", _no_store, ("empty", "no feature store", "vrm-pyro features")),
    (
        "description is no JSON",
        _store(lambda s: _cut(s / "store.json", 100)),
        ("store.json", "not valid JSON"),
    ),
    (
        "description of something else",
        _store(lambda s: _meta(s, format="a run")),
        ("store.json", "does not describe"),
    ),
    (
        "later version",
        _store(lambda s: _meta(s, version=99)),
        ("store.json", "format version 99"),
    ),
    (
        "description lacks a field",
        _store(lambda s: _meta(s, hidden_size=None)),
        ("store.json", "'hidden_size' is missing"),
    ),
    (
        "unfinished",
        _store(lambda s: (_meta(s, complete=False), (s / "responses-00002.npy").unlink())),
        ("not finished", "5 of 6 shards", "resumes where it stopped"),
    ),
    (
        "cut shard",
        _store(lambda s: _cut(s / "responses-00001.npy", 300)),
        ("responses-00001.npy", "has 300 bytes, not 640", "same settings"),
    ),
    (
        "shard cut inside its header",
        _store(lambda s: _cut(s / "prompts-00000.npy", 40)),
        ("prompts-00000.npy", "is no .npy file"),
    ),
    (
        "missing shard",
        _store(lambda s: (s / "prompts-00001.npy").unlink()),
        ("prompts-00001.npy", "is missing"),
    ),
    (
        "shard of another width",
        _store(lambda s: np.save(s / "prompts-00001.npy", np.zeros((1, 8), np.float32))),
        ("prompts-00001.npy", "holds float32 (1, 8), not float32 (1, 32)"),
    ),
    (
        "cut array",
        _store(lambda s: _cut(s / "pair_first.npy", 150)),
        ("pair_first.npy", "has 150 bytes"),
    ),
    (
        "cut texts",
        _store(lambda s: _cut(s / "responses.jsonl", 10)),
        ("responses.jsonl", "has 10 bytes"),
    ),
]


def _backbone(damage: Callable[[Path], object]) -> Callable[[Path], str]:
    def build(folder: Path) -> str:
        model = save_tiny_backbone(folder / "model")
        damage(model)
        return str(model)

    return build


def _without_layer(folder: Path) -> None:
    path = folder / "model.safetensors"
    kept = {k: v for k, v in load_file(path).items() if "layer.1" not in k}
    save_file(kept, path, metadata={"format": "pt"})


def _configured(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def _without_tokenizer(folder: Path) -> None:
    for file in folder.glob("tokenizer*"):
        file.unlink()


def _encoder_decoder(folder: Path) -> str:
    T5Config(vocab_size=300, d_model=32).save_pretrained(folder / "model")
    return str(folder / "model")


BACKBONES: list[Case] = [
    ("no folder", lambda folder: str(folder / "nowhere"), ("nowhere", "no such folder")),
    ("no config", _backbone(lambda m: (m / "config.json").unlink()), ("has no config.json",)),
    (
        "cut weights",
        _backbone(lambda m: _cut(m / "model.safetensors", 5000)),
        ("cannot be loaded from",),
    ),
    ("no tokenizer", _backbone(_without_tokenizer), ("tokenizer has no vocabulary",)),
    (
        "unknown type",
        _backbone(lambda m: _configured(m, model_type="nonesuch")),
        ("cannot be loaded from", "nonesuch"),
    ),
    (
        "weights lack a layer",
        _backbone(_without_layer),
        ("lack 16 of the model's tensors", "encoder.layer.1"),
    ),
    (
        "foreign tokenizer",
        _backbone(lambda m: tiny_tokenizer("roberta").save_pretrained(m)),
        ("has 400 tokens", "embeddings for 300"),
    ),
    (
        "setting of another type",
        _backbone(lambda m: _configured(m, hidden_size="wide")),
        ("cannot be loaded from", "hidden_size"),
    ),
    ("encoder and decoder", _encoder_decoder, ("has an encoder and a decoder",)),
]
