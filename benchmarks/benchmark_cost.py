"""Measure what ``vrm-pyro benchmark`` costs beside the scoring of its completions.

Pairs of a set are read as RewardBench rows. The benchmark and a plain scoring of the same texts
run by turns in one process; the ratio is of their CPU times. Target: at most 1.02.

    VRM_PYRO_DATA=... python benchmarks/benchmark_cost.py --model runs/rated --out cost.json
"""

import argparse
import gzip
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from emit import emit

import vrm_pyro
from vrm_pyro.diagnostics.suites.rewardbench import COUNTS


def rewardbench_rows(path: Path, number: int) -> list[dict]:
    """Return the first pairs of a file as RewardBench rows, subsets in turn."""
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line, _ in zip(file, range(number), strict=False)]
    names = [name for held in COUNTS.values() for name in held]
    return [
        {
            "id": i,
            "subset": names[i % len(names)],
            **{key: row[key] for key in ("prompt", "chosen", "rejected")},
        }
        for i, row in enumerate(rows)
    ]


def main() -> None:
    """Time both by turns and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", required=True)
    parser.add_argument("--set", default="rmb")
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    path = Path(os.environ["VRM_PYRO_DATA"]) / args.set / "train.jsonl.gz"
    rows = [r for r in rewardbench_rows(path, args.pairs) if isinstance(r["prompt"], str)]
    scorer = vrm_pyro.Scorer.from_pretrained(args.model)
    prompts = [row["prompt"] for row in rows for _ in range(2)]
    responses = [row[key] for row in rows for key in ("chosen", "rejected")]
    times = []
    for _ in range(args.repeats + 1):  # the first is warm-up
        marks = [time.process_time()]
        vrm_pyro.benchmark("rewardbench", scorer, rows, cache=False)
        marks.append(time.process_time())
        scorer(prompts, responses)
        marks.append(time.process_time())
        times.append(np.diff(marks))
    benchmark, score = np.array(times[1:]).T
    ratios = benchmark / score
    emit(
        {
            "pairs": len(rows),
            "benchmark_s": float(np.median(benchmark)),
            "score_s": float(np.median(score)),
            "ratio": float(np.median(ratios)),
            "ratios": ratios.tolist(),
        },
        args.out,
    )


if __name__ == "__main__":
    main()
