"""Compare ways to learn the rate of wrong labels with ``Lapse`` on simulated texts.

Simulations and flips are those of label_noise.py. A flexible model overfits to flipped training
labels, so its eps is too small. If training stops early, eps has not yet moved far from its
initial value. So the ways differ in how much a model can overfit and in when training ends:

``early``: an MLP for the features with early stopping, as shipped. ``end``: the same, trained to
the last epoch. ``linear``: a linear map for the features with strong dropout, trained to the last
epoch. ``linear_ratings``: the same with ratings, so that beta is learned. ``linear_28``: as many
labels, but 28 pairs of 8 responses per prompt instead of 6 pairs of 4. ``held_out``: no lapse in
training. Bradley-Terry models predict the labels of held-out folds of prompts, and eps and one
temperature are fitted to these predictions by maximum likelihood. ``two_steps``: the VRM of
``early`` with eps fixed to the value of ``linear``.

    python benchmarks/lapse_rate.py --work runs/label_noise --out out.json
"""

import argparse
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import torch
from cells import Cells
from emit import write_result
from label_noise import CLOSE, noisy, texts, without_lapse
from networks import network_config
from scipy.optimize import minimize
from scipy.special import expit, logit
from tqdm import tqdm

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, log_loss_values
from vrm_pyro.models.likelihoods import Lapse, PreferenceLikelihood
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE, ModelConfig
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

RATES = (0.0, 0.1, 0.3)
START = 0.2
MANY_PAIRS = {"pairs_per_prompt": 28, "shared_responses": 8}
WAYS = (
    "early",
    "end",
    "linear",
    "linear_ratings",
    "linear_28",
    "held_out",
    "two_steps",
)
FOLDS = 5


def config(way: str, likelihood: PreferenceLikelihood) -> ModelConfig:
    """Return the model settings of a way: those of the demo with its changes."""
    linear = way.startswith("linear")
    return network_config(
        objective="integrated",
        num_objectives=4,
        latent_dim=4,
        num_draws=8,
        # beta is fixed without ratings. A linear map with dropout starts far below the true scale.
        reward_scale=10.0 if linear and way != "linear_ratings" else 3.0,
        hyperprior_weight=0.02,
        weight_prior=ConditionalDirichletPrior(0, 0.5),
        feature_prior=ConditionalNormalPrior(*((0, 0.7) if linear else (128, 0.5))),
        likelihood=likelihood,
    )


def arguments(way: str, seed: int, args) -> TrainArguments:
    """Return the training settings of a way."""
    early = way in ("early", "two_steps", "held_out")
    return TrainArguments(
        output_dir=str(Path(args.work) / "checkpoints-rate"),
        num_train_epochs=args.epochs,
        per_device_train_batch_size=16,
        learning_rate=2e-3,
        early_stopping_patience=8 if early else 0,
        load_best_model_at_end=early,
        seed=seed,
        use_cpu=True,
        disable_tqdm=True,
        logging_steps=10_000,
    )


def on_pairs(source: FeatureSource, pairs: np.ndarray) -> SimpleNamespace:
    """Return a source with a subset of its pairs."""
    return SimpleNamespace(
        prompts=source.prompts,
        responses=source.responses,
        response_prompt=source.response_prompt,
        pair_first=np.asarray(source.pair_first)[pairs],
        pair_second=np.asarray(source.pair_second)[pairs],
        preference=np.asarray(source.preference)[pairs],
        pair_weight=np.asarray(source.pair_weight)[pairs],
        ratings=source.ratings,
        objectives=source.objectives,
    )


def fit_rate(p_first: np.ndarray, label: np.ndarray) -> float:
    """Return eps of p = eps + (1 - 2 eps) sigmoid(a logit), by maximum likelihood over (eps, a).

    Args:
        p_first: Probabilities from a model that was not trained on these labels, shape (N,).
        label: The labels, in {0, 1}, shape (N,).
    """
    x = logit(np.clip(p_first, 1e-6, 1 - 1e-6))

    def loss(free: np.ndarray) -> float:
        rate = 0.5 * expit(free[0])
        return float(
            log_loss_values(rate + (1 - 2 * rate) * expit(np.exp(free[1]) * x), label).mean()
        )

    # Use several initial values: with eps near 0, its logit has a flat direction.
    found = [minimize(loss, [start, 0.0], method="Nelder-Mead") for start in (-3.0, 0.0)]
    return float(0.5 * expit(min(found, key=lambda r: r.fun).x[0]))


