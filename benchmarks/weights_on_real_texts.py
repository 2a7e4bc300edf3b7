"""Test whether weights are recovered from prompts: real texts and ratings, simulated labels.

Prompts, responses and ratings are those of ``hellobench/ratings.*``. Each pair of a prompt with
any rating difference gets a label from Bradley-Terry: ``beta`` times the rating difference,
weighted with the published weights of the prompt's category. Objectives that a category does not
use have weight 0. The model never sees a category: E[w | prompt] on test prompts depends on the
text of the prompt alone.

    VRM_PYRO_DATA=... python benchmarks/weights_on_real_texts.py --work runs/weights --out out.json
"""

import argparse
import gzip
import json
import os
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from emit import write_result
from networks import network_config
from scipy.special import expit
from scipy.stats import spearmanr

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import check_label_identification, load_table
from vrm_pyro.diagnostics.metrics.identification import weight_standard_errors
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.priors import (
    ConditionalNormalPrior,
    KernelDirichletPrior,
    ShrinkageDirichletPrior,
    WeightPrior,
)
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE, ModelConfig
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.preparation import rated_objectives
from vrm_pyro.training.train import train

SPLITS = ("train", "validation", "test")


def read_gz(path: Path) -> list[dict]:
    """Return the rows of a gzipped JSONL file."""
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def category(row: dict) -> str:
    """Return the category of a row: its subset without the task prefix."""
    return row["subset"].split("/", 1)[1]


def weights_of(data: Path) -> dict[str, dict[str, float]]:
    """Return the published weights of each category, summing to 1."""
    published = json.loads((data / "hellobench" / "objective_weights.json").read_text("utf-8"))
    return {
        name: {key: value / 100 for key, value in entry["weights"].items()}
        for name, entry in published.items()
    }


def make_rows(data: Path, out: Path) -> None:
    """Write one JSONL file per split: all pairs of a prompt with any rating difference.

    Labels are placeholders of 1/2; :func:`labelled` draws them.
    """
    for split in SPLITS:
        by_prompt: dict[str, list[dict]] = {}
        for row in read_gz(data / "hellobench" / f"ratings.{split}.jsonl.gz"):
            by_prompt.setdefault(json.dumps(row["prompt"]), []).append(row)
        with (out / f"{split}.jsonl").open("w", encoding="utf-8") as file:
            for rows in by_prompt.values():
                for first, second in combinations(rows, 2):
                    names = first["ratings"].keys() | second["ratings"].keys()
                    same = all(first["ratings"].get(k) == second["ratings"].get(k) for k in names)
                    if same or first["response"] == second["response"]:
                        continue
                    row = {
                        "prompt": first["prompt"],
                        "chosen": first["response"],
                        "rejected": second["response"],
                        "preference": 0.5,
                        "chosen_ratings": first["ratings"],
                        "rejected_ratings": second["ratings"],
                        "subset": first["subset"],
                    }
                    file.write(json.dumps(row) + "\n")


def stores(data: Path, work: Path, backbone_name: str) -> dict:
    """Return the three feature stores; encode those that do not exist yet."""
    rows = work / "rows"
    if not (rows / "done").exists():
        rows.mkdir(parents=True, exist_ok=True)
        make_rows(data, rows)
        (rows / "done").touch()
    backbone = load_backbone(backbone_name, max_length=256)
    names: tuple[str, ...] | None = None
    found = {}
    for split in SPLITS:
        table = load_table(str(rows / f"{split}.jsonl"), objectives=names)
        names = names or tuple(
            name
            for k, name in enumerate(table.objectives)
            if not np.isnan(table.ratings[:, k]).all()
        )
        if table.objectives != names:
            table = load_table(str(rows / f"{split}.jsonl"), objectives=names)
        found[split] = write_store(table, backbone, rows / f"features-{split}")
    return found


def labelled(store, target: np.ndarray, beta: float, seed: int) -> SimpleNamespace:
    """Return a store's arrays with labels from Bradley-Terry on the true weights (P, K)."""
    table = store.table()
    ratings = np.nan_to_num(table.ratings)
    difference = ratings[table.pair_first] - ratings[table.pair_second]
    delta = beta * (target[table.pair_prompt] * difference).sum(1)
    draws = np.random.default_rng(seed).random(len(delta))
    return SimpleNamespace(
        prompts=store.prompts,
        responses=store.responses,
        response_prompt=table.response_prompt,
        pair_first=table.pair_first,
        pair_second=table.pair_second,
        preference=(draws < expit(delta)).astype(float),
        pair_weight=table.pair_weight,
        ratings=table.ratings,
        objectives=table.objectives,
    )


