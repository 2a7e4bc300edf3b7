"""Compare VRM and a Bradley-Terry MLP head on real pairs with frozen MiniLM and equal budgets.

``preferences``: ``rmb`` and ``hh``, trained together on their own splits with several seeds, and
reported separately and pooled. ``ratings``: ``cohere_feedback`` (the seven ``no_*`` attributes)
and ``hellobench``, on folds by prompt over all splits, optionally with few preference labels and
the ratings of all training responses.

Both models try equally many random settings from their own grids, chosen by validation log loss,
with the same early stopping. Differences are means over pairs, averaged over seeds per pair, with
a paired bootstrap over prompts. Results are raw and temperature-scaled (one number fitted on
validation pairs).

    VRM_PYRO_DATA=... python benchmarks/real_pairs.py preferences --work runs/real --out out.json
"""

import argparse
import json
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from emit import write_result
from networks import network_config
from scipy.special import expit, logit

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import fold_by_prompt, keep_labels, load_table
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap, paired_statistic
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy_values,
    expected_calibration_error,
    log_loss_values,
    pair_metrics,
)
from vrm_pyro.diagnostics.metrics.temperature import temperature_scale
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE, ModelConfig
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

SPLITS = ("train", "validation", "test")
ERRORS = (
    "no_contradiction",
    "no_factual_error",
    "no_formatting_error",
    "no_inconsistency",
    "no_irrelevance",
    "no_refusal",
    "no_repetition",
)


def candidates(architecture: str, rated: bool, number: int) -> dict[str, tuple[ModelConfig, dict]]:
    """Return random settings of a model from its own grid, equally many for each model."""
    generator = np.random.default_rng(0)
    grid = dict(GRIDS[architecture])
    if architecture == "vrm":
        grid |= RATED if rated else UNRATED
    found: dict[str, tuple[ModelConfig, dict]] = {}
    while len(found) < number:
        draw = {name: generator.choice(values).item() for name, values in grid.items()}
        make = _baseline if architecture == "bradley_terry" else _vrm
        name = json.dumps({key: draw[key] for key in sorted(draw)})
        found[name] = (
            make(draw, rated),
            {
                "learning_rate": draw["learning_rate"],
                "weight_decay": draw["weight_decay"],
                "per_device_train_batch_size": draw["batch_size"],
            },
        )
    return found


_TRAINING = {
    "learning_rate": [5e-4, 1e-3, 2e-3],
    "weight_decay": [0.01, 0.1, 1.0],
    "batch_size": [32, 64, 128],
}
GRIDS: dict[str, dict[str, list]] = {
    "bradley_terry": {"hidden": [32, 64, 128, 256], "dropout": [0.0, 0.3, 0.5, 0.7], **_TRAINING},
    "vrm": {
        "objective": ["pairwise", "integrated"],
        "latent_dim": [5, 10, 20],
        "weights_hidden": [0, 64],
        "weights_concentration": [1.0, 5.0],
        "features_hidden": [32, 64, 128],
        "features_dropout": [0.5, 0.7],
        "features_scale": [0.3, 0.5],
        "hyperprior": [0.0, 0.001, 0.01],
        **_TRAINING,
    },
}
UNRATED = {"objectives": [2, 5, 10]}
RATED = {"objectives": [0, 3], "rating_power": [0.01, 0.03, 0.1, 0.3]}


def _baseline(draw: dict, rated: bool) -> ModelConfig:
    return ModelConfig(
        architecture="bradley_terry", head_size=draw["hidden"], head_dropout=draw["dropout"]
    )


def _vrm(draw: dict, rated: bool) -> ModelConfig:
    ratings = {"num_objectives": draw["objectives"]}
    if rated:
        ratings = {
            "extra_objectives": draw["objectives"],
            "rating_power": draw["rating_power"],
            "rating_likelihood": GaussianRatings(scale=1.0, learn_scale=False),
        }
    return network_config(
        weight_prior=ConditionalDirichletPrior(
            draw["weights_hidden"], 0.5, draw["weights_concentration"]
        ),
        feature_prior=ConditionalNormalPrior(
            draw["features_hidden"], draw["features_dropout"], draw["features_scale"]
        ),
        objective=draw["objective"],
        latent_dim=draw["latent_dim"],
        num_draws=4,
        reward_scale=3.0,
        hyperprior_weight=draw["hyperprior"],
        **ratings,
    )


def fit(
    config: ModelConfig,
    extra: dict,
    args: argparse.Namespace,
    data: dict,
    seed: int,
):
    """Train one model; return it with its validation log loss."""
    arguments = TrainArguments(
        output_dir=str(Path(args.work) / f"checkpoints-{args.part}"),
        early_stopping_patience=5,
        num_train_epochs=args.epochs,
        seed=seed,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=10_000,
        **extra,
    )
    result = train(config, arguments, data["train"], data["validation"])
    return result.loaded.model, result.metrics["eval_log_loss"]


