"""Measure over-optimisation: gold reward of the best of n by proxies of few and noisy labels.

Texts are simulated, so that the gold reward of every candidate is known. Proxies are trained on
few labels, some of them flipped; so are the validation labels that stop training. Candidates are
fresh prompts with many responses each, and k of the lower bound is chosen on others. Targets, for
each model with a spread, at every n:

1. the lower bound is not below the mean, nor below Bradley-Terry (upper ends of the 90% intervals
   of the paired differences over prompts, pooled over seeds, are not below 0);
2. from n = 64 on the lower bound does not fall where Bradley-Terry does;
3. abstaining on the least sure 30% raises the gain of the rest (lower end above 0).

    python benchmarks/best_of_n.py --work runs/best_of_n --out out.json
"""

import argparse
import os
from pathlib import Path
from time import perf_counter

import numpy as np
from emit import write_result

import vrm_pyro
from vrm_pyro.diagnostics.best_of_n import BestOfN
from vrm_pyro.prediction.scorer import Scorer

BASELINES = {
    "bradley_terry": ("bradley_terry", {}),
    "bt_ensemble": ("bradley_terry", {"model.ensemble_size": 5}),
}
MODELS = {
    "vrm": ("default", {}),
    "vrm_bayesian": ("bayesian_head", {}),
    "vrm_lapse": ("label_noise", {}),
}
FALL_FROM = 64


def candidates(prompts: int, size: int, seed: int) -> list[dict]:
    """Return rows of prompts with ``size`` responses and their true rewards."""
    found = vrm_pyro.simulate_texts(prompts * size // 2, seed=seed, pairs_per_prompt=size // 2)
    truth = found.truth
    owner = truth.indexes["prompt"].get_indexer(truth["response_prompt"])
    rewards = truth["r"].values
    rows = []
    for i, prompt in enumerate(found.prompts):
        held = np.flatnonzero(owner == i)
        rows.append(
            {
                "prompt": prompt,
                "responses": [found.responses[j] for j in held],
                "ratings": [{"gold": float(rewards[j])} for j in held],
            }
        )
    return rows


def labelled(labels: int, flip: float, seed: int) -> tuple[list[dict], list[dict]]:
    """Return training and validation rows without ratings."""
    found = vrm_pyro.simulate_texts(
        round(labels / 0.8),
        seed=seed,
        pairs_per_prompt=4,
        shared_responses=4,
        label_noise=flip,
        rating_missing=1.0,
    )
    return found.rows("train"), found.rows("validation")


def judged(found: BestOfN, baseline: str) -> dict:
    """Return whether the targets hold in one seed; see the head of this file."""
    rules = found["rules"]
    last = found["max_n"] - 1
    gaps = {(d["rule"], d["against"]): d for d in found["differences"]}
    least = {
        other: float(np.min(gaps["lower_bound", other]["upper"])) for other in ("mean", baseline)
    }
    change = {
        rule: rules[rule]["mean"][last] - rules[rule]["mean"][min(FALL_FROM, last + 1) - 1]
        for rule in ("lower_bound", "mean", baseline)
    }
    return {"least_upper": least, "change_from_64": change}


def main() -> None:
    """Train the proxies with every seed, measure them and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/best_of_n")
    parser.add_argument("--out", default=None)
    parser.add_argument("--labels", type=int, default=500)
    parser.add_argument("--flip", type=float, default=0.25)
    parser.add_argument("--prompts", type=int, default=48)
    parser.add_argument("--candidates", type=int, default=256)
    parser.add_argument("--validation", type=int, nargs=2, default=(64, 64))
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    work = Path(args.work)
    os.environ.setdefault("VRM_PYRO_CACHE", str(work / "cache"))
    test = candidates(args.prompts, args.candidates, seed=1000)
    held = candidates(*args.validation, seed=2000)
    report: dict = {"settings": vars(args), "seeds": {}}
    for seed in range(args.seeds):
        train, validation = labelled(args.labels, args.flip, seed)
        runs = {}
        for name, (config, settings) in (BASELINES | MODELS).items():
            folder = work / f"{name}-{seed}"
            settings = {**settings, "train.seed": seed, "train.disable_tqdm": True}
            runs[name] = (
                folder
                if (folder / "metrics.json").is_file()
                else vrm_pyro.fit(
                    train, validation, config=config, output_dir=folder, settings=settings
                )
            )
        scorers = {name: Scorer.from_pretrained(run) for name, run in runs.items()}
        for name in MODELS:
            start = perf_counter()
            found = vrm_pyro.best_of_n(
                scorers[name],
                test,
                "gold",
                against=[scorers[other] for other in BASELINES],
                validation=held,
                max_n=args.candidates,
                cache=True,
            )
            baseline = next(key for key in found["rules"] if "bradley_terry" in key)
            entry = {**found.to_dict(), **judged(found, baseline)}
            entry["seconds"] = perf_counter() - start
            report["seeds"].setdefault(name, []).append(entry)
            print(f"\n{name}, seed {seed}\n{found}", flush=True)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
