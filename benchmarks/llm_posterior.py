"""What the posterior of ``ratings`` is worth on frozen states of a language model.

Needs the states of ``benchmarks/llm_states.py``; folds and settings are those of
``benchmarks/llm_heads.py``. For each seed and fold, a model of a shipped config is trained on
three folds and asked, on the fold that nothing chose:

- coverage: in how many cases 50, 80 and 90% intervals hold held-out ratings (differences to
  another response of the prompt, as ``vrm-pyro diagnose`` takes them);
- scores: correlation of expected ratings with ratings within prompts, by objective, beside a
  ridge regression on the same states, whose penalty is chosen on the stopping fold;
- foreign: AUROC of the epistemic variance of a difference, pairs of other sets against these;
- shuffled: the learned scale of the map to the weights where labels are shuffled, and the log
  loss beside that of one shared w.

    VRM_PYRO_DATA=... python benchmarks/llm_posterior.py cohere_feedback --work runs/llm_states \
        --objectives overall usefulness style detail clarity creativity confidence \
        --foreign hh-1000 feedbackqa-1000 --out llm_posterior.json
"""

import argparse
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from cells import Cells
from emit import write_result
from llm_heads import Variant, add_state_options, fitted, read_states, source
from llm_states import FOLDS, read_set
from tqdm import tqdm

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt
from vrm_pyro.diagnostics.checks.rating_coverage import rating_coverage
from vrm_pyro.diagnostics.metrics.auroc import auroc
from vrm_pyro.diagnostics.metrics.pair_metrics import log_loss_values
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.predict import predict
from vrm_pyro.prediction.scorer.scores import score_source

DRAWS = 400
PENALTIES = np.logspace(1, 6, 21)

States = tuple[np.ndarray, np.ndarray]


def model_of(variant: Variant, seed: int, train_rows: Any, stop_rows: Any) -> VRM:
    """Train a variant of a shipped config."""
    model = fitted(variant, seed, train_rows, stop_rows).loaded.model
    assert isinstance(model, VRM)
    return model.eval()


def rating_draws(model: VRM, rows: Any, seed: int) -> np.ndarray:
    """Return ratings drawn given the texts alone, raw units, shape (S, R, K)."""
    used = np.arange(len(rows.prompts))
    batch = model.standardize(PromptDataset(rows, *model.rating_unit, used).batch(used))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        features = as_gaussian(model.conditionals(batch).features)
        assert model.ratings is not None
        reward, tau = model.reward(), model.ratings().scale
        mean = reward.scores(features.loc)
        sd = (features.mapped_variance(reward.loading) + tau.square()).sqrt()
        drawn = mean + sd * torch.randn(DRAWS, *mean.shape, generator=generator)
    loc, scale = model.rating_unit
    return (loc + scale * drawn).numpy()


def within(values: np.ndarray, prompt: np.ndarray) -> np.ndarray:
    """Return values less their mean in each prompt; NaN where only one is seen."""
    seen = ~np.isnan(values)
    count = np.bincount(prompt, seen)
    mean = np.bincount(prompt, np.where(seen, values, 0)) / np.maximum(count, 1)
    return np.where(count[prompt] > 1, values - mean[prompt], np.nan)


def ridge(known: Any, stop: Any, test: Any, k: int) -> np.ndarray:
    """Return predicted ratings of the test rows, by ridge regression within prompts."""

    def part(rows: Any) -> tuple[np.ndarray, np.ndarray]:
        values = within(rows.ratings[:, k], rows.response_prompt)
        used = ~np.isnan(values)
        prompt = np.unique(rows.response_prompt[used], return_inverse=True)[1]
        states = rows.responses[used]
        mean = np.zeros((prompt.max() + 1, states.shape[1]))
        np.add.at(mean, prompt, states)
        return states - (mean / np.bincount(prompt)[:, None])[prompt], values[used]

    x, y = part(known)
    scale = x.std(0) + 1e-9
    _, size, basis = np.linalg.svd(x / scale, full_matrices=False)
    inner = basis @ (x / scale).T @ y
    held, truth = part(stop)
    maps = [basis.T @ (inner / (size**2 + penalty)) / scale for penalty in PENALTIES]
    errors = [np.square(truth - held @ each).mean() for each in maps]
    return test.responses @ maps[int(np.argmin(errors))]


def correlation(predicted: np.ndarray, rows: Any, k: int) -> float:
    """Return r of predictions and ratings of an objective within prompts."""
    truth = within(rows.ratings[:, k], rows.response_prompt)
    seen = ~np.isnan(truth)
    own = within(np.where(seen, predicted, np.nan), rows.response_prompt)
    return float(np.corrcoef(own[seen], truth[seen])[0, 1])


