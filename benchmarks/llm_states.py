"""Compare layers, poolings and lengths of a language model's states on preferences and ratings.

Each set is read with all its splits, and its texts are run once per length: one forward pass gives
the states of several layers with all poolings. Texts that a shorter length did not cut are not run
again. A state of a layer is what the model gives when the layers above are dropped: the layer's
output through the final norm.

On each combination, with five folds by prompt and frozen states:

- a linear Bradley-Terry model of the response states, L2 chosen by log loss on an inner fold:
  accuracy and log loss with standard errors over prompts, and the difference in log loss from the
  reference (last layer, last token, first length given), paired by prompt;
- a ridge regression of each rated objective, its penalty chosen on the inner fold: held-out R^2.

States are kept in parts under the work folder, so an interrupted run resumes where it stopped; so
are the results of each combination. ``seconds`` is estimated: packed tokens of a length times the
median time of a token, times the share of the layers that run.

    VRM_PYRO_DATA=... python benchmarks/llm_states.py cohere_feedback --work runs/llm_states \
        --out llm_states.json
"""

import argparse
import itertools
import os
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cells import Cells
from emit import write_result
from scipy.optimize import minimize
from scipy.special import expit
from tqdm import tqdm

from vrm_pyro.atomic import write_file
from vrm_pyro.backbone import (
    TransformerBackbone,
    load_backbone,
    make_rows,
    pad_rows,
    token_batches,
)
from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt, load_table
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy_values,
    cluster_mean,
    log_loss_values,
)

SPLITS = ("train", "validation", "test")
POOLED = ("last", "mean", "response_mean")
POOLINGS = (*POOLED, "last+mean")
FOLDS = 5
PENALTIES = tuple(float(10.0**power) for power in np.arange(5.0, 0.5, -0.5))
PART_SECONDS = 60.0


class Taps:
    """Keep the output of some layers of a decoder, through its final norm, at each forward pass.

    Args:
        model: A decoder with ``layers`` and ``norm``.
        layers: Numbers of layers, from 1.
    """

    def __init__(self, model: Any, layers: list[int]) -> None:
        self.states: dict[int, torch.Tensor] = {}

        def keep(layer: int) -> Any:
            def hook(_module: Any, _inputs: Any, output: Any) -> None:
                hidden = output[0] if isinstance(output, tuple) else output
                self.states[layer] = model.norm(hidden).float()

            return hook

        for layer in layers:
            model.layers[layer - 1].register_forward_hook(keep(layer))


