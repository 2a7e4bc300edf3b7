"""Test the uncertainty of models trained on one data set, with frozen MiniLM and several seeds.

The data set is ``rmb``, which has many kinds of prompts, or a narrower one with ``--train-on``.

1. The error rate falls with the confidence max(p, 1 - p): isotonic fit and a permutation test
   over prompts, on test pairs. Target: p < .01 with every seed.
2. Accuracy on the more confident half of the pairs is at least 5 points above that on all pairs,
   and at most one standard error (paired bootstrap over prompts) below that of the tuned
   Bradley-Terry margin.
3. The epistemic variance of a pair's reward difference is larger on other data sets: the area
   under the ROC curve that separates their pairs from test pairs of the training set is above .75
   and above that of an ensemble of five Bradley-Terry heads.

For reference, 3 has other scores: ambiguity, 1 - max(p, 1 - p), and scores of the states alone
(``uncertainty_scores.py``). The variance of a difference grows with the distance of two answers
(with its square if a model is linear), and data sets differ in that distance. So there are also
scale-free versions: the ratio epistemic / E[Delta^2], the epistemic variance divided by the
squared distance of the states, and, for the full covariance, divided by its value under the prior.

Settings of both architectures come from random searches of equal size on validation pairs of
``rmb``, stored in ``settings.json`` of the work folder. The ensemble uses those of the single
Bradley-Terry model. With another data set, nothing is tuned again.

    VRM_PYRO_DATA=... python benchmarks/uncertainty.py --stores runs/real --out out.json
"""

import argparse
import gzip
import json
import os
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
from emit import write_result
from real_pairs import SPLITS, candidates, fit, search
from uncertainty_scores import SCORES, WITHOUT_MODEL, TrainingStates, scores, under_prior

from vrm_pyro.atomic import write_file
from vrm_pyro.backbone import Backbone, load_backbone
from vrm_pyro.data.rows import fold_by_prompt, load_table
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.auroc import auroc
from vrm_pyro.diagnostics.metrics.bootstrap import paired_statistic, prompt_bootstrap
from vrm_pyro.diagnostics.metrics.monotone_error import monotone_error
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, surest_half_accuracy
from vrm_pyro.features.store import FeatureStore, open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE, ModelConfig

OTHERS = ("wmt_darr", "feedbackqa", "nlg_aspects", "mrbench")
PAIRS_PER_PROMPT = 4  # of the other sets: more prompts, which are the units of resampling
ENSEMBLE = ("bt_ensemble", "epistemic")
GAIN, SEPARATION, LEVEL = 0.05, 0.75, 0.01


def models(settings: dict[str, tuple[ModelConfig, dict]]) -> dict[str, tuple[ModelConfig, dict]]:
    """Return the models to compare by name; add a line to add a model."""
    base, training = settings["bradley_terry"]
    vrm, vrm_training = settings["vrm"]
    return {
        "bt": (base, training),
        "bt_ensemble": (replace(base, ensemble_size=5), training),
        "vrm": (vrm, vrm_training),
        "vrm_bayesian": (replace(vrm, bayesian_head=True), vrm_training),
        "vrm_laplace": (
            replace(vrm, bayesian_head=True, head_covariance="laplace"),
            vrm_training,
        ),
    }


def only_rmb(store: FeatureStore) -> SimpleNamespace:
    """Return the prompts of ``rmb`` in a store, with their responses and pairs, in memory."""
    table = store.table()
    return part(
        store, np.flatnonzero([str(identity).startswith("rmb") for identity in table.pair_id])
    )


def by_fold(store: FeatureStore) -> dict[str, SimpleNamespace]:
    """Return the pairs of a store by split: five folds of prompts, one test, one validation."""
    table = store.table()
    fold = fold_by_prompt(table, 5)[table.pair_prompt]
    splits = {"train": fold > 1, "validation": fold == 1, "test": fold == 0}
    return {name: part(store, np.flatnonzero(chosen)) for name, chosen in splits.items()}


