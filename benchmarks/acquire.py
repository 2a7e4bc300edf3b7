"""Measure the labels that asking by information saves, on simulated texts.

A model starts with the labels of random pairs and gets more in rounds: those that
``vrm_pyro.acquire`` chooses, or random ones of other prompts. The labels are those of the
simulation, or with --set those of the published splits of a real set, read without its ratings.
Test log loss by number of labels; target: what random choice reaches with all labels, acquire
reaches with half of them.

    python benchmarks/acquire.py --work runs/acquire --out out.json
    VRM_PYRO_DATA=... python benchmarks/acquire.py --set cohere_feedback --start 40 --step 40
"""

import argparse
import gzip
import json
import os
from pathlib import Path

import numpy as np
from emit import emit

import vrm_pyro


def pool_of(seed: int, prompts: int, size: int) -> tuple[list[dict], list[dict], list[dict]]:
    """Return labelled comparisons of the pool, validation and test rows, without ratings."""
    found = vrm_pyro.simulate_texts(
        round(prompts / 0.8) * size,
        seed=seed,
        pairs_per_prompt=size,
        shared_responses=4,
        rating_missing=1.0,
    )
    return found.rows("train"), found.rows("validation"), found.rows("test")


def published(folder: Path) -> tuple[list[dict], ...]:
    """Return the pool, validation and test rows of a set, without ratings."""
    found = []
    for split in ("train", "validation", "test"):
        with gzip.open(folder / f"{split}.jsonl.gz", "rt", encoding="utf-8") as file:
            rows = [json.loads(line) for line in file]
        found.append(
            [{name: row[name] for name in ("prompt", "chosen", "rejected")} for row in rows]
        )
    return tuple(found)


def labels_for(loss: float, losses: np.ndarray, labels: list[int]) -> float:
    """Return the labels at which a falling curve reaches a loss, by interpolation."""
    return float(np.interp(-loss, -np.minimum.accumulate(losses), labels))


def key(row: dict) -> frozenset:
    """Return what identifies a comparison, whichever response stands first."""
    first = row.get("first", row.get("chosen"))
    second = row.get("second", row.get("rejected"))
    return frozenset((first, second))


def next_pairs(how: str, run: object, left: list[dict], number: int, rng) -> list[dict]:
    """Return the rows that are labelled next."""
    if how == "random":
        picked: dict[str, dict] = {}
        for i in rng.permutation(len(left)):
            picked.setdefault(left[i]["prompt"], left[i])
            if len(picked) == number:
                break
        return list(picked.values())
    found = vrm_pyro.acquire(run, left, 4 * number, per_prompt=2, cache=True)
    labels = {key(row): row for row in left}
    # Only pairs with a label in the simulation, one of each prompt.
    picked = {}
    for row in found.rows:
        held = labels.get(key(row))
        if held is not None:
            picked.setdefault(held["prompt"], held)
    return list(picked.values())[:number]


def main() -> None:
    """Run all rounds with every seed and print log losses."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/acquire")
    parser.add_argument("--out", default=None)
    parser.add_argument("--config", default="default")
    parser.add_argument("--set", help="folder under VRM_PYRO_DATA; simulated texts when omitted")
    parser.add_argument("--prompts", type=int, default=400)
    parser.add_argument("--start", type=int, default=60)
    parser.add_argument("--step", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    work = Path(args.work)
    os.environ.setdefault("VRM_PYRO_CACHE", str(work / "cache"))
    curves: dict = {"random": [], "acquire": []}
    for seed in range(args.seeds):
        if args.set:
            pool, validation, test = published(Path(os.environ["VRM_PYRO_DATA"]) / args.set)
        else:
            pool, validation, test = pool_of(seed, args.prompts, 6)
        for how in curves:
            rng = np.random.default_rng(seed)
            known = next_pairs("random", None, pool, args.start, rng)
            losses = []
            for turn in range(args.rounds):
                run = vrm_pyro.fit(
                    known,
                    validation,
                    config=args.config,
                    output_dir=work / f"{how}-{seed}-{turn}",
                    settings={"train.disable_tqdm": True, "train.seed": seed},
                    overwrite=True,
                )
                losses.append(vrm_pyro.evaluate(run, test).log_loss.value)
                print(how, seed, len(known), losses[-1], flush=True)
                used = {row["prompt"] for row in known}
                left = [row for row in pool if row["prompt"] not in used]
                known = known + next_pairs(how, run, left, args.step, rng)
            curves[how].append(losses)
    labels = [args.start + args.step * turn for turn in range(args.rounds)]
    means = {how: np.mean(losses, 0) for how, losses in curves.items()}
    reached = labels_for(means["random"][-1], means["acquire"], labels)
    each = [
        labels_for(random[-1], np.array(found), labels) / labels[-1]
        for random, found in zip(curves["random"], curves["acquire"], strict=True)
    ]
    emit(
        {
            "settings": vars(args),
            "labels": labels,
            "log_loss": curves,
            "mean": {how: mean.tolist() for how, mean in means.items()},
            "labels_for_the_last_of_random": reached,
            "share": reached / labels[-1],
            "share_by_seed": each,
        },
        args.out,
    )


if __name__ == "__main__":
    main()