def truth(store, weights: dict[str, dict[str, float]]) -> tuple:
    """Return published weights (P, K), which are rated (P, K), and the categories (P,)."""
    table = store.table()
    names = tuple(store.objectives)
    kinds = np.empty(table.num_prompts, dtype=object)
    for pair, subset in zip(table.pair_prompt, table.pair_subset, strict=True):
        kinds[pair] = subset.split("/", 1)[1]
    target = np.array([[weights[kind].get(name, 0.0) for name in names] for kind in kinds])
    return target, rated_objectives(store), kinds


def compare(
    expected: np.ndarray, target: np.ndarray, rated: np.ndarray, kinds: np.ndarray
) -> dict:
    """Return the error relative to uniform weights on rated objectives, and rank agreement."""
    uniform = rated / rated.sum(1, keepdims=True)
    error, base = np.abs(expected - target), np.abs(uniform - target)
    rank = np.array(
        [
            spearmanr(expected[i, rated[i]], target[i, rated[i]]).statistic
            for i in range(len(target))
        ]
    )
    per_kind = [np.nanmean(rank[kinds == kind]) for kind in sorted(set(kinds))]
    prompts = error.mean(1) / base.mean()
    return {
        "mae": float(error.mean()),
        "mae_uniform": float(base.mean()),
        "ratio": float(error.mean() / base.mean()),
        "ratio_se": float(prompts.std(ddof=1) / len(prompts) ** 0.5),
        "ratio_rated_only": float(error[rated].mean() / base[rated].mean()),
        "weight_on_unrated": float((expected * ~rated).sum(1).mean()),
        "median_spearman": float(np.nanmedian(per_kind)),
        "median_spearman_prompts": float(np.nanmedian(rank)),
        "categories": len(per_kind),
        "prompts": len(target),
    }


def identification(store, target: np.ndarray, kinds: np.ndarray, beta: float) -> dict:
    """Return the standard errors of each category's weights with known ratings (spec 2.8)."""
    table = store.table()
    result = {}
    for kind in sorted(set(kinds)):
        used = np.flatnonzero(target[kinds == kind][0] > 0)
        pairs = np.flatnonzero(kinds[table.pair_prompt] == kind)
        ratings = np.nan_to_num(table.ratings[:, used])
        difference = ratings[table.pair_first[pairs]] - ratings[table.pair_second[pairs]]
        errors = weight_standard_errors(difference, target[kinds == kind][0][used], beta)
        result[kind] = {
            "pairs": len(pairs),
            "se": [float(x) for x in errors.weights],
            "condition": float(errors.condition),
        }
    return result


def weight_prior(args: argparse.Namespace) -> WeightPrior:
    """Return the prior of the weights: as shipped, or the kernel prior as set."""
    if args.prior == "shrinkage":
        return ShrinkageDirichletPrior()
    return KernelDirichletPrior(args.centres, args.bandwidth, args.relevance, args.concentration)