def part(store: FeatureStore, pairs: np.ndarray) -> SimpleNamespace:
    """Return some pairs of a store with their prompts and responses, without ratings."""
    table = store.table()
    prompts = np.unique(table.pair_prompt[pairs])
    responses = np.flatnonzero(np.isin(table.response_prompt, prompts))
    return SimpleNamespace(
        prompts=store.prompts[prompts],
        responses=store.responses[responses],
        response_prompt=np.searchsorted(prompts, table.response_prompt[responses]),
        pair_first=np.searchsorted(responses, table.pair_first[pairs]),
        pair_second=np.searchsorted(responses, table.pair_second[pairs]),
        preference=table.preference[pairs],
        pair_weight=table.pair_weight[pairs],
        ratings=np.empty((len(responses), 0)),
        objectives=(),
    )


def drawn_set(
    name: str, pairs: int, folder: str, args: argparse.Namespace, backbone: Backbone
) -> FeatureStore:
    """Return the states of about ``number`` pairs of a data set, from random prompts."""
    rows = defaultdict(list)
    for split in SPLITS:
        with gzip.open(
            Path(os.environ["VRM_PYRO_DATA"]) / name / f"{split}.jsonl.gz", "rt", encoding="utf-8"
        ) as lines:
            for line in lines:
                row = json.loads(line)
                rows[json.dumps(row["prompt"])].append(row)
    generator = np.random.default_rng(0)
    drawn: list[str] = []
    for prompt in generator.permutation(sorted(rows)):
        for index in generator.permutation(len(rows[prompt]))[:PAIRS_PER_PROMPT]:
            row = rows[prompt][index]
            drawn.append(json.dumps({key: row[key] for key in ("prompt", "chosen", "rejected")}))
        if len(drawn) >= pairs:
            break
    path = Path(args.work) / f"{folder.removeprefix('other-')}.jsonl"
    with write_file(path) as partial:
        partial.write_text("\n".join(drawn) + "\n", encoding="utf-8")
    return write_store(load_table(str(path)), backbone, Path(args.work) / folder)


def rmb_sets(args: argparse.Namespace, backbone: Backbone) -> dict[str, SimpleNamespace]:
    """Return the splits of ``rmb``."""
    sets = {}
    for split in SPLITS:
        folder = Path(args.stores or args.work) / f"rmb-hh-{split}"
        if args.stores:
            store = open_store(folder)
            store.check_key(backbone.key())
        else:
            data = Path(os.environ["VRM_PYRO_DATA"])
            files = [str(data / name / f"{split}.jsonl.gz") for name in ("rmb", "hh")]
            store = write_store(load_table(files), backbone, folder)
        sets[split] = only_rmb(store)
    return sets


def other_training_sets(
    args: argparse.Namespace, backbone: Backbone
) -> dict[str, SimpleNamespace]:
    """Return the splits of another data set: from a store of all its rows, or drawn here."""
    name = args.train_on
    if args.stores and (folder := Path(args.stores) / name).is_dir():
        store = open_store(folder)
        store.check_key(backbone.key())
    else:
        store = drawn_set(name, args.train_pairs, f"train-{name}", args, backbone)
    return by_fold(store)


def chosen_settings(args: argparse.Namespace, sets: dict) -> tuple[dict, dict]:
    """Return settings of both architectures with the best validation log loss, and the searches.

    A search that is cached in the work folder is not repeated.
    """
    kept = Path(args.work) / "settings.json"
    searches = json.loads(kept.read_text("utf-8")) if kept.is_file() else {}
    settings = {}
    for architecture in ("bradley_terry", "vrm"):
        if len(searches.get(architecture, {}).get("tried", ())) != args.trials:
            searches[architecture] = search(architecture, False, args, sets)[2]
            write_result(searches, str(kept))
        found = candidates(architecture, False, args.trials)
        settings[architecture] = found[searches[architecture]["chosen"]]
    return settings, searches


def prompt_of(source: FeatureSource) -> np.ndarray:
    """Return the prompt of each pair."""
    return np.asarray(source.response_prompt)[np.asarray(source.pair_first)]


