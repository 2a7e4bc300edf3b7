"""Measure the cost of label noise: a fraction of training and validation labels is flipped.

Models are Bradley-Terry, VRM, and VRM with likelihood ``Lapse``, whose rate eps is learned. Test
labels are clean. Data are simulated texts with known truth (new texts for every seed), and
``rmb`` + ``hh``. Every seed flips its own labels, the same for all models; labels flipped at a
lower rate are also flipped at a higher one.

All models try equally many random settings. The one with the best log loss on *flipped*
validation labels at one flip rate is used at all rates. A lapse model predicts the noisy label. On
clean labels, its noise-free prediction (p - eps) / (1 - 2 eps) with the learned eps counts.
``lapse_as_given`` is p itself, and ``corrected`` is Bradley-Terry corrected in the same way with
the *true* flip rate.

Each trained cell (data, model, rate, seed) is cached in the work folder.

    VRM_PYRO_DATA=... python benchmarks/label_noise.py --stores runs/real --out out.json
"""

import argparse
import json
import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import xarray as xr
from cells import Cells
from curves import Panel, draw_curves
from emit import write_result
from real_pairs import SPLITS, candidates, fit
from tqdm import tqdm

from vrm_pyro.backbone import Backbone, load_backbone
from vrm_pyro.data.rows import load_table
from vrm_pyro.data.simulation import SPLITS as SIMULATED
from vrm_pyro.data.simulation import TRUTH_FILE, simulate_texts, write_simulation
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, log_loss_values
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE
from vrm_pyro.prediction.predict import predict

RATES = (0.0, 0.1, 0.2, 0.3, 0.4)
SEARCH_RATE, SEARCH_SEED = 0.2, 100
STARTS = (0.05, 0.2)  # initial eps: its default, and the middle of the flip rates
MODELS = {
    "bradley_terry": "Bradley-Terry",
    "vrm": "VRM",
    "lapse": "VRM, lapse",
}
TITLES = {"texts": "simulated texts", "rmb-hh": "rmb + hh"}
# Four responses a prompt and all six comparisons of them, as in the demo.
LAYOUT = {"pairs_per_prompt": 6, "shared_responses": 4}
EXTREME = 0.01  # smallest distance of a ``corrected`` probability from 0 and 1
NOISY = 0.3
SHARE, CLOSE = 0.5, 0.03


def flipped(source: FeatureSource, rate: float, seed: int, rated: bool = False) -> SimpleNamespace:
    """Return a source with a fraction ``rate`` of flipped labels, with ratings if ``rated``."""
    preference = np.array(source.preference, dtype=np.float64)
    order = np.random.default_rng(seed).permutation(len(preference))
    turned = order[: round(rate * len(preference))]
    preference[turned] = 1 - preference[turned]
    return SimpleNamespace(
        prompts=source.prompts,
        responses=source.responses,
        response_prompt=source.response_prompt,
        pair_first=source.pair_first,
        pair_second=source.pair_second,
        preference=preference,
        pair_weight=source.pair_weight,
        ratings=source.ratings if rated else np.empty((len(source.response_prompt), 0)),
        objectives=source.objectives if rated else (),
    )


def noisy(sets: dict, rate: float, seed: int, rated: bool = False) -> dict:
    """Return training and validation rows with independently flipped labels."""
    return {
        split: flipped(sets[split], rate, 10_000 * (index + 1) + seed, rated)
        for index, split in enumerate(("train", "validation"))
    }


def without_lapse(p_first: np.ndarray, rate: float, extreme: float = 0.0) -> np.ndarray:
    """Return the probability of the noise-free label from that of the noisy label.

    A predicted p is eps + (1 - 2 eps) E sigmoid(Delta), which is solved for the expectation.
    """
    return np.clip((p_first - rate) / (1 - 2 * rate), extreme, 1 - extreme)


def drawn(model: str, trials: int) -> dict[str, tuple]:
    """Return the settings that a model tries; those of VRM and lapse model differ in eps only."""
    found = candidates("bradley_terry" if model == "bradley_terry" else "vrm", False, trials)
    if model != "lapse":
        return found
    starts = np.random.default_rng(1).choice(STARTS, size=trials)
    return {
        json.dumps({**json.loads(name), "lapse_start": float(start)}, sort_keys=True): (
            replace(config, likelihood=Lapse(float(start))),
            extra,
        )
        for (name, (config, extra)), start in zip(found.items(), starts, strict=True)
    }


def train_cell(name: str, setting: tuple, sets: dict, rate: float, seed: int, args) -> dict:
    """Train one model; return its predictions on clean test pairs."""
    model, log_loss = fit(*setting, args, noisy(sets, rate, seed), seed)
    likelihood = getattr(model, "likelihood", None)
    rate_found = getattr(likelihood.detach(), "rate", None) if likelihood is not None else None
    return {
        "validation_log_loss": log_loss,
        "p_first": predict(model, sets["test"]).p_first.tolist(),
        "eps": None if rate_found is None else float(rate_found),
    }


