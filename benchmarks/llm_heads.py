"""Compare shipped configs on frozen states of a language model, with few and with all labels.

States come from ``benchmarks/llm_states.py``, run before on the same set and work folder. Five
folds by prompt: three train, one stops, scales and chooses among trials, one is scored. With a
number of labels, that many training pairs are drawn; all ratings of the training prompts stay.
Nothing is chosen on the scored rows. A config is used as it is shipped, or is the best of
``--trials`` settings of each fold: the shipped ones and random draws from the search space
``heads``, by log loss on the stopping fold. A choice is made at the first seed and trained again
for the others. Finished cells are kept, so an interrupted run resumes.

A variant of a config is written NAME:KEY=VALUE,KEY=VALUE. Differences in log loss are from the
first config, averaged over seeds, with a paired bootstrap over prompts.

    VRM_PYRO_DATA=... python benchmarks/llm_heads.py cohere_feedback --work runs/llm_states \
        --objectives overall usefulness style detail clarity creativity confidence \
        --labels 250 500 1000 0 --trials bradley_terry=30 --out llm_heads.json
"""

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optuna
import yaml
from cells import Cells
from emit import write_result
from llm_states import FOLDS, States, encode, pick, read_set
from tqdm import tqdm

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy_at_50,
    cluster_mean,
    ece,
    log_loss_values,
)
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.run.read_settings import read_settings
from vrm_pyro.training.search.space import read_spaces
from vrm_pyro.training.train import TrainResult, train

Variant = tuple[str, dict[str, Any]]
"""Name of a shipped config, and its changed settings by dotted key."""


def source(
    table: PreferenceTable,
    states: tuple[np.ndarray, np.ndarray],
    prompts: np.ndarray,
    labels: int = 0,
    seed: int = 0,
) -> SimpleNamespace:
    """Return states and rows of some prompts, with ``labels`` pairs drawn; 0 for all."""
    part = table.select_prompts(prompts)
    kept = np.arange(part.num_pairs)
    if 0 < labels < len(kept):
        kept = np.sort(np.random.default_rng(seed).permutation(len(kept))[:labels])
    chosen = prompts[table.response_prompt]
    return SimpleNamespace(
        prompts=states[0][prompts],
        responses=states[1][chosen],
        response_prompt=part.response_prompt,
        pair_first=part.pair_first[kept],
        pair_second=part.pair_second[kept],
        preference=part.preference[kept],
        pair_weight=part.pair_weight[kept],
        ratings=part.ratings,
        objectives=part.objectives,
    )


def fitted(variant: Variant, seed: int, train_rows: Any, stop_rows: Any) -> TrainResult:
    """Train a variant of a shipped config."""
    config, changes = variant
    with tempfile.TemporaryDirectory() as folder:
        own = {"train.output_dir": folder, "train.seed": seed, "train.use_cpu": True}
        settings = read_settings(config, changes | own | {"train.disable_tqdm": True})
        return train(settings.model, settings.arguments, train_rows, stop_rows)


def losses_of(
    table: PreferenceTable,
    states: tuple[np.ndarray, np.ndarray],
    folds: np.ndarray,
    variant: Variant,
    labels: int,
    fold: int,
    seed: int,
) -> dict[str, Any]:
    """Train on three folds, stop on one; return p(first preferred) of the pairs of the last."""
    stop, test = folds == (fold + 1) % FOLDS, folds == fold
    rows = source(table, states, ~stop & ~test, labels, 1000 * fold + seed)
    held = source(table, states, stop)
    result = fitted(variant, seed, rows, held)
    p_stop = predict(result.loaded.model, held).p_first
    loss = np.average(log_loss_values(p_stop, held.preference), weights=held.pair_weight)
    p = predict(result.loaded.model, source(table, states, test)).p_first
    return {"p": p.tolist(), "steps": result.metrics["steps"], "validation": float(loss)}


def draw_settings(config: str, number: int) -> list[dict[str, Any]]:
    """Return changes of a config to try: none first, then random ones, the same every time."""
    space = read_spaces("heads", [config])[config]
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    return [{}, *(space.suggest(study.ask()) for _ in range(number - 1))]


def read_variant(text: str) -> Variant:
    """Read NAME:KEY=VALUE,KEY=VALUE."""
    config, _, changes = text.partition(":")
    pairs = (change.split("=", 1) for change in changes.split(",") if change)
    return config, {key: yaml.safe_load(value) for key, value in pairs}


