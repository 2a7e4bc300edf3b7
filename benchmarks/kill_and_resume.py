"""Compare an uninterrupted run with runs that are killed at a random time and resumed.

``vrm-pyro train`` on simulated texts with the frozen default backbone is killed (SIGKILL) once and
started again with ``--train.resume_from_checkpoint true``. The final weights must equal those of
the uninterrupted run byte by byte, and all metrics must be equal.

``steps``: training on stored states, killed after a random step.
``times``: training on rows, killed at a random time of the whole run: start-up, extraction of
states (most of the time) or training.

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

KINDS = ("steps", "times")
VERB = [sys.executable, "-m", "vrm_pyro.cli"]


def command(folder: Path, kind: str, run: str, epochs: int, resume: bool = False) -> list[str]:
    """Return the command line of a run."""
    more = ["--train.resume_from_checkpoint", "true"] if resume else []
    suffix = ".jsonl" if kind == "times" else ""
    return [
        *VERB, "train", "--config", "ratings", "--data.train", str(folder / f"data/train{suffix}"),
        "--data.validation", str(folder / f"data/validation{suffix}"), "--train.use_cpu", "true",
        "--train.num_train_epochs", str(epochs), "--train.early_stopping_patience", "0",
        "--train.per_device_train_batch_size", "16",
        "--train.output_dir", str(folder / run), *more,
    ]  # fmt: skip


def outcome(run: Path) -> tuple[bytes, dict[str, Any]]:
    """Return the weights and metrics of a finished run, without its times."""
    metrics = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    metrics["training"].pop("seconds")
    return (run / "model.safetensors").read_bytes(), metrics


def kill_after_step(process: subprocess.Popen[bytes], run: Path, step: int, wait: float) -> bool:
    """Kill a run just after the checkpoint of a step appears; return whether it still ran."""
    sign = run / f"checkpoint-{step}" if step else run / "config.yaml"
    while not sign.exists():
        if process.poll() is not None:
            return False
        time.sleep(0.005)
    return kill_after(process, wait)


def kill_after(process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Kill a run after some seconds; return whether it still ran."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
    return process.returncode == -signal.SIGKILL


def trials(folder: Path, kind: str, options: argparse.Namespace) -> dict[str, Any]:
    """Kill and resume runs of a kind; return the comparisons."""
    generator = np.random.default_rng(options.seed)
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    whole, found = f"{kind}-whole", []
    start = time.perf_counter()
    subprocess.run(command(folder, kind, whole, options.epochs), check=True, capture_output=True)
    seconds = time.perf_counter() - start
    training = outcome(folder / whole)[1]["training"]
    an_epoch = training["steps"] // options.epochs
    for number in tqdm(range(options.trials), desc=kind):
        name = f"{kind}-{number}"
        with subprocess.Popen(command(folder, kind, name, options.epochs), **quiet) as process:
            if kind == "steps":
                step = an_epoch * int(generator.integers(options.epochs))
                wait = float(generator.uniform(0, options.epoch_seconds))
                killed = kill_after_step(process, folder / name, step, wait)
            else:
                killed = kill_after(process, float(generator.uniform(0, seconds)))
        if not killed and process.returncode:
            raise SystemExit(f"{name} failed by itself, with exit code {process.returncode}.")
        steps = [int(p.name.split("-")[1]) for p in (folder / name).glob("checkpoint-*")]
        began = (folder / name / "config.yaml").is_file()
        if killed:  # a run killed before it created its folder starts again from scratch
            again = command(folder, kind, name, options.epochs, resume=began)
            subprocess.run(again, check=True, **quiet)
        equal = outcome(folder / name) == outcome(folder / whole)
        found.append(
            {
                "killed": killed,
                "had_its_folder": began,
                "last_checkpoint": max(steps, default=0),
                "equal": equal,
            }
        )
    return {
        "whole_run_s": round(seconds, 1),
        "steps": training["steps"],
        "equal": sum(one["equal"] for one in found),
        "trials": found,
    }


def main() -> None:
    """Run all trials."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--trials", type=int, default=10, help="of each kind")
    parser.add_argument("--pairs", type=int, default=400)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument(
        "--epoch_seconds", type=float, default=0.5, help="longest wait after a checkpoint"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of the moments")
    parser.add_argument("--out", default=None, help="JSON file for the result")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        simulate = [*VERB, "simulate", "--out", str(folder / "data"), "--pairs", str(args.pairs)]
        subprocess.run(simulate, check=True, stdout=subprocess.DEVNULL)
        for split in ("train", "validation") if "steps" in args.kinds else ():
            rows, out = folder / f"data/{split}.jsonl", folder / f"data/{split}"
            read = [*VERB, "features", "--data", str(rows), "--out", str(out), "--device", "cpu"]
            subprocess.run(read, check=True, capture_output=True)
        emit({kind: trials(folder, kind, args) for kind in args.kinds}, args.out)


if __name__ == "__main__":
    main()