def texts(seed: int, args, backbone: Backbone, layout: dict[str, int] = LAYOUT) -> dict:
    """Return the stores of one simulation and facts about its truth."""
    name = f"{args.pairs}-{seed}"
    if layout != LAYOUT:
        name = f"{args.pairs}-{'-'.join(map(str, layout.values()))}-{seed}"
    rows = Path(args.work) / "texts" / f"rows-{name}"
    if not (rows / TRUTH_FILE).is_file():
        write_simulation(simulate_texts(args.pairs, seed, **layout), rows)
    sets: dict = {
        split: write_store(
            load_table(str(rows / f"{split}.jsonl")),
            backbone,
            rows.with_name(f"{name}-{split}"),
        )
        for split in SIMULATED
    }
    with xr.open_dataset(rows / TRUTH_FILE) as truth:
        test = (truth["split"].sel(prompt=truth["pair_prompt"]) == "test").values
        chance = truth["p_chosen"].values[test]
        sets["truth"] = {
            "sd_delta": float(truth["delta"].std()),
            "share_of_delta_above_3": float((abs(truth["delta"]) > 3).mean()),
            "test_log_loss": float(-np.log(chance).mean()),
            "test_accuracy": float((chance > 0.5).mean()),
        }
    return sets


def pairs(args, data: Path, backbone: Backbone) -> dict:
    """Return the stores of ``rmb`` + ``hh``: the given ones, or new ones."""
    found = {}
    for split in SPLITS:
        folder = Path(args.stores or args.work) / f"rmb-hh-{split}"
        if args.stores:
            found[split] = open_store(folder)
            found[split].check_key(backbone.key())
        else:
            files = [str(data / name / f"{split}.jsonl.gz") for name in ("rmb", "hh")]
            found[split] = write_store(load_table(files), backbone, folder)
    return found


def measure(name: str, source, search_source, args) -> dict:
    """Search, train all cells and compare.

    Args:
        name: Name of the data.
        source: Returns the stores of a seed.
        search_source: Stores on which settings are chosen.
        args: Parsed command line.
    """
    kept = Cells(Path(args.work) / "cells")
    found = {model: drawn(model, args.trials) for model in MODELS}
    rounds = len(MODELS) * (args.trials + len(args.rates) * args.seeds)
    base = {"data": name, "pairs": args.pairs if name == "texts" else None, "epochs": args.epochs}
    with tqdm(total=rounds, desc=name, unit="model") as bar:

        def cell(model: str, setting: str, sets: dict, rate: float, seed: int) -> dict:
            key = {**base, "model": model, "setting": setting, "rate": rate, "seed": seed}
            result = kept.get(
                key, lambda: train_cell(model, found[model][setting], sets, rate, seed, args)
            )
            bar.update()
            return result

        search = {}
        for model in MODELS:
            tried = {
                setting: cell(model, setting, search_source, SEARCH_RATE, SEARCH_SEED)[
                    "validation_log_loss"
                ]
                for setting in found[model]
            }
            search[model] = {"tried": tried, "chosen": min(tried, key=tried.__getitem__)}
        cells = {
            (model, rate, seed): cell(model, search[model]["chosen"], source(seed), rate, seed)
            for seed in range(1, args.seeds + 1)
            for rate in args.rates
            for model in MODELS
        }
    stores = [source(seed) for seed in range(1, args.seeds + 1)]
    report = compare(cells, stores, args.rates, one_test=name != "texts")
    report["search"] = search
    if name == "texts":
        report["truth"] = [sets["truth"] for sets in stores]
    return report


def readouts(cells: dict, model: str, rate: float, seed: int) -> dict[str, np.ndarray]:
    """Return the predictions of one cell: as given, noise-free or corrected."""
    cell = cells[model, rate, seed]
    p = np.array(cell["p_first"])
    if model == "lapse":
        return {model: without_lapse(p, cell["eps"]), f"{model}_as_given": p}
    if model == "bradley_terry":
        return {model: p, "corrected": without_lapse(p, rate, EXTREME if rate else 0.0)}
    return {model: p}