def search(architecture: str, rated: bool, args: argparse.Namespace, data: dict) -> tuple:
    """Return the settings with the best validation log loss, and all results."""
    tried = {}
    own = args.baseline_trials if architecture == "bradley_terry" else None
    found = candidates(architecture, rated, own or args.trials)
    for name, (config, extra) in found.items():
        tried[name] = fit(config, extra, args, data, seed=100)[1]
        print(f"{architecture} {tried[name]:.4f} {name}", flush=True)
    best = min(tried, key=tried.__getitem__)
    print(f"{architecture} chosen: {best}", flush=True)
    return *found[best], {"tried": tried, "chosen": best}


def scaled(model, data: dict, chances: np.ndarray) -> np.ndarray:
    """Return probabilities after temperature scaling on validation pairs."""
    validation = data["validation"]
    raw = logit(np.clip(predict(model, validation).p_first, 1e-7, 1 - 1e-7))
    temperature = temperature_scale(raw, validation.preference, validation.pair_weight)
    return expit(logit(np.clip(chances, 1e-7, 1 - 1e-7)) / temperature)


def compare(runs: dict[str, list[np.ndarray]], prompt: np.ndarray, mask: np.ndarray) -> dict:
    """Return each model's metrics and the differences to VRM on the pairs of a mask."""
    prompt = prompt[mask]
    ones = np.ones(len(prompt))
    chances = {name: [p[mask] for p in values] for name, values in runs.items()}
    result: dict = {"n_pairs": int(mask.sum()), "n_prompts": len(np.unique(prompt))}
    for name, values in chances.items():
        each = [pair_metrics(p, ones, ones, prompt) for p in values]
        result[name] = {
            key: {
                "mean": float(np.mean([getattr(m, key).value for m in each])),
                "seed_sd": float(np.std([getattr(m, key).value for m in each])),
                "se": float(np.mean([getattr(m, key).standard_error for m in each])),
            }
            for key in ("accuracy", "log_loss", "brier", "ece", "accuracy_at_50")
        }
    for other in [name for name in chances if name != "vrm"]:
        differences = {}
        for key, function in (("log_loss", log_loss_values), ("accuracy", accuracy_values)):
            ours, theirs = (
                np.mean([function(p, ones) for p in chances[name]], axis=0)
                for name in ("vrm", other)
            )
            differences[key] = paired_bootstrap(ours, theirs, prompt)._asdict()

        def error(name: str):
            return lambda weight: float(
                np.mean([expected_calibration_error(p, ones, weight) for p in chances[name]])
            )

        differences["ece"] = paired_statistic(
            error("vrm"), error(other), ones, prompt, num_draws=300
        )._asdict()
        result[f"vrm - {other}"] = differences
    return result


def show(title: str, result: dict) -> None:
    """Print one comparison."""
    print(f"\n{title}: {result['n_pairs']} pairs of {result['n_prompts']} prompts")
    for name, values in result.items():
        if not isinstance(values, dict) or name == "search":
            continue
        if name.startswith("vrm - "):
            line = ", ".join(
                f"{key} {v['difference']:+.4f} [{v['lower']:+.4f}, {v['upper']:+.4f}]"
                for key, v in values.items()
            )
        else:
            line = ", ".join(
                f"{key} {v['mean']:.4f} (se {v['se']:.4f}, seeds {v['seed_sd']:.4f})"
                for key, v in values.items()
            )
        print(f"  {name}: {line}", flush=True)


def preferences(args: argparse.Namespace, data: Path, backbone) -> dict:
    """Run ``rmb`` + ``hh``."""
    sets = {}
    for split in SPLITS:
        table = load_table([str(data / name / f"{split}.jsonl.gz") for name in ("rmb", "hh")])
        sets[split] = write_store(table, backbone, Path(args.work) / f"rmb-hh-{split}")
    vrm, vrm_extra, vrm_search = search("vrm", False, args, sets)
    base, base_extra, base_search = search("bradley_terry", False, args, sets)
    runs: dict[str, list[np.ndarray]] = {"vrm": [], "bt": [], "bt_scaled": []}
    for seed in range(args.seeds):
        model, _ = fit(vrm, vrm_extra, args, sets, seed)
        runs["vrm"].append(predict(model, sets["test"]).p_first)
        model, _ = fit(base, base_extra, args, sets, seed)
        runs["bt"].append(predict(model, sets["test"]).p_first)
        runs["bt_scaled"].append(scaled(model, sets, runs["bt"][-1]))
    table = sets["test"].table()
    is_rmb = np.array([str(identity).startswith("rmb") for identity in table.pair_id])
    report = {"search": {"vrm": vrm_search, "bt": base_search}}
    for title, mask in (("pooled", np.ones(len(is_rmb), bool)), ("rmb", is_rmb), ("hh", ~is_rmb)):
        report[title] = compare(runs, table.pair_prompt, mask)
        show(title, report[title])
    return report


