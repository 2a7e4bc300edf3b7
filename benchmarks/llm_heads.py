"""Compare shipped configs on frozen states of a language model, with few and with all labels.

States come from ``benchmarks/llm_states.py``, run before on the same set and work folder. Five
folds by prompt: three train, one stops and scales, one is scored. With a number of labels, that
many training pairs are drawn; all ratings of the training prompts stay. Nothing is chosen on the
scored rows, and nothing is searched: each config is used as it is shipped. Differences in log loss
are from the first config, averaged over seeds, with standard errors over prompts. Finished cells
are kept, so an interrupted run resumes.

    VRM_PYRO_DATA=... python benchmarks/llm_heads.py cohere_feedback --work runs/llm_states \
        --objectives overall usefulness style detail clarity creativity confidence \
        --labels 250 500 1000 0 --out llm_heads.json
"""

import argparse
import tempfile
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
from cells import Cells
from emit import write_result
from llm_states import FOLDS, States, encode, pick, read_set
from tqdm import tqdm

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt
from vrm_pyro.diagnostics.metrics.pair_metrics import cluster_mean, log_loss_values
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.run.read_settings import read_settings
from vrm_pyro.training.train import train


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


def losses_of(
    table: PreferenceTable,
    states: tuple[np.ndarray, np.ndarray],
    folds: np.ndarray,
    config: str,
    labels: int,
    fold: int,
    seed: int,
) -> dict[str, Any]:
    """Train on three folds, stop on one; return p(first preferred) of the pairs of the last."""
    stop, test = folds == (fold + 1) % FOLDS, folds == fold
    with tempfile.TemporaryDirectory() as folder:
        settings = read_settings(
            config,
            {"train.output_dir": folder, "train.seed": seed, "train.use_cpu": True,
             "train.disable_tqdm": True},
        )  # fmt: skip
        rows = source(table, states, ~stop & ~test, labels, 1000 * fold + seed)
        result = train(settings.model, settings.arguments, rows, source(table, states, stop))
    p = predict(result.loaded.model, source(table, states, test)).p_first
    return {"p": p.tolist(), "steps": result.metrics["steps"]}


def main() -> None:
    """Measure one set, and write the results after each number of labels."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", help="folder under VRM_PYRO_DATA")
    parser.add_argument("--configs", nargs="+", default=["bradley_terry", "ratings"])
    parser.add_argument("--labels", type=int, nargs="+", default=[0], help="0 for all")
    parser.add_argument("--objectives", nargs="+", default=[], help="rated ones; none: all")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--layer", type=int, default=20, help="one that llm_states.py kept")
    parser.add_argument("--layers", type=int, nargs="+", default=[15, 20, 24, 27, 30])
    parser.add_argument("--pooling", default="last+mean")
    parser.add_argument("--length", type=int, default=512)
    parser.add_argument("--pairs", type=int, help="as given to llm_states.py")
    parser.add_argument("--work", default="runs/llm_states", help="folder of the states")
    parser.add_argument("--out", help="file of the results, JSON")
    args = parser.parse_args()

    table = read_set(args.set, args.pairs, tuple(args.objectives) or None)
    backbone = load_backbone("smollm2", pooling="last", layer=None, max_length=args.length)
    work = Path(args.work) / (args.set if args.pairs is None else f"{args.set}-{args.pairs}")
    identity = {"weights": backbone.weights_hash, "layers": args.layers}
    kept = States(work / "states" / Cells.name(identity))
    states = tuple(
        pick(kept.read([s.digest for s in part]), args.layers.index(args.layer), args.pooling)
        for part in encode(table, backbone, args.length)
    )
    folds = fold_by_prompt(table, FOLDS)
    cells = Cells(work / "heads")
    key = {**identity, "rows": table.content_hash(), "length": args.length, "layer": args.layer}
    key |= {"pooling": args.pooling}
    rows: list[dict[str, Any]] = []
    for labels in args.labels:
        found: dict[str, np.ndarray] = {}
        for config in args.configs:
            settings = read_settings(config, {"train.output_dir": "unused"})
            own = {k: v for k, v in settings.values.items() if k in ("model", "train")}
            losses = np.zeros((args.seeds, table.num_pairs))
            right = np.zeros((args.seeds, table.num_pairs))
            for seed in tqdm(range(args.seeds), desc=f"{config}, {labels or 'all'} labels"):
                for fold in range(FOLDS):
                    run = partial(losses_of, table, states, folds, config, labels, fold, seed)
                    cell = {**key, "settings": str(own), "labels": labels}
                    cell |= {"fold": fold, "seed": seed}
                    p = np.array(cells.get(cell, run)["p"])
                    pairs = folds[table.pair_prompt] == fold
                    losses[seed, pairs] = log_loss_values(p, table.preference[pairs])
                    right[seed, pairs] = (p > 0.5) == (table.preference[pairs] > 0.5)
            found[config] = losses.mean(0)
            prompt = table.pair_prompt
            first = found[args.configs[0]]
            change = cluster_mean(found[config] - first, table.pair_weight, prompt)
            level = cluster_mean(found[config], table.pair_weight, prompt)
            rows.append(
                {
                    "set": args.set, "labels": labels or "all", "config": config,
                    "accuracy": float(right.mean()), "log_loss": level.value,
                    "log_loss_se": level.standard_error, "difference": change.value,
                    "difference_se": change.standard_error,
                    "sd_over_seeds": float(losses.mean(1).std(ddof=1)) if args.seeds > 1 else None,
                }
            )  # fmt: skip
            print(rows[-1], flush=True)
        write_result({"rows": rows, "seeds": args.seeds}, args.out)


if __name__ == "__main__":
    main()