class States:
    """States by the digest of the token sequence, in parts on disk.

    Args:
        folder: Folder of the parts.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.place: dict[bytes, tuple[int, int]] = {}
        self.parts = 0
        for part in sorted(folder.glob("part-*.npz")):
            with np.load(part) as held:
                self._index(held["digests"])

    def add(self, digests: list[bytes], states: np.ndarray) -> None:
        """Write a part: states of shape (sequences, layers, poolings, hidden)."""
        packed = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16)
        path = self.folder / f"part-{self.parts:05d}.npz"
        with write_file(path) as partial, open(partial, "wb") as file:
            np.savez(file, digests=packed, states=states.astype(np.float16))
        self._index(packed)

    def _index(self, digests: np.ndarray) -> None:
        for row, digest in enumerate(digests):
            self.place[digest.tobytes()] = (self.parts, row)
        self.parts += 1

    def read(self, digests: list[bytes]) -> np.ndarray:
        """Return the states of sequences, float16, shape (sequences, layers, poolings, hidden)."""
        places = np.array([self.place[digest] for digest in digests])
        found = None
        for part in np.unique(places[:, 0]):
            with np.load(self.folder / f"part-{part:05d}.npz") as held:
                states = held["states"]
            if found is None:
                found = np.empty((len(digests), *states.shape[1:]), states.dtype)
            chosen = places[:, 0] == part
            found[chosen] = states[places[chosen, 1]]
        assert found is not None
        return found


def encode(
    table: PreferenceTable, backbone: TransformerBackbone, length: int
) -> tuple[list, list]:
    """Return the token sequences of prompts and of responses, cut at a length."""
    cut = backbone.with_max_length(length)
    return (
        cut.sequences(table.prompts),
        cut.sequences(table.prompts, table.responses, table.response_prompt),
    )


def compute(
    table: PreferenceTable,
    backbone: TransformerBackbone,
    length: int,
    layers: list[int],
    states: States,
    taps: Taps,
) -> dict[str, float]:
    """Compute the states of all texts at a length that no earlier length gave; return its cost."""
    prompts, responses = encode(table, backbone, length)
    every = [*prompts, *responses]
    owner = np.concatenate([np.arange(len(prompts)), table.response_prompt])
    budget = max(backbone.token_budget, length)
    packed = make_rows(every, owner, "last", True, budget)
    tokens = sum(len(row) for row in packed)
    new: dict[bytes, int] = {}
    for i, sequence in enumerate(every):
        if sequence.digest not in states.place:
            new.setdefault(sequence.digest, i)
    chosen = list(new.values())
    sequences = [every[i] for i in chosen]
    rows = {
        pooling: make_rows(sequences, owner[chosen], pooling, True, budget) for pooling in POOLED
    }
    groups = token_batches([len(row) for row in rows["last"]], backbone.token_budget)
    rates: list[float] = []
    digests: list[bytes] = []
    held: list[np.ndarray] = []
    saved = time.monotonic()
    for number, group in enumerate(tqdm(groups, desc=f"length {length}", mininterval=10)):
        started = time.monotonic()
        batches = {p: pad_rows([rows[p][r] for r in group], backbone.pad_id) for p in POOLED}
        with torch.inference_mode():
            backbone.row_states(batches["last"])
            pooled = [
                torch.stack([batches[p].pool(taps.states[layer], p) for p in POOLED], 1)
                for layer in layers
            ]
        held.append(torch.stack(pooled, 1).numpy())
        digests += [sequences[i].digest for i in batches["last"].states.tolist()]
        rates.append((time.monotonic() - started) / sum(len(rows["last"][r]) for r in group))
        if time.monotonic() - saved > PART_SECONDS or number == len(groups) - 1:
            states.add(digests, np.concatenate(held))
            digests, held, saved = [], [], time.monotonic()
    return {"tokens": tokens, "seconds_per_token": float(np.median(rates)) if rates else 0.0}


def standardized(train: np.ndarray, *others: np.ndarray) -> list[np.ndarray]:
    """Return arrays in units of the training rows' standard deviation, centred on their mean."""
    mean, scale = train.mean(0), train.std(0) + 1e-6
    return [((x - mean) / scale) for x in (train, *others)]