def part(store, table, prompts: np.ndarray, labels: int | None, seed: int) -> SimpleNamespace:
    """Return the states and rows of some prompts, with labels for some of the pairs."""
    chosen = np.zeros(table.num_prompts, bool)
    chosen[prompts] = True
    pairs = np.flatnonzero(chosen[table.pair_prompt])
    if labels is not None and labels < len(pairs):
        few = keep_labels(table.select_prompts(prompts), labels, seed)
        kept = set(few.pair_id)
        pairs = np.array([n for n in pairs if table.pair_id[n] in kept])
    ratings = np.where(chosen[table.response_prompt][:, None], table.ratings, np.nan)
    return SimpleNamespace(
        prompts=store.prompts,
        responses=store.responses,
        response_prompt=table.response_prompt,
        pair_first=table.pair_first[pairs],
        pair_second=table.pair_second[pairs],
        preference=table.preference[pairs],
        pair_weight=table.pair_weight[pairs],
        ratings=ratings,
        objectives=table.objectives,
        pairs=pairs,
    )


def with_true_ratings(logits: np.ndarray, table, fold: np.ndarray) -> np.ndarray:
    """Return probabilities from the baseline's logit and the *true* ratings of both answers.

    Cross-fitted logistic regression without intercept. A model that predicts ratings from the text
    cannot gain more from them, so the gain over the baseline bounds the value of ratings.
    """
    ratings = table.ratings
    difference = np.nan_to_num(ratings[table.pair_first] - ratings[table.pair_second])
    inputs = torch.from_numpy(np.column_stack([logits, difference / np.nanstd(ratings)]))
    target = torch.from_numpy(table.preference)
    held_fold, result = fold[table.pair_prompt], np.empty(len(logits))
    for test in np.unique(fold):
        rest = torch.from_numpy(held_fold != test)
        weight = torch.zeros(inputs.shape[1], dtype=inputs.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([weight], max_iter=200, line_search_fn="strong_wolfe")

        def loss(weight=weight, optimizer=optimizer, rest=rest):
            optimizer.zero_grad()
            value = torch.nn.functional.binary_cross_entropy_with_logits(
                inputs[rest] @ weight, target[rest], reduction="sum"
            )
            value = value + 0.5 * weight.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        with torch.no_grad():
            result[held_fold == test] = torch.sigmoid(inputs @ weight).numpy()[held_fold == test]
    return result


def folds(args: argparse.Namespace, data: Path, backbone, name: str, labels: int | None) -> dict:
    """Run a rated data set with folds by prompt over all its splits."""
    files = [
        str(data / name / f"{kind}{split}.jsonl.gz")
        for split in SPLITS
        for kind in ("", "ratings.")
    ]
    table = load_table(files, objectives=ERRORS if name == "cohere_feedback" else None)
    store = write_store(table, backbone, Path(args.work) / name)
    table = store.table()
    fold = fold_by_prompt(table, args.folds)
    runs = {
        key: [np.zeros(table.num_pairs) for _ in range(args.seeds)]
        for key in ("vrm", "bt", "bt_scaled")
    }
    chosen: dict = {}
    for test in range(args.folds):
        valid = (test + 1) % args.folds
        parts = {
            "train": part(
                store, table, np.flatnonzero((fold != test) & (fold != valid)), labels, test
            ),
            "validation": part(store, table, np.flatnonzero(fold == valid), None, test),
        }
        held = part(store, table, np.flatnonzero(fold == test), None, test)
        for key, architecture in (("vrm", "vrm"), ("bt", "bradley_terry")):
            if key not in chosen:
                chosen[key] = search(architecture, True, args, parts)
            config, extra, _ = chosen[key]
            for seed in range(args.seeds):
                model, _ = fit(config, extra, args, parts, seed)
                runs[key][seed][held.pairs] = predict(model, held).p_first
                if key == "bt":
                    raw = runs["bt"][seed][held.pairs]
                    runs["bt_scaled"][seed][held.pairs] = scaled(model, parts, raw)
    runs["bt_and_true_ratings"] = [
        with_true_ratings(logit(np.clip(p, 1e-7, 1 - 1e-7)), table, fold) for p in runs["bt"]
    ]
    title = f"{name}, {'all' if labels is None else labels} labelled pairs"
    report = compare(runs, table.pair_prompt, np.ones(table.num_pairs, bool))
    report["search"] = {key: value[2] for key, value in chosen.items()}
    show(title, report)
    return report


def main() -> None:
    """Run one part and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("part", choices=["preferences", "cohere_feedback", "hellobench"])
    parser.add_argument("--work", default="runs/real")
    parser.add_argument("--out", default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--labels", type=int, default=None, help="labelled training pairs")
    parser.add_argument("--pooling", default="auto")
    parser.add_argument(
        "--trials", type=int, default=12, help="number of settings tried for each model"
    )
    parser.add_argument(
        "--baseline-trials",
        type=int,
        default=0,
        help="number of settings for Bradley-Terry, if different",
    )
    parser.add_argument("--epochs", type=float, default=40)
    args = parser.parse_args()
    data = Path(os.environ["VRM_PYRO_DATA"])
    backbone = load_backbone(DEFAULT_BACKBONE, pooling=args.pooling, max_length=256)
    if args.part == "preferences":
        report = preferences(args, data, backbone)
    else:
        report = folds(args, data, backbone, args.part, args.labels)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
