"""Count how often 90% intervals hold the truth, on simulated texts whose truth is known.

For every seed of texts and shipped config, used as it is: train on three fifths of the prompts,
validate on one, and test on the last. Intervals are quantiles of draws given the text alone
(`new`) and given the outcomes too (`posterior`); rewards are centred per prompt, as preferences
tell no more. Beside coverage: the standard deviation of the mean rewards divided by that of the
true ones, the root mean square errors, and the log loss on test pairs, also of Bradley-Terry.

    python benchmarks/interval_coverage.py --seeds 5 --work runs/coverage --out coverage.json
"""

import argparse
from functools import partial
from pathlib import Path

import numpy as np
from cells import Cells
from emit import write_result

import vrm_pyro
from vrm_pyro import names
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values
from vrm_pyro.diagnostics.recovery import Truth
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.training.run.read_settings import read_settings
from vrm_pyro.training.train import train

PAIRS = 2400
LEVEL = 0.9
DRAWS = 500

CONFIGS = ("bradley_terry", "networks", "ratings")


def parts_of(seed: int, backbone) -> tuple[list[Inputs], object]:
    """Return train, validation and test rows with states, and the truth."""
    simulation = vrm_pyro.simulate_texts(PAIRS, seed, pairs_per_prompt=6, shared_responses=4)
    rows = [row for split in ("train", "validation", "test") for row in simulation.rows(split)]
    table = vrm_pyro.load_table(rows)
    fold = vrm_pyro.fold_by_prompt(table, 5)
    masks = (fold > 1, fold == 1, fold == 0)
    tables = [table.select_prompts(mask) for mask in masks]
    return [
        Inputs.of(vrm_pyro.encode_table(t, backbone, cache=True)) for t in tables
    ], simulation.truth


def measure(config: str, rows: list[Inputs], truth, seed: int, folder: Path) -> dict:
    """Train one model and compare its intervals with the truth."""
    training, validation, test = rows
    settings = read_settings(
        config,
        {"train.output_dir": str(folder), "train.seed": seed, "train.use_cpu": True,
         "train.disable_tqdm": True},
    )  # fmt: skip
    result = train(settings.model, settings.arguments, training, validation)
    loaded = result.loaded
    p_first = vrm_pyro.predict(loaded, test).p_first
    found = {"log_loss": float(log_loss_values(p_first, test.table.preference).mean())}
    if not settings.model.has_latents:
        return found
    true = Truth.of(truth, test, tuple(loaded.objectives))
    draws = vrm_pyro.to_datatree(vrm_pyro.draw_posterior(loaded, test, DRAWS, seed=seed))
    owner = test.table.response_prompt
    reward = centred(true.reward[None], owner)[0]
    for name, group in (("new", "prior"), ("posterior", "posterior")):
        r = centred(draws[group][names.REWARD].values[0], owner)
        w = draws[group][names.WEIGHTS].values[0]
        found[name] = {
            "rewards_covered": covered(r, reward),
            "weights_covered": covered(w, true.weights),
            "sd_ratio": float(r.mean(0).std() / reward.std()),
            "reward_rmse": float(np.sqrt(np.mean((r.mean(0) - reward) ** 2))),
            "reward_sd": float(np.sqrt(np.mean(r.var(0)))),
            "weight_rmse": float(np.sqrt(np.mean((w.mean(0) - true.weights) ** 2))),
            "weight_sd": float(np.sqrt(np.mean(w.var(0)))),
        }
    return found | {"scales": result.metrics.get("scales")}


def centred(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Subtract the mean over the responses of each prompt, (draws, responses)."""
    count = np.bincount(owner)
    return values - (np.array([np.bincount(owner, row) for row in values]) / count)[:, owner]


def covered(draws: np.ndarray, truth: np.ndarray) -> float:
    """Return the share of true values inside the central interval of the draws."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return float(np.mean((low <= truth) & (truth <= high)))


def summary(runs: list[dict]) -> dict:
    """Return mean and standard deviation over seeds of every number, nested as the runs are."""
    result: dict = {}
    for key, value in runs[0].items():
        each = [run[key] for run in runs]
        if isinstance(value, dict):
            result[key] = summary(each)
        elif value is not None:
            result[key] = {"mean": float(np.mean(each)), "sd": float(np.std(each, ddof=1))}
    return result


def main() -> None:
    """Measure every variant on every seed and write a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=5, help="seeds of texts")
    parser.add_argument("--work", default="runs/coverage", help="folder; finished cells are kept")
    parser.add_argument("--out", required=True, help="JSON to write")
    args = parser.parse_args()
    cells = Cells(Path(args.work) / "cells")
    backbone = vrm_pyro.load_backbone(dtype="float32")
    runs: dict[str, list[dict]] = {name: [] for name in CONFIGS}
    for seed in range(args.seeds):
        rows, truth = parts_of(seed, backbone)
        for name in CONFIGS:
            held = read_settings(name, {"train.output_dir": "unused"}).values
            own = str({k: v for k, v in held.items() if k in ("model", "train")})
            key = {"settings": own, "seed": seed, "pairs": PAIRS, "draws": DRAWS}
            folder = Path(args.work) / "checkpoints"
            run = cells.get(key, partial(measure, name, rows, truth, seed, folder))
            runs[name].append(run)
            print(seed, name, run, flush=True)
    base = np.array([run["log_loss"] for run in runs["bradley_terry"]])
    report = {name: summary(each) for name, each in runs.items()}
    for name, each in runs.items():
        difference = np.array([run["log_loss"] for run in each]) - base
        error = difference.std(ddof=1) / len(difference) ** 0.5
        report[name]["log_loss_minus_bradley_terry"] = {
            "mean": float(difference.mean()),
            "standard_error": float(error),
        }
    write_result(report, args.out)


if __name__ == "__main__":
    main()