def settings(args: argparse.Namespace, scale: float) -> tuple[ModelConfig, TrainArguments]:
    """Return the settings: identity scores, near-exact ratings, and the prior over weights."""
    config = network_config(
        objective="integrated",
        num_draws=2,
        scores="identity",
        latent_dim=0,
        rating_likelihood=GaussianRatings(scale=0.02, learn_scale=False),
        reward_scale=args.beta * scale,
        hyperprior_weight=0.0,
        weight_prior=weight_prior(args),
        feature_prior=ConditionalNormalPrior(128, 0.3, 1.0, learn_scale=False),
    )
    arguments = TrainArguments(
        output_dir=str(Path(args.work) / "model"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=32,
        learning_rate=args.learning_rate,
        weight_decay=args.weight_decay,
        max_grad_norm=1000.0,
        lr_scheduler_type="cosine",
        # No early stopping: 34 validation prompts are too few to compare epochs.
        load_best_model_at_end=False,
        early_stopping_patience=0,
        seed=args.train_seed,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=1000,
    )
    return config, arguments


def with_known_kind(train, test_kinds: np.ndarray, train_kinds: np.ndarray, beta: float):
    """Return weights (P, K) by maximum likelihood per category: the limit that labels allow.

    It uses the category, the true ratings and the true beta. A category without training prompts
    gets uniform weights.
    """
    ratings = np.nan_to_num(train.ratings)
    difference = ratings[train.pair_first] - ratings[train.pair_second]
    prompt = train.response_prompt[train.pair_first]
    result = np.full((len(test_kinds), ratings.shape[1]), 1 / ratings.shape[1])
    for kind in set(test_kinds) & set(train_kinds):
        pairs = train_kinds[prompt] == kind
        used = difference[pairs].any(0)
        inputs = torch.from_numpy(beta * difference[pairs][:, used])
        target = torch.from_numpy(train.preference[pairs])
        logits = torch.zeros(int(used.sum()), dtype=inputs.dtype, requires_grad=True)
        optimizer = torch.optim.LBFGS([logits], max_iter=200, line_search_fn="strong_wolfe")

        def loss(inputs=inputs, target=target, logits=logits, optimizer=optimizer):
            optimizer.zero_grad()
            value = torch.nn.functional.binary_cross_entropy_with_logits(
                inputs @ torch.softmax(logits, 0), target, reduction="sum"
            )
            value = value + 0.05 * logits.square().sum()
            value.backward()
            return value

        optimizer.step(loss)
        found = np.zeros(ratings.shape[1])
        found[used] = torch.softmax(logits, 0).detach().numpy()
        result[test_kinds == kind] = found
    return result


def main() -> None:
    """Make the data set, train, and print how well weights are recovered."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/weights")
    parser.add_argument("--out", default=None)
    parser.add_argument("--beta", type=float, default=30.0)
    parser.add_argument(
        "--seeds", type=int, default=5, help="number of label draws, each with its own training"
    )
    parser.add_argument("--prior", choices=["kernel", "shrinkage"], default="kernel")
    parser.add_argument("--backbone", default=DEFAULT_BACKBONE)
    parser.add_argument("--centres", type=int, default=32)
    parser.add_argument("--bandwidth", type=float, default=0.1)
    parser.add_argument("--relevance", type=float, default=1.0)
    parser.add_argument("--concentration", type=float, default=40.0)
    parser.add_argument("--learning-rate", type=float, default=4e-3)
    parser.add_argument("--weight-decay", type=float, default=0.0)
    parser.add_argument("--epochs", type=float, default=20)
    args = parser.parse_args()
    data = Path(os.environ["VRM_PYRO_DATA"])
    found = stores(data, Path(args.work), args.backbone)
    published = weights_of(data)
    target, rated, kinds = {}, {}, {}
    for split in SPLITS:
        target[split], rated[split], kinds[split] = truth(found[split], published)
    check = check_label_identification(load_table(str(data / "hellobench" / "train.jsonl.gz")))
    report: dict = {
        "train_pairs": len(found["train"].pair_first),
        "own_labels_function_of_ratings": {"share": check.share, "warns": check.is_function},
        "standard_errors": identification(
            found["train"], target["train"], kinds["train"], args.beta
        ),
        "runs": [],
    }
    scale = float(np.nanstd(np.asarray(found["train"].ratings)))
    for seed in range(args.seeds):
        args.train_seed = seed
        sources = {
            split: labelled(found[split], target[split], args.beta, 1000 * seed + k)
            for k, split in enumerate(SPLITS)
        }
        config, arguments = settings(args, scale)
        result = train(config, arguments, sources["train"], sources["validation"])
        model = result.loaded.model
        run: dict = {
            "beta": float(model.reward().scale) / scale,
            "steps": result.metrics["steps"],
        }
        for split in ("test", "validation"):
            rows = np.arange(len(target[split]))
            prompts = torch.from_numpy(np.asarray(found[split].prompts[rows]))
            with torch.no_grad():
                expected = model.predictive_weights(prompts).mean.numpy()
            run[split] = compare(expected, target[split], rated[split], kinds[split])
        known = with_known_kind(sources["train"], kinds["test"], kinds["train"], args.beta)
        run["kind_known"] = compare(known, target["test"], rated["test"], kinds["test"])
        report["runs"].append(run)
        print(json.dumps(run), flush=True)
    for part in ("test", "validation", "kind_known"):
        report[part] = {}
        for key in ("ratio", "ratio_rated_only", "weight_on_unrated", "median_spearman"):
            values = [run[part][key] for run in report["runs"]]
            report[part][key] = {"mean": float(np.mean(values)), "sd": float(np.std(values))}
            print(part, key, report[part][key])
    write_result(report, args.out)


if __name__ == "__main__":
    main()