def bradley_terry(x: np.ndarray, y: np.ndarray, penalty: float, start: np.ndarray) -> np.ndarray:
    """Return the weights of a logistic regression without intercept."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        logits = x @ w
        value = np.logaddexp(0, logits).sum() - y @ logits + 0.5 * penalty * (w @ w)
        return float(value), x.T @ (expit(logits) - y) + penalty * w

    found = minimize(loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 200})
    return np.asarray(found.x)


def preferences(
    table: PreferenceTable, states: np.ndarray, folds: np.ndarray
) -> dict[str, np.ndarray]:
    """Return held-out probabilities of all pairs, and the penalty chosen in each fold."""
    prompt = table.response_prompt[table.pair_first]
    fold, y = folds[prompt], table.preference
    p = np.empty(table.num_pairs)
    penalties = []
    for test in range(FOLDS):
        inner = (test + 1) % FOLDS
        fit, check = (fold != test) & (fold != inner), fold == inner
        scaled = standardized(states[np.unique(table.pair_first[fold != test])], states)[1]
        x = scaled[table.pair_first] - scaled[table.pair_second]
        w, scores = np.zeros(x.shape[1]), {}
        for penalty in PENALTIES:  # each starts from the one before, which is stronger
            w = bradley_terry(x[fit], y[fit], penalty, w)
            scores[penalty] = log_loss_values(expit(x[check] @ w), y[check]).mean()
            if scores[penalty] > min(scores.values()) + 0.01:
                break
        best = min(scores, key=scores.__getitem__)
        w = bradley_terry(x[fit | check], y[fit | check], best, np.zeros(x.shape[1]))
        p[fold == test] = expit(x[fold == test] @ w)
        penalties.append(best)
    return {"p": p, "penalties": np.array(penalties)}


def ratings(table: PreferenceTable, states: np.ndarray, folds: np.ndarray) -> dict[str, float]:
    """Return the held-out R^2 of a ridge regression of each rated objective.

    Objectives rated on the same responses share the work.
    """
    fold = folds[table.response_prompt]
    groups: dict[bytes, list[int]] = {}
    for k in range(len(table.objectives)):
        groups.setdefault((~np.isnan(table.ratings[:, k])).tobytes(), []).append(k)
    found = {}
    for columns in groups.values():
        y = table.ratings[:, columns]
        rated = ~np.isnan(y[:, 0])
        if len(np.unique(fold[rated])) < FOLDS:
            continue
        errors, totals = np.zeros(len(columns)), np.zeros(len(columns))
        for test in range(FOLDS):
            inner = (test + 1) % FOLDS
            fit, check = rated & (fold != test) & (fold != inner), rated & (fold == inner)
            inner_errors = (ridge(states[fit], y[fit], states[check]) - y[check]) ** 2
            best = inner_errors.mean(axis=1).argmin(axis=0)
            train, held = rated & (fold != test), rated & (fold == test)
            predicted = ridge(states[train], y[train], states[held])
            predicted = predicted[best, :, np.arange(len(columns))].T
            errors += ((predicted - y[held]) ** 2).sum(0)
            totals += ((y[train].mean(0) - y[held]) ** 2).sum(0)
        names = [table.objectives[k] for k in columns]
        found |= dict(zip(names, (1 - errors / totals).tolist(), strict=True))
    return found


def ridge(x: np.ndarray, y: np.ndarray, new: np.ndarray) -> np.ndarray:
    """Return predictions with each penalty, shape (penalties, rows, objectives)."""
    x, new = standardized(x, new)
    values, vectors = np.linalg.eigh(x.T @ x)
    target, seen = (x @ vectors).T @ (y - y.mean(0)), new @ vectors
    return np.stack([seen @ (target / (values + a)[:, None]) for a in PENALTIES]) + y.mean(0)


def measure(table: PreferenceTable, states: np.ndarray, folds: np.ndarray) -> dict[str, Any]:
    """Return the measures of one combination, with the log loss of each pair."""
    found = preferences(table, states, folds)
    losses = log_loss_values(found["p"], table.preference)
    prompt = table.response_prompt[table.pair_first]
    result: dict[str, Any] = {"r2": ratings(table, states, folds)}
    hits = accuracy_values(found["p"], table.preference)
    for name, values in (("accuracy", hits), ("log_loss", losses)):
        estimate = cluster_mean(values, table.pair_weight, prompt)
        result |= {name: estimate.value, f"{name}_se": estimate.standard_error}
    return result | {"penalties": found["penalties"].tolist(), "losses": losses.tolist()}


def pick(states: np.ndarray, layer: int, pooling: str) -> np.ndarray:
    """Return the states of a layer with a pooling, float32, shape (sequences, hidden)."""
    names = pooling.split("+")
    chosen = [states[:, layer, POOLED.index(name)] for name in names]
    return np.concatenate(chosen, axis=1).astype(np.float32)


def read_set(
    name: str, pairs: int | None, objectives: tuple[str, ...] | None = None
) -> PreferenceTable:
    """Return the comparisons of all splits of a set, or those of the first prompts of a part.

    Args:
        name: Folder of the set.
        pairs: Most pairs of a part; None for all.
        objectives: Rated objectives to keep; None for all.
    """
    root = Path(os.environ["VRM_PYRO_DATA"])
    table = load_table(
        [str(root / name / f"{split}.jsonl.gz") for split in SPLITS],
        objectives=objectives,
        skip_invalid=True,
    )
    if pairs is None or table.num_pairs <= pairs:
        return table
    order = np.random.default_rng(0).permutation(table.num_prompts)
    count = np.bincount(table.response_prompt[table.pair_first], minlength=table.num_prompts)
    enough = int(np.searchsorted(np.cumsum(count[order]), pairs)) + 1
    return table.select_prompts(np.isin(np.arange(table.num_prompts), order[:enough]))


def markdown(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a table."""
    objectives = list(dict.fromkeys(itertools.chain.from_iterable(row["r2"] for row in rows)))
    head = ["set", "length", "layer", "pooling", "accuracy", "log loss", "from reference"]
    head += ["cut", "seconds", *(f"R² {name}" for name in objectives)]
    lines = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for row in rows:
        cells = [row["set"], row["max_length"], row["layer"], row["pooling"]]
        cells += [f"{row['accuracy']:.3f} ± {row['accuracy_se']:.3f}"]
        cells += [f"{row['log_loss']:.4f} ± {row['log_loss_se']:.4f}"]
        cells += [f"{row['difference']:+.4f} ± {row['difference_se']:.4f}"]
        cells += [f"{row['cut']:.0%}", f"{row['seconds']:.0f}"]
        cells += [f"{row['r2'][n]:.2f}" if n in row["r2"] else "" for n in objectives]
        lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Measure the sets named on the command line, and write results after each length."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sets", nargs="+", help="folders under VRM_PYRO_DATA")
    parser.add_argument("--backbone", default="smollm2")
    parser.add_argument("--layers", type=int, nargs="+", default=[15, 20, 24, 27, 30])
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 256, 1024, 384])
    parser.add_argument("--pairs", type=int, help="most pairs of a set; all when omitted")
    parser.add_argument("--work", default="runs/llm_states", help="folder of states and results")
    parser.add_argument("--out", help="file of the results, JSON; a table goes beside it, .md")
    args = parser.parse_args()

    backbone = load_backbone(
        args.backbone, pooling="last", layer=None, max_length=max(args.lengths)
    )
    last = len(backbone.model.layers)
    taps = Taps(backbone.model, args.layers)
    results: list[dict[str, Any]] = []
    for name in args.sets:
        table = read_set(name, args.pairs)
        work = Path(args.work) / (name if args.pairs is None else f"{name}-{args.pairs}")
        identity = {"weights": backbone.weights_hash, "layers": args.layers}
        states = States(work / "states" / Cells.name(identity))
        cells = Cells(work / "results")
        key = identity | {"rows": table.content_hash()}
        costs = {
            length: cells.get(
                {**key, "length": length, "what": "cost"},
                partial(compute, table, backbone, length, args.layers, states, taps),
            )
            for length in args.lengths
        }
        rate = float(np.median([c["seconds_per_token"] for c in costs.values()]))
        folds = fold_by_prompt(table, FOLDS)
        for length in args.lengths:
            responses = encode(table, backbone, length)[1]
            cut = float(np.mean([s.prompt_truncated or s.response_truncated for s in responses]))
            found = states.read([s.digest for s in responses])
            for (i, layer), pooling in itertools.product(enumerate(args.layers), POOLINGS):
                result = cells.get(
                    {**key, "length": length, "layer": layer, "pooling": pooling},
                    partial(measure, table, pick(found, i, pooling), folds),
                )
                seconds = costs[length]["tokens"] * rate * layer / last
                results.append(
                    {"set": name, "max_length": length, "layer": layer, "pooling": pooling}
                    | {**result, "cut": cut, "seconds": seconds, "num_pairs": table.num_pairs}
                )
            compare_and_write(results, args.out, table, name, last, args.lengths[0])


def compare_and_write(
    results: list[dict[str, Any]],
    out: str | None,
    table: PreferenceTable,
    name: str,
    last: int,
    length: int,
) -> None:
    """Add the difference from the reference to a set's rows, and write all rows so far."""
    of_set = [row for row in results if row["set"] == name]
    reference = next(
        (
            row["losses"]
            for row in of_set
            if (row["layer"], row["pooling"], row["max_length"]) == (last, "last", length)
        ),
        of_set[0]["losses"],
    )
    prompt = table.response_prompt[table.pair_first]
    for row in of_set:
        change = np.subtract(row["losses"], reference)
        estimate = cluster_mean(change, table.pair_weight, prompt)
        row |= {"difference": estimate.value, "difference_se": estimate.standard_error}
    rows = [{k: v for k, v in row.items() if k != "losses"} for row in results]
    write_result({"rows": rows}, out)
    text = markdown(sorted(rows, key=lambda row: (row["set"], row["log_loss"])))
    print(text)
    if out:
        with write_file(Path(out).with_suffix(".md")) as partial:
            partial.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
