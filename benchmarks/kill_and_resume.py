"""Runs killed at a random moment and resumed, against one that was left alone.

``vrm-pyro train`` on simulated texts with the frozen default backbone is killed (SIGKILL) once,
after a time drawn at random from the whole length of the run, start and extraction of states
included, and started again with ``--train.resume_from_checkpoint true``. Weights and metrics of
the end are compared byte by byte and number by number with the run that nobody killed.

    python benchmarks/kill_and_resume.py --trials 10 --out kill_and_resume.json
"""

import argparse
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from emit import emit
from tqdm import tqdm

VERB = [sys.executable, "-m", "vrm_pyro.cli"]


def command(folder: Path, run: str, epochs: int, resume: bool = False) -> list[str]:
    """Return the command line of a run."""
    more = ["--train.resume_from_checkpoint", "true"] if resume else []
    return [
        *VERB, "train", "--config", "ratings", "--data.train", str(folder / "data/train.jsonl"),
        "--data.validation", str(folder / "data/validation.jsonl"), "--train.use_cpu", "true",
        "--train.num_train_epochs", str(epochs), "--train.early_stopping_patience", "0",
        "--train.per_device_train_batch_size", "16",
        "--train.output_dir", str(folder / run), *more,
    ]  # fmt: skip


def outcome(run: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the weights and metrics of a finished run, without the clock."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics["training"].pop("seconds")
    return (run / "model.safetensors").read_bytes(), metrics


def trial(folder: Path, number: int, after: float, epochs: int) -> dict[str, Any]:
    """Kill a run after so many seconds, resume it, and say where it was."""
    name = f"killed{number}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command(folder, name, epochs), **quiet) as process:
        try:
            process.wait(after)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
    killed = process.returncode == -signal.SIGKILL
    if not killed and process.returncode:
        raise SystemExit(f"{name} failed by itself, with exit code {process.returncode}.")
    steps = [int(p.name.split("-")[1]) for p in (folder / name).glob("checkpoint-*")]
    began = (folder / name / "config.yaml").is_file()
    if killed:  # what was killed before it took its folder is simply started again
        subprocess.run(command(folder, name, epochs, resume=began), check=True, **quiet)
    return {
        "killed_after_s": round(after, 1),
        "killed": killed,
        "had_its_folder": began,
        "last_checkpoint": max(steps, default=0),
        "equal": outcome(folder / name) == outcome(folder / "whole"),
    }


def main() -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--out", default=None, help="JSON file for the result")
    args = parser.parse_args()
    generator = np.random.default_rng(args.seed)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate = [*VERB, "simulate", "--out", str(folder / "data"), "--pairs", str(args.pairs)]
        subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
        start = time.perf_counter()
        subprocess.run(command(folder, "whole", args.epochs), check=True, capture_output=True)
        seconds = time.perf_counter() - start
        trials = [
            trial(folder, i, float(generator.uniform(0, seconds)), args.epochs)
            for i in tqdm(range(args.trials), desc="trials")
        ]
    equal = sum(found["equal"] for found in trials)
    emit({"whole_run_s": round(seconds, 1), "equal": equal, "trials": trials}, args.out)


if __name__ == "__main__":
    main()
