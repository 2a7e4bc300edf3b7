"""Measure the memory of head training with 10,000 and 300,000 pairs on memory-mapped states.

Stores of random states are written to a temporary folder and removed afterwards. Each size is
trained for the same number of steps with ``vrm_pyro.training.train.train`` in a new process. The
process records its anonymous memory (RssAnon: pages not backed by a file) every few milliseconds;
mapped states do not count. Sizes alternate over the seeds. A few steps are enough: memory that
grows with the number of rows is allocated at the start.

    python benchmarks/head_memory.py --out head_memory.json

Linux only (it reads /proc). Needs about 2 GB in the temporary folder.
"""

import argparse
import multiprocessing
import os
import shutil
import tempfile
import threading
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any

from emit import emit, spread
from random_store import random_store

MB = 1024**2


def main() -> None:
    """Measure and print one JSON object."""
    options = arguments()
    folder = Path(tempfile.mkdtemp(prefix="head-memory-", dir=options.folder))
    runs: list[dict[str, Any]] = []
    try:
        for size, pairs in (("small", options.pairs[0]), ("large", options.pairs[1])):
            # Write stores in new processes too, so that no memory of the writer is measured.
            run_alone(write, folder / size, pairs, options)
        run_alone(write, folder / "validation", options.validation_pairs, options)
        for seed in range(options.seeds):
            for size in ("small", "large") if seed % 2 == 0 else ("large", "small"):
                found = run_alone(train_and_watch, folder, size, seed, options)
                runs.append({"size": size, "seed": seed, **found})
    finally:
        shutil.rmtree(folder)
    runs.sort(key=lambda run: run["seed"])
    peaks = {
        size: [run["peak_mb"] for run in runs if run["size"] == size]
        for size in ("small", "large")
    }
    growth = [large / small - 1 for small, large in zip(*peaks.values(), strict=True)]
    result = {
        "pairs": options.pairs,
        "hidden_size": options.hidden_size,
        "objective": options.objective,
        "steps": options.steps,
        "peak_mb": {size: spread(values) for size, values in peaks.items()},
        "growth": spread(growth),
        "target": 0.15,
        "runs": runs,
        "machine": {
            "cpus": os.cpu_count(),
            **{name: version(name) for name in ("torch", "transformers", "numpy")},
        },
    }
    emit(result, options.out)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--pairs", nargs=2, type=int, default=[10_000, 300_000])
    parser.add_argument("--validation-pairs", type=int, default=300)
    parser.add_argument(
        "--responses-per-prompt", type=int, default=2, help="n responses give n(n-1)/2 pairs"
    )
    parser.add_argument("--hidden-size", type=int, default=384, help="length of a state")
    parser.add_argument("--objective", default="pairwise")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--folder", help="parent of the temporary folder")
    parser.add_argument("--out", help="JSON file to write")
    return parser.parse_args()


def run_alone(function: Callable[..., Any], *args: Any) -> Any:
    """Return the result of a function called in a new process."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as executor:
        return executor.submit(function, *args).result()


def write(path: Path, pairs: int, options: argparse.Namespace) -> None:
    """Write a store with at least a given number of pairs."""
    count = options.responses_per_prompt
    prompts = -(-2 * pairs // (count * (count - 1)))
    random_store(path, prompts, count, options.hidden_size, seed=0)


def train_and_watch(
    folder: Path, size: str, seed: int, options: argparse.Namespace
) -> dict[str, float]:
    """Train on a store; return the anonymous memory before, at the peak and at the end."""
    # Import here: the parent does not need these, and a child should start small.
    import torch
    from networks import network_config

    from vrm_pyro.features.store import open_store
    from vrm_pyro.training.arguments import TrainArguments
    from vrm_pyro.training.train import train

    torch.set_num_threads(1)
    config = network_config(objective=options.objective)
    arguments = TrainArguments(
        output_dir=str(folder / "run"),
        max_steps=options.steps,
        eval_strategy="no",
        save_strategy="no",
        load_best_model_at_end=False,
        use_cpu=True,
        disable_tqdm=True,
        early_stopping_patience=0,
        seed=seed,
    )
    with Watch() as watch:
        source, validation = open_store(folder / size), open_store(folder / "validation")
        start = anonymous()
        train(config, arguments, source, validation)
        end = anonymous()
    return {
        "pairs": len(source.pair_first),
        "start_mb": start / MB,
        "peak_mb": watch.peak / MB,
        "end_mb": end / MB,
    }


class Watch:
    """Record the peak anonymous memory of this process during the block."""

    def __init__(self, interval: float = 0.002) -> None:
        self.peak, self._interval = 0, interval
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._interval):
            self.peak = max(self.peak, anonymous())


def anonymous() -> int:
    """Return RssAnon of this process in bytes."""
    with open("/proc/self/status", encoding="ascii") as status:
        for line in status:
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no RssAnon; this needs Linux 4.5 or newer")


if __name__ == "__main__":
    main()