def add_state_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which states are read, and where results go."""
    parser.add_argument("--objectives", nargs="+", default=[], help="rated ones; none: all")
    parser.add_argument("--layer", type=int, default=20, help="one that llm_states.py kept")
    parser.add_argument("--layers", type=int, nargs="+", default=[15, 20, 24, 27, 30])
    parser.add_argument("--pooling", default="last+mean")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--work", default="runs/llm_states", help="folder of the states")
    parser.add_argument("--out", help="file of the results, JSON")


def read_states(
    args: argparse.Namespace, table: PreferenceTable, work: Path
) -> tuple[tuple[np.ndarray, np.ndarray], dict[str, Any]]:
    """Return states of prompts and responses that ``llm_states.py`` kept, and what they are."""
    backbone = load_backbone("smollm2", pooling="last", layer=None, max_length=args.length)
    identity = {"weights": backbone.weights_hash, "layers": args.layers}
    kept = States(work / "states" / Cells.name(identity))
    prompts, responses = (
        pick(kept.read([s.digest for s in part]), args.layers.index(args.layer), args.pooling)
        for part in encode(table, backbone, args.length)
    )
    key = {**identity, "rows": table.content_hash(), "length": args.length, "layer": args.layer}
    return (prompts, responses), key | {"pooling": args.pooling}


def best_of(variant: Variant, trials: int, run: Callable[[Variant], float]) -> Variant:
    """Return the variant, of ``trials`` settings, with the lowest validation loss."""
    if trials == 1:
        return variant
    config, changes = variant
    tried = [(config, drawn | changes) for drawn in draw_settings(config, trials)]
    found = [run(each) for each in tqdm(tried, desc=f"trials of {config}", leave=False)]
    return tried[int(np.argmin(found))]


def summary(
    p: np.ndarray, base: np.ndarray | None, table: PreferenceTable
) -> tuple[dict[str, Any], np.ndarray]:
    """Return statistics of p(first preferred), shape (seeds, pairs), and the loss of each pair."""
    weight, prompt, preference = table.pair_weight, table.pair_prompt, table.preference
    losses = np.stack([log_loss_values(each, preference) for each in p])
    level = cluster_mean(losses.mean(0), weight, prompt)
    right = [(each > 0.5) == (preference > 0.5) for each in p]
    row: dict[str, Any] = {
        "accuracy": float(np.mean([np.average(each, weights=weight) for each in right])),
        "log_loss": level.value,
        "log_loss_se": level.standard_error,
        "ece": float(np.mean([ece(each, preference, weight, prompt).value for each in p])),
        "surest_half": float(
            np.mean([accuracy_at_50(each, preference, weight, prompt).value for each in p])
        ),
        "sd_over_seeds": float(losses.mean(1).std(ddof=1)) if len(p) > 1 else None,
    }
    if base is not None:
        change = paired_bootstrap(losses.mean(0), base, prompt, weight=weight)
        row |= {"difference": change.difference, "limits": [change.lower, change.upper]}
    return row, losses.mean(0)


def measure(args: argparse.Namespace, trials: Mapping[str, int]) -> list[dict[str, Any]]:
    """Train every config with every number of labels; write results after each."""
    table = read_set(args.set, args.pairs, tuple(args.objectives) or None)
    work = Path(args.work) / (args.set if args.pairs is None else f"{args.set}-{args.pairs}")
    states, key = read_states(args, table, work)
    folds = fold_by_prompt(table, FOLDS)
    cells = Cells(work / "heads")

    def cell(variant: Variant, labels: int, fold: int, seed: int) -> dict[str, Any]:
        settings = read_settings(variant[0], variant[1] | {"train.output_dir": "unused"})
        own = {k: v for k, v in settings.values.items() if k in ("model", "train")}
        name = key | {"settings": str(own), "labels": labels, "fold": fold, "seed": seed}
        return cells.get(
            name, lambda: losses_of(table, states, folds, variant, labels, fold, seed)
        )

    rows: list[dict[str, Any]] = []
    for labels in args.labels:
        base = None
        for text in args.configs:
            p = np.zeros((args.seeds, table.num_pairs))
            given, number = read_variant(text), trials.get(text, 1)
            chosen = []
            for fold in tqdm(range(FOLDS), desc=f"{text}, {labels or 'all'} labels"):
                variant = best_of(
                    given,
                    number,
                    lambda each, at=(labels, fold): cell(each, *at, seed=0)["validation"],
                )
                chosen.append(variant[1])
                scored = folds[table.pair_prompt] == fold
                for seed in range(args.seeds):
                    p[seed, scored] = cell(variant, labels, fold, seed)["p"]
            row, losses = summary(p, base, table)
            base = losses if base is None else base
            about = {"set": args.set, "labels": labels or "all", "config": text, "trials": number}
            rows.append(about | row | {"chosen": chosen if number > 1 else None})
            print(json.dumps(rows[-1]), flush=True)
        write_result({"rows": rows, "seeds": args.seeds}, args.out)
    return rows


def main() -> None:
    """Measure one set, and write the results after each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", help="folder under VRM_PYRO_DATA")
    parser.add_argument("--configs", nargs="+", default=["bradley_terry", "ratings"])
    parser.add_argument("--labels", type=int, nargs="+", default=[0], help="0 for all")
    parser.add_argument("--trials", nargs="+", default=[], help="CONFIG=NUMBER; 1 when omitted")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pairs", type=int, help="as given to llm_states.py")
    add_state_options(parser)
    args = parser.parse_args()
    numbers = (text.rsplit("=", 1) for text in args.trials)
    measure(args, {name: int(number) for name, number in numbers})


if __name__ == "__main__":
    main()