def over_seeds(values: list[float]) -> dict:
    """Return the values of all seeds, their mean and standard deviation."""
    return {
        "mean": float(np.mean(values)),
        "seed_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "seeds": [float(value) for value in values],
    }


def errors_fall(runs: list[dict], test) -> dict:
    """Return the test of the error rate against a constant, with every seed."""
    found = [monotone_error(run["p"], test.preference, prompt_of(test)) for run in runs]
    p_values = [f.p_value for f in found]
    return {
        "explained": over_seeds([f.explained for f in found]),
        "error_least_sure": over_seeds([f.error_rate[0] for f in found]),
        "error_surest": over_seeds([f.error_rate[-1] for f in found]),
        "p_values": p_values,
        "met": max(p_values) < LEVEL,
    }


def surest_half(runs: list[dict], margin: list[dict], test) -> dict:
    """Return accuracies, their gap, and the difference to the Bradley-Terry margin's."""
    label, prompt, ones = test.preference, prompt_of(test), np.ones(len(test.preference))

    def half(models: list[dict], weight: np.ndarray) -> float:
        return float(np.mean([surest_half_accuracy(m["p"], label, weight) for m in models]))

    right = np.mean([accuracy_values(m["p"], label) for m in runs], axis=0)

    def gain(weight: np.ndarray) -> float:
        return half(runs, weight) - float(weight @ right / weight.sum())

    difference = paired_statistic(
        lambda weight: half(runs, weight), lambda weight: half(margin, weight), ones, prompt
    )
    return {
        "accuracy": over_seeds([accuracy_values(m["p"], label).mean() for m in runs]),
        "accuracy_at_50": over_seeds([half([m], ones) for m in runs]),
        "gain": gain(ones),
        "gain_se": float(prompt_bootstrap(gain, ones, prompt).std(ddof=1)),
        "minus_bt": difference._asdict(),
        "met": bool(gain(ones) >= GAIN and difference.difference >= -difference.standard_error),
    }


def separations(runs: dict[str, list[dict]], sources: dict) -> dict:
    """Return the area under the ROC curve of every score, for each data set and all together.

    Args:
        runs: Scores of each seed by source, by model.
        sources: Test pairs of the training data set, then those of the other sets.
    """
    names = list(sources)
    lengths = [len(sources[name].pair_first) for name in names]
    group = np.repeat(np.arange(len(names)), lengths)
    prompt = np.concatenate([prompt_of(s) + 1_000_000 * i for i, s in enumerate(sources.values())])
    columns = {
        (model, score): [np.concatenate([run[name][score] for name in names]) for run in seeds]
        for model, seeds in runs.items()
        for score in SCORES
    }
    # A score that a model does not have is always zero.
    columns = {key: values for key, values in columns.items() if np.any(values)}
    # It depends on no model, and all models standardise in the same way.
    first = next(iter(runs.values()))[0]
    for score in WITHOUT_MODEL:
        columns["states", score] = [np.concatenate([first[name][score] for name in names])]

    def area(key: tuple[str, str], rows: np.ndarray, weight: np.ndarray) -> float:
        return float(np.mean([auroc(v[rows], group[rows] > 0, weight) for v in columns[key]]))

    result: dict = {}
    for key, values in columns.items():
        entry = result[" ".join(key)] = {}
        for index, name in enumerate((*names[1:], "all"), start=1):
            rows = np.flatnonzero((group == 0) | (group == index) | (name == "all"))
            ones = np.ones(len(rows))

            def statistic(weight, key=key, rows=rows):
                return area(key, rows, weight)

            def ensemble(weight, rows=rows):
                return area(ENSEMBLE, rows, weight)

            draws = prompt_bootstrap(statistic, ones, prompt[rows])
            entry[name] = {
                **over_seeds([auroc(v[rows], group[rows] > 0) for v in values]),
                "se": float(np.nanstd(draws, ddof=1)),  # a draw may miss a set of few prompts
                "minus_ensemble": paired_statistic(
                    statistic, ensemble, ones, prompt[rows]
                )._asdict(),
            }
        if key[1] == "epistemic" and key != ENSEMBLE:
            pooled = entry["all"]
            entry["met"] = bool(
                pooled["mean"] > SEPARATION and pooled["minus_ensemble"]["difference"] > 0
            )
    return result