def foreign_rows(args: argparse.Namespace) -> dict[str, Any]:
    """Return states and pairs of the other sets."""
    found = {}
    for name in args.foreign:
        folder, _, pairs = name.partition("-")
        table = read_set(folder, int(pairs) if pairs else None, None)
        layers = args.foreign_layers
        options = argparse.Namespace(**(vars(args) | {"layers": layers}))
        states, _ = read_states(options, table, args.work_root / name)
        found[name] = source(table, states, np.ones(len(table.prompts), dtype=bool))
    return found


def measured(
    config: str, rows: tuple[Any, Any, Any], seed: int, others: dict[str, Any]
) -> dict[str, Any]:
    """Train on one split and measure coverage, scores and foreign texts."""
    known, stop, test = rows
    model = model_of((config, {}), seed, known, stop)
    draws = rating_draws(model, test, seed)
    found = rating_coverage(draws, test.ratings, test.response_prompt, test.objectives, True)
    assert found.detail is not None
    scored = score_source(model, test)
    own, theirs = {}, {}
    for k, name in enumerate(test.objectives):
        own[name] = correlation(scored.scores[:, k], test, k)
        theirs[name] = correlation(ridge(known, stop, test, k), test, k)
    here = scored.delta[2]
    aurocs = {}
    for name, other in others.items():
        there = score_source(model, other).delta[2]
        group = np.repeat([False, True], [len(here), len(there)])
        aurocs[name] = auroc(np.concatenate([here, there]), group)
    return {"coverage": found.detail, "scores": own, "ridge": theirs, "foreign": aurocs}


def shuffled(config: str, rows: tuple[Any, Any, Any], seed: int) -> dict[str, Any]:
    """Train on shuffled labels, with weights that follow the prompt and with shared ones."""
    known, stop, test = rows
    rng = np.random.default_rng(seed)
    known, stop = (
        SimpleNamespace(**(vars(part) | {"preference": rng.permutation(part.preference)}))
        for part in (known, stop)
    )
    shared = {"model.weight_prior.init_args.initial_scale": 1e-9}  # a map that cannot grow
    losses = {}
    for name, changes in (("follows", {}), ("shared", shared)):
        model = model_of((config, changes), seed, known, stop)
        p = predict(model, test).p_first
        losses[name] = float(log_loss_values(p, test.preference).mean())
        if name == "follows":
            weights = model.predictive_weights(torch.from_numpy(np.asarray(test.prompts))).mean
            tau = float(model.weight_prior.tau.detach())  # type: ignore[union-attr, arg-type]
            spread = float(weights.detach().std(0).mean())
    return losses | {"tau": tau, "sd_over_prompts": spread}


def run(args: argparse.Namespace, table: PreferenceTable, states: States, key: dict) -> list:
    """Measure all seeds and folds; finished ones are kept."""
    folds = fold_by_prompt(table, FOLDS)
    others = foreign_rows(args)
    cells = Cells(args.work_root / args.set / "posterior")
    found = []
    for seed in range(args.seeds):
        for fold in tqdm(range(FOLDS), desc=f"seed {seed}"):
            stop, test = folds == (fold + 1) % FOLDS, folds == fold
            rows = tuple(source(table, states, part) for part in (~stop & ~test, stop, test))
            name = key | {"config": args.config, "seed": seed, "fold": fold}
            name |= {"foreign": args.foreign}
            cell = cells.get(name, lambda at=(rows, seed): measured(args.config, *at, others))
            if seed == 0:
                made = cells.get(
                    name | {"shuffled": "map of scale 1e-9"},
                    lambda at=(rows, seed): shuffled(args.config, *at),
                )
                cell = cell | {"shuffled": made}
            found.append(cell | {"seed": seed, "fold": fold})
            print(found[-1], flush=True)
    return found


def main() -> None:
    """Measure one set."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", help="folder under VRM_PYRO_DATA")
    parser.add_argument("--config", default="ratings")
    parser.add_argument("--foreign", nargs="*", default=[], help="other sets, NAME-PAIRS")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--foreign-layers", type=int, nargs="+", default=[15, 20, 24, 30])
    add_state_options(parser)
    args = parser.parse_args()
    args.work_root = Path(args.work)
    table = read_set(args.set, None, tuple(args.objectives) or None)
    states, key = read_states(args, table, args.work_root / args.set)
    found = run(args, table, states, key)
    whole: dict[str, Any] = {"runs": found}
    for part in ("scores", "ridge", "foreign"):
        names = found[0][part]
        whole[part] = {n: float(np.mean([cell[part][n] for cell in found])) for n in names}
    inside = [cell["coverage"]["all"] for cell in found]
    whole["coverage"] = inside
    print({k: v for k, v in whole.items() if k != "runs"})
    write_result(whole, args.out)


if __name__ == "__main__":
    main()
