"""Compare models with few preference labels and many ratings, on folds of ``cohere_feedback``.

Models are Bradley-Terry, VRM on labels only, and VRM on labels and the ratings of all training
responses (the seven ``no_*`` attributes). The number of labelled training pairs goes from 250 to
all. Every seed draws the labelled pairs of every fold, the same for all models; a larger number
includes the pairs of a smaller one. All validation pairs are labelled. Folds are by prompt, over
all splits.

At every number of labels, each model tries equally many random settings from its own grid (that of
real_pairs.py). The one with the best validation log loss in the first fold is used in all folds
and with all seeds. Differences are means over test pairs of all folds, averaged over seeds per
pair, with a paired bootstrap over prompts.

Each trained cell (model, labels, fold, seed) is cached in the work folder.

    VRM_PYRO_DATA=... python benchmarks/low_data.py --stores runs/real --out out.json
"""

import argparse
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from cells import Cells
from curves import Panel, draw_curves
from emit import write_result
from real_pairs import ERRORS, SPLITS, candidates, fit, part
from tqdm import tqdm

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import fold_by_prompt, load_table
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy_values,
    cluster_mean,
    log_loss_values,
)
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE
from vrm_pyro.prediction.predict import predict

SET = "cohere_feedback"
LABELS = (250, 500, 1000, 2000, None)  # None: all
MODELS = {
    "bradley_terry": "Bradley-Terry",
    "vrm": "VRM, labels alone",
    "vrm_ratings": "VRM, labels and ratings",
}
VALUES = {"accuracy": accuracy_values, "log_loss": log_loss_values}
SEARCH_SEED = 100
FEW, MANY = 500, 2000


def drawn(model: str, trials: int) -> dict[str, tuple]:
    """Return the settings that a model tries."""
    architecture = "bradley_terry" if model == "bradley_terry" else "vrm"
    return candidates(architecture, model == "vrm_ratings", trials)


def without_ratings(source: SimpleNamespace) -> SimpleNamespace:
    """Return the source without ratings."""
    empty = np.empty((len(source.response_prompt), 0))
    return SimpleNamespace(**{**vars(source), "ratings": empty, "objectives": ()})


class Folds:
    """Return training, validation and test pairs of every fold.

    Args:
        store: Store with states.
        number: Number of folds.
    """

    def __init__(self, store, number: int) -> None:
        self.store, self.table, self.number = store, store.table(), number
        self.fold = fold_by_prompt(self.table, number)

    def parts(self, model: str, labels: int | None, test: int, seed: int) -> dict:
        """Return the three parts; only a model on ratings gets these."""
        valid = (test + 1) % self.number
        rest = np.flatnonzero((self.fold != test) & (self.fold != valid))
        draw = 1000 * test + seed
        found = {
            "train": part(self.store, self.table, rest, labels, draw),
            "validation": part(
                self.store, self.table, np.flatnonzero(self.fold == valid), None, draw
            ),
            "test": part(self.store, self.table, np.flatnonzero(self.fold == test), None, draw),
        }
        if model == "vrm_ratings":
            return found
        return {name: without_ratings(source) for name, source in found.items()}


def train_cell(setting: tuple, parts: dict, seed: int, args) -> dict:
    """Train one model; return its predictions on the test pairs of its fold."""
    model, log_loss = fit(*setting, args, parts, seed)
    return {
        "validation_log_loss": log_loss,
        "labelled": len(parts["train"].pairs),
        "pairs": parts["test"].pairs.tolist(),
        "p_first": predict(model, parts["test"]).p_first.tolist(),
    }


def measure(folds: Folds, args) -> dict:
    """Search, train all cells and compare."""
    kept = Cells(Path(args.work) / "cells")
    found = {model: drawn(model, args.trials) for model in MODELS}
    rounds = len(MODELS) * len(args.labels) * (args.trials + folds.number * args.seeds)
    runs: dict[tuple, list[np.ndarray]] = {}
    search: dict = {}
    sizes: dict = {}
    with tqdm(total=rounds, desc=SET, unit="model") as bar:

        def cell(model: str, setting: str, labels: int | None, test: int, seed: int) -> dict:
            key = {
                "data": SET,
                "model": model,
                "setting": setting,
                "labels": labels,
                "fold": test,
                "folds": folds.number,
                "seed": seed,
                "epochs": args.epochs,
            }
            result = kept.get(
                key,
                lambda: train_cell(
                    found[model][setting], folds.parts(model, labels, test, seed), seed, args
                ),
            )
            bar.update()
            return result

        for labels in args.labels:
            for model in MODELS:
                tried = {
                    setting: cell(model, setting, labels, 0, SEARCH_SEED)["validation_log_loss"]
                    for setting in found[model]
                }
                chosen = min(tried, key=tried.__getitem__)
                search.setdefault(model, {})[named(labels)] = {"tried": tried, "chosen": chosen}
                runs[model, labels] = []
                for seed in range(args.seeds):
                    p = np.full(folds.table.num_pairs, np.nan)
                    for test in range(folds.number):
                        result = cell(model, chosen, labels, test, seed)
                        p[result["pairs"]] = result["p_first"]
                        sizes.setdefault(named(labels), []).append(result["labelled"])
                    runs[model, labels].append(p)
    report = compare(runs, folds, args.labels)
    report["search"] = search
    report["labelled"] = {name: float(np.mean(each)) for name, each in sizes.items()}
    return report


