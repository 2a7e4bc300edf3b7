"""Measure the memory of two processes that train a decoder, with full weights and with shards.

A random Llama with about 150M parameters is fully trained in float32 with AdamW on CPUs over gloo.
Reported are the memory of a process between steps (resident set after the last step, minus that
of a process that has imported everything), seconds per step, and whether losses agree.

    python benchmarks/sharded_memory.py --out sharded_memory.json
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from decoder_throughput import SKIPPED_STEPS, StepTimes, new_backbone, write_pairs
from emit import emit, spread

from vrm_pyro.data.rows import load_table
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.processes import from_all, is_main, part
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import Tuner, TuningConfig, read_texts
from vrm_pyro.training.train import train

SIDES = {"whole": False, "shards": True}
SHAPE = {
    "hidden_size": 1024, "intermediate_size": 2816,
    "num_hidden_layers": 11, "num_attention_heads": 16,
}  # fmt: skip
TOKENS = (32, 32)
PROMPTS = 2


class Watch(StepTimes):
    """Record time and memory at the end of each step."""

    resident = 0

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note both."""
        super().on_step_end(args, state, control, **kwargs)
        self.resident = psutil.Process().memory_info().rss


def work(shard: bool, steps: int, seed: int) -> dict[str, Any]:
    """Train as one of the processes; return its measurements."""
    before = psutil.Process().memory_info().rss
    watch = Watch()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        arguments = TrainArguments(
            output_dir=str(folder / "run"),
            max_steps=steps,
            per_device_train_batch_size=PROMPTS,
            use_cpu=True,
            disable_tqdm=True,
            save_strategy="no",
            eval_strategy="no",
            logging_steps=1,
            load_best_model_at_end=False,
            early_stopping_patience=0,
        )
        assert arguments.device is not None  # reading the device starts the process group
        backbone = new_backbone(**SHAPE)
        tuner = Tuner(TuningConfig("full", shard=shard), backbone)
        count = sum(value.numel() for value in backbone.model.parameters())
        tables = [
            load_table(write_pairs(folder / f"{kind}.jsonl", pairs, TOKENS, seed + extra))
            for kind, pairs, extra in (("train", 2 * PROMPTS * steps, 0), ("few", 2, 1))
        ]
        result = train(
            ModelConfig(architecture="bradley_terry", head_dropout=0.0), arguments,
            *(read_texts(table, backbone) for table in tables), callbacks=[watch], tuner=tuner,
        )  # fmt: skip
    return {
        "parameters": count,
        "resident_mib": (watch.resident - before) / 2**20,
        "seconds_a_step": float(np.median(np.diff(watch.ends)[SKIPPED_STEPS - 1 :])),
        "losses": [entry["loss"] for entry in result.log_history if "loss" in entry],
    }


def launch(side: str, steps: int, seed: int) -> list[dict[str, Any]]:
    """Start two processes; return the measurements of each."""
    with tempfile.TemporaryDirectory() as name:
        out = Path(name) / "found.json"
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2",
            __file__, "--worker", side, "--steps", str(steps), "--seed", str(seed),
            "--out", str(out),
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        found: list[dict[str, Any]] = json.loads(out.read_text())
        return found


def main() -> None:
    """Run both sides, alternating, or run one process of a side."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=2)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--worker", choices=SIDES, help=argparse.SUPPRESS)
    parser.add_argument("--out", default=None, help="JSON file for the result")
    args = parser.parse_args()
    if args.worker:
        found = from_all(work(SIDES[args.worker], args.steps, args.seed))
        if is_main():
            Path(args.out).write_text(json.dumps(found))
        part()
        return
    runs: dict[str, list[list[dict[str, Any]]]] = {side: [] for side in SIDES}
    for turn in range(args.turns):
        for side in list(SIDES)[:: 1 if turn % 2 == 0 else -1]:
            runs[side].append(launch(side, args.steps, turn))
    held = {
        side: {
            "resident_mib_a_process": spread([r["resident_mib"] for t in turns for r in t]),
            "seconds_a_step": spread([r["seconds_a_step"] for t in turns for r in t]),
        }
        for side, turns in runs.items()
    }
    pairs = list(zip(runs["shards"], runs["whole"], strict=True))
    differences = [
        abs(a - b) / abs(b)
        for shards, whole in pairs
        for a, b in zip(shards[0]["losses"], whole[0]["losses"], strict=True)
    ]
    result = {
        "parameters": runs["whole"][0][0]["parameters"],
        **held,
        "shards / whole": {
            name: spread([s[0][name] / w[0][name] for s, w in pairs])
            for name in ("resident_mib", "seconds_a_step")
        },
        "largest_relative_difference_of_losses": max(differences),
    }
    emit(result, args.out)


if __name__ == "__main__":
    main()