def compare(cells: dict, stores: list[dict], rates, *, one_test: bool) -> dict:
    """Return the metrics of all models at all rates, and the cost of flips.

    Args:
        cells: Results by model, rate and seed.
        stores: Stores of every seed.
        rates: Flip rates.
        one_test: Whether all seeds share test pairs; else each seed adds prompts.
    """
    values: dict[tuple, list] = {}
    prompts = []
    for index, sets in enumerate(stores):
        test = sets["test"]
        prompt = np.asarray(test.response_prompt)[np.asarray(test.pair_first)]
        prompts.append(prompt + 1_000_000 * index * (not one_test))
        for model in MODELS:
            for rate in rates:
                for read, p in readouts(cells, model, rate, index + 1).items():
                    label = np.asarray(test.preference)
                    for key, function in (
                        ("log_loss", log_loss_values),
                        ("accuracy", accuracy_values),
                    ):
                        values.setdefault((key, read, rate), []).append(function(p, label))
    report: dict = {"rates": list(rates), "seeds": len(stores)}
    for (key, read, rate), each in values.items():
        means = [float(v.mean()) for v in each]
        report.setdefault(key, {}).setdefault(read, {})[str(rate)] = {
            "seeds": means,
            "mean": float(np.mean(means)),
            "sd": float(np.std(means, ddof=1)) if len(means) > 1 else None,
        }
    report["eps"] = {
        str(rate): found_rate(
            [cells["lapse", rate, seed + 1]["eps"] for seed in range(len(stores))], rate
        )
        for rate in rates
    }

    def pooled(read: str, rate: float) -> np.ndarray:
        each = values["log_loss", read, rate]
        return np.mean(each, axis=0) if one_test else np.concatenate(each)

    if 0.0 in rates and NOISY in rates:
        prompt = prompts[0] if one_test else np.concatenate(prompts)
        cost = {read: pooled(read, NOISY) - pooled(read, 0.0) for read in report["log_loss"]}
        zero = np.zeros(len(prompt))
        report["cost"] = {
            read: paired_bootstrap(v, zero, prompt)._asdict() for read, v in cost.items()
        }
        half = SHARE * cost["bradley_terry"]
        report["cost"]["lapse_minus_half_bradley_terry"] = {
            **paired_bootstrap(cost["lapse"], half, prompt)._asdict(),
            "met": bool(cost["lapse"].mean() <= half.mean()),
        }
        report["level"] = {
            f"lapse - {read}": paired_bootstrap(
                pooled("lapse", NOISY), pooled(read, NOISY), prompt
            )._asdict()
            for read in ("bradley_terry", "corrected", "vrm", "lapse_as_given")
        }
    return report


def found_rate(values: list[float], rate: float) -> dict:
    """Return the learned eps of all seeds, and the number of seeds close to the flip rate."""
    return {
        "seeds": values,
        "mean": float(np.mean(values)),
        "sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "within": sum(abs(value - rate) <= CLOSE for value in values),
    }


def draw(report: dict, name: str, folder: str) -> None:
    """Draw log loss and accuracy against the flip rate."""

    def series(key: str) -> dict[str, np.ndarray]:
        return {
            label: np.array([report[key][model][str(r)]["seeds"] for r in report["rates"]]).T
            for model, label in MODELS.items()
        }

    coin = ("a coin", float(np.log(2)))
    draw_curves(
        Path(folder) / f"label_noise_{name.replace('-', '_')}.png",
        [
            Panel("log loss of clean test labels (nats a pair)", series("log_loss"), coin),
            Panel(
                "accuracy on clean test labels (%)",
                {k: 100 * v for k, v in series("accuracy").items()},
            ),
        ],
        [100 * r for r in report["rates"]],
        "flipped labels in training and validation (%)",
        f"Label noise, {TITLES[name]}",
        ticks=[f"{100 * r:.0f}" for r in report["rates"]],
    )


def show(name: str, report: dict) -> None:
    """Print the numbers."""
    for key in ("log_loss", "accuracy"):
        for read, by_rate in report[key].items():
            line = "  ".join(f"{v['mean']:.4f} ({v['sd'] or 0:.4f})" for v in by_rate.values())
            print(f"{name} {key} {read}: {line}")
    line = "  ".join(
        f"{v['mean']:.3f} ({v['sd'] or 0:.3f}, {v['within']} close)"
        for v in report["eps"].values()
    )
    print(f"{name} eps: {line}")
    for part in ("cost", "level"):
        for read, v in report.get(part, {}).items():
            print(
                f"{name} {part} {read}: {v['difference']:+.4f} "
                f"[{v['lower']:+.4f}, {v['upper']:+.4f}] {v.get('met', '')}"
            )
    print(flush=True)


def main() -> None:
    """Run the benchmark on one data set or both."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", choices=list(TITLES), default=list(TITLES))
    parser.add_argument("--work", default="runs/label_noise")
    parser.add_argument(
        "--stores", default=None, help="folder in which real_pairs.py wrote rmb-hh-train and so on"
    )
    parser.add_argument("--out", default=None)
    parser.add_argument("--figures", default=None, help="folder for the figures")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument(
        "--trials", type=int, default=6, help="number of settings tried for each model"
    )
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--pairs", type=int, default=4400, help="simulated pairs in all splits")
    parser.add_argument("--quick", action="store_true", help="a smoke test on little data")
    args = parser.parse_args()
    args.part, args.rates = "label_noise", RATES
    if args.quick:
        args.seeds, args.trials, args.epochs, args.pairs = 1, 1, 2, 240
        args.rates = (0.0, NOISY)
    backbone = load_backbone(DEFAULT_BACKBONE, max_length=256)
    report: dict = {"settings": {k: v for k, v in vars(args).items() if k not in ("out", "work")}}
    for name in args.data:
        if name == "texts":
            made = {seed: texts(seed, args, backbone) for seed in range(args.seeds + 1)}
            report[name] = measure(name, made.__getitem__, made[0], args)
        else:
            sets = pairs(args, Path(os.environ["VRM_PYRO_DATA"]), backbone)
            report[name] = measure(name, lambda seed, sets=sets: sets, sets, args)
        show(name, report[name])
        if args.figures:
            draw(report[name], name, args.figures)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