def named(labels: int | None) -> str:
    """Return the name of a number of labels."""
    return "all" if labels is None else str(labels)


def compare(runs: dict, folds: Folds, sizes) -> dict:
    """Return metrics of all models at all numbers of labels, and differences."""
    prompt, ones = folds.table.pair_prompt, np.ones(folds.table.num_pairs)
    report: dict = {"n_pairs": len(ones), "n_prompts": len(np.unique(prompt)), "differences": {}}
    for key, function in VALUES.items():
        values = {name: [function(p, ones) for p in each] for name, each in runs.items()}
        mean = {name: np.mean(each, axis=0) for name, each in values.items()}
        report[key] = {model: {} for model in MODELS}
        for (model, labels), each in values.items():
            seeds = [float(v.mean()) for v in each]
            report[key][model][named(labels)] = {
                "seeds": seeds,
                "mean": float(np.mean(seeds)),
                "seed_sd": float(np.std(seeds, ddof=1)) if len(seeds) > 1 else None,
                "se": float(cluster_mean(mean[model, labels], ones, prompt).standard_error),
            }
        compared = [
            (("vrm_ratings", labels), (other, labels))
            for labels in sizes
            for other in ("bradley_terry", "vrm")
        ]
        compared += [(("vrm", labels), ("bradley_terry", labels)) for labels in sizes]
        if FEW in sizes and MANY in sizes:
            compared += [((model, FEW), ("bradley_terry", MANY)) for model in MODELS]
        report["differences"][key] = {
            f"{a[0]} {named(a[1])} - {b[0]} {named(b[1])}": paired_bootstrap(
                mean[a], mean[b], prompt
            )._asdict()
            for a, b in compared
        }
    return report


def draw(report: dict, folder: str) -> None:
    """Draw accuracy and log loss against the number of labelled pairs."""
    names = list(report["labelled"])

    def series(key: str, factor: float = 1.0) -> dict[str, np.ndarray]:
        return {
            label: factor * np.array([report[key][model][n]["seeds"] for n in names]).T
            for model, label in MODELS.items()
        }

    draw_curves(
        Path(folder) / "low_data.png",
        [
            Panel("log loss of test labels (nats a pair)", series("log_loss")),
            Panel("accuracy on test pairs (%)", series("accuracy", 100)),
        ],
        [report["labelled"][name] for name in names],
        "labelled training pairs (log scale)",
        "Few labels, cohere_feedback",
        ticks=[n if n != "all" else f"all\n({report['labelled'][n]:,.0f})" for n in names],
        log_axis=True,
    )


def show(report: dict) -> None:
    """Print the numbers."""
    print(f"{report['n_pairs']} pairs of {report['n_prompts']} prompts; {report['labelled']}")
    for key in VALUES:
        for model, by_size in report[key].items():
            line = "  ".join(
                f"{v['mean']:.4f} (seeds {v['seed_sd'] or 0:.4f}, se {v['se']:.4f})"
                for v in by_size.values()
            )
            print(f"{key} {model}: {line}")
        for name, v in report["differences"][key].items():
            print(f"{key} {name}: {v['difference']:+.4f} [{v['lower']:+.4f}, {v['upper']:+.4f}]")
    print(flush=True)


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/low_data")
    parser.add_argument(
        "--stores", default=None, help="folder in which real_pairs.py wrote cohere_feedback"
    )
    parser.add_argument("--out", default=None)
    parser.add_argument("--figures", default=None, help="folder for the figure")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--trials", type=int, default=6, help="number of settings tried for each model"
    )
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--quick", action="store_true", help="a smoke test on little data")
    args = parser.parse_args()
    args.part, args.labels = "low_data", LABELS
    if args.quick:
        args.seeds, args.trials, args.epochs, args.folds = 1, 1, 1, 3
        args.labels = (250, None)
    backbone = load_backbone(DEFAULT_BACKBONE, max_length=256)
    if args.stores:
        store = open_store(Path(args.stores) / SET)
        store.check_key(backbone.key())
    else:
        data = Path(os.environ["VRM_PYRO_DATA"])
        files = [
            str(data / SET / f"{kind}{split}.jsonl.gz")
            for split in SPLITS
            for kind in ("", "ratings.")
        ]
        store = write_store(load_table(files, objectives=ERRORS), backbone, Path(args.work) / SET)
    report = measure(Folds(store, args.folds), args)
    report["settings"] = {k: v for k, v in vars(args).items() if k not in ("out", "work")}
    show(report)
    if args.figures:
        draw(report, args.figures)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