def show(report: dict) -> None:
    """Print the results, one line per model."""
    for name, value in report["errors_fall"].items():
        print(
            f"{name}: error {value['error_least_sure']['mean']:.3f} least sure, "
            f"{value['error_surest']['mean']:.3f} surest, explained "
            f"{value['explained']['mean']:.4f} (sd {value['explained']['seed_sd']}), p "
            f"{', '.join(f'{p:.4f}' for p in value['p_values'])}, met {value['met']}"
        )
    for name, value in report["surest_half"].items():
        gap = value["minus_bt"]
        print(
            f"{name}: accuracy {value['accuracy']['mean']:.4f}, surest half "
            f"{value['accuracy_at_50']['mean']:.4f} (sd {value['accuracy_at_50']['seed_sd']}), "
            f"gain {value['gain']:+.4f} (se {value['gain_se']:.4f}), minus bt "
            f"{gap['difference']:+.4f} (se {gap['standard_error']:.4f}), met {value['met']}"
        )
    for name, value in report["separation"].items():
        areas = ", ".join(
            f"{other} {v['mean']:.3f} (se {v['se']:.3f}, sd {v['seed_sd'] or 0:.3f})"
            for other, v in value.items()
            if other != "met"
        )
        print(f"{name}: {areas}, met {value.get('met', '-')}", flush=True)


def main() -> None:
    """Train all models with every seed, measure them and print the numbers."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/uncertainty")
    parser.add_argument(
        "--stores", default=None, help="folder in which real_pairs.py wrote rmb-hh-train and so on"
    )
    parser.add_argument("--out", default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--trials", type=int, default=12, help="settings tried, by architecture")
    parser.add_argument("--epochs", type=float, default=40)
    parser.add_argument("--pairs", type=int, default=500, help="pairs of each other set")
    parser.add_argument("--train-on", default="rmb", help="data set to train on")
    parser.add_argument(
        "--train-pairs", type=int, default=1500, help="number of its pairs, if --stores lacks it"
    )
    args = parser.parse_args()
    args.part, args.baseline_trials = "uncertainty", 0  # arguments of real_pairs.py's functions
    Path(args.work).mkdir(parents=True, exist_ok=True)
    backbone = load_backbone(DEFAULT_BACKBONE, pooling="auto", max_length=256)
    rmb = rmb_sets(args, backbone)
    sets = rmb if args.train_on == "rmb" else other_training_sets(args, backbone)
    sources = {args.train_on: sets["test"], "rmb": rmb["test"]}
    for name in OTHERS:
        if name != args.train_on:
            sources[name] = drawn_set(name, args.pairs, f"other-{name}", args, backbone)
    settings, searches = chosen_settings(args, rmb)
    training_states = TrainingStates(sets["train"])
    runs: dict[str, list[dict]] = {}
    for name, (config, training) in models(settings).items():
        runs[name] = []
        for seed in range(args.seeds):
            model, log_loss = fit(config, training, args, sets, seed)
            print(f"{name} seed {seed}: validation log loss {log_loss:.4f}", flush=True)
            prior = under_prior(model)
            runs[name].append(
                {
                    key: scores(model, prior, source, training_states)
                    for key, source in sources.items()
                }
            )
    on_test = {name: [run[args.train_on] for run in seeds] for name, seeds in runs.items()}
    report = {
        "trained_on": args.train_on,
        "sizes": {
            name: {"n_pairs": len(s.pair_first), "n_prompts": len(np.unique(prompt_of(s)))}
            for name, s in sources.items()
        },
        "search": searches,
        "errors_fall": {name: errors_fall(r, sets["test"]) for name, r in on_test.items()},
        "surest_half": {
            name: surest_half(r, on_test["bt"], sets["test"]) for name, r in on_test.items()
        },
        "separation": separations(runs, sources),
    }
    show(report)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