def held_out_rate(parts: dict, seed: int, args) -> float:
    """Return the rate from cross-fitted Bradley-Terry predictions of all training labels."""
    source = parts["train"]
    prompt = np.asarray(source.response_prompt)[np.asarray(source.pair_first)]
    fold = np.random.default_rng(seed).permutation(prompt.max() + 1)[prompt] % FOLDS
    p = np.empty(len(prompt))
    model = ModelConfig(architecture="bradley_terry", head_size=128, head_dropout=0.5)
    for test in range(FOLDS):
        rest, held = np.flatnonzero(fold != test), np.flatnonzero(fold == test)
        result = train(
            model,
            arguments("held_out", seed, args),
            on_pairs(source, rest),
            parts["validation"],
        )
        p[held] = predict(result.loaded.model, on_pairs(source, held)).p_first
    return fit_rate(p, source.preference)


def one(way: str, sets: dict, rate: float, seed: int, args, known: float | None = None) -> dict:
    """Return the rate learned in one way, and metrics on clean test labels."""
    parts = noisy(sets, rate, seed, rated=way == "linear_ratings")
    if way == "held_out":
        return {"eps": held_out_rate(parts, seed, args)}
    likelihood = Lapse(START) if known is None else Lapse(known, learn=False)
    result = train(
        config(way, likelihood),
        arguments(way, seed, args),
        parts["train"],
        parts["validation"],
    )
    model, label = result.loaded.model, np.asarray(sets["test"].preference)
    with torch.no_grad():
        eps = float(model.likelihood.rate)
    p = without_lapse(predict(model, sets["test"]).p_first, eps)
    return {
        "eps": eps,
        "beta": float(model.reward().scale),
        "log_loss": float(log_loss_values(p, label).mean()),
        "accuracy": float(accuracy_values(p, label).mean()),
    }


def main() -> None:
    """Run all ways at all rates and print the learned rates."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", default="runs/label_noise", help="work folder of label_noise.py")
    parser.add_argument("--out", default=None)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=float, default=20)
    parser.add_argument("--pairs", type=int, default=4400)
    parser.add_argument("--quick", action="store_true", help="a smoke test on little data")
    args = parser.parse_args()
    rates = RATES
    if args.quick:
        args.seeds, args.epochs, args.pairs, rates = 1, 2, 600, (0.3,)
    backbone = load_backbone(DEFAULT_BACKBONE, max_length=256)
    kept = Cells(Path(args.work) / "cells-rate")
    found: dict[tuple, dict] = {}
    with tqdm(total=args.seeds * len(rates) * len(WAYS), desc="ways", unit="model") as bar:
        for seed in range(1, args.seeds + 1):
            sets = texts(seed, args, backbone)
            many = texts(seed, args, backbone, MANY_PAIRS)
            for rate in rates:
                for way in WAYS:
                    # after "linear", whose rate it uses
                    known = found["linear", rate, seed]["eps"] if way == "two_steps" else None
                    key = {
                        "way": way,
                        "rate": rate,
                        "seed": seed,
                        "epochs": args.epochs,
                        "pairs": args.pairs,
                        "start": START,
                        "known": known,
                    }
                    source = many if way == "linear_28" else sets
                    found[way, rate, seed] = kept.get(
                        key,
                        lambda way=way, source=source, rate=rate, seed=seed, known=known: one(
                            way, source, rate, seed, args, known
                        ),
                    )
                    bar.update()
    report: dict = {"settings": {k: v for k, v in vars(args).items() if k not in ("out", "work")}}
    for way in WAYS:
        for rate in rates:
            runs = [found[way, rate, seed] for seed in range(1, args.seeds + 1)]
            entry = {"seeds": runs}
            for name in runs[0]:
                each = [run[name] for run in runs]
                spread = float(np.std(each, ddof=1)) if len(each) > 1 else None
                entry[name] = {"mean": float(np.mean(each)), "sd": spread}
            entry["within"] = sum(abs(run["eps"] - rate) <= CLOSE for run in runs)
            report.setdefault(way, {})[str(rate)] = entry
            line = "  ".join(
                f"{name} {v['mean']:.3f} ({v['sd'] or 0:.3f})"
                for name, v in entry.items()
                if isinstance(v, dict)
            )
            print(f"{way} {rate}: {line}  close {entry['within']} of {len(runs)}", flush=True)
    write_result(report, args.out)


if __name__ == "__main__":
    main()
