"""Measure amortization gap, approximation gap and k-hat of each guide per prompt (spec 4.1-4.3).

One model per guide is trained on ``cohere_feedback`` (seven ``no_*`` ratings). On held-out
prompts, in float64,

    amortization gap  = ELBO(q refined for the prompt) - ELBO(amortized q)
    approximation gap = log p(outcomes) - ELBO(q refined for the prompt)

with the evidence estimated by importance sampling. The k-hat is that of 4,000 draws of the
amortized and of the refined q. ``simulated`` prompts have real texts and outcomes drawn from the
trained program; ``real`` prompts have their own outcomes. The ELBO of a flow has no closed form:
its row has the total gap, estimated from draws.

    python benchmarks/guide_gaps.py --stores runs/real --out runs/guide_gaps.json
"""

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from emit import emit
from networks import network_config
from real_pairs import part

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import fold_by_prompt
from vrm_pyro.diagnostics.metrics.power_scaling import smooth
from vrm_pyro.features.store import open_store
from vrm_pyro.models.guides import FlowGuide, FullCovarianceGuide, Guide, OutcomeAwareGuide
from vrm_pyro.models.objectives.base import kl_terms
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior.evidence import log_evidence, weighted_draws
from vrm_pyro.prediction.posterior.refine import refine
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import train

GUIDES: dict[str, Guide] = {
    "OutcomeAwareGuide": OutcomeAwareGuide(),
    "FullCovarianceGuide": FullCovarianceGuide(),
    "OutcomeAwareGuide, logistic-normal": OutcomeAwareGuide(weights="logistic_normal"),
    "FullCovarianceGuide, logistic-normal": FullCovarianceGuide(weights="logistic_normal"),
    "FlowGuide": FlowGuide(),
}
KHAT_DRAWS = 4000
ELBO_DRAWS = 2000
GOOD = 0.7


def main() -> None:
    """Train a model per guide, refine q, measure the gaps and report them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stores", default="runs/real", help="folder with cohere_feedback")
    parser.add_argument("--prompts", type=int, default=100, help="held-out prompts measured")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", default=None, help="JSON file for the result")
    args = parser.parse_args()
    store = open_store(Path(args.stores) / "cohere_feedback")
    table = store.table()
    fold = fold_by_prompt(table, 5)
    parts = {
        "train": part(store, table, np.flatnonzero(fold > 1), None, 0),
        "validation": part(store, table, np.flatnonzero(fold == 1), None, 0),
        "test": part(store, table, np.flatnonzero(fold == 0), None, 0),
    }
    result: dict = {"prompts": args.prompts, "seeds": args.seeds, "guides": {}}
    for name, guide in GUIDES.items():
        runs = [_measure(guide, parts, args, seed) for seed in range(args.seeds)]
        result["guides"][name] = {
            kind: {
                key: {
                    "mean": float(np.mean([run[kind][key] for run in runs])),
                    "seed_sd": float(np.std([run[kind][key] for run in runs])),
                }
                for key in runs[0][kind]
            }
            for kind in ("simulated", "real")
        }
        print(name, result["guides"][name], flush=True)
    emit(result, args.out)


def _measure(guide: Guide, parts: dict, args: argparse.Namespace, seed: int) -> dict:
    config = network_config(
        weight_prior=ConditionalDirichletPrior(0, 0.5, 5.0),
        feature_prior=ConditionalNormalPrior(64, 0.5, 0.5),
        guide=guide,
        objective="pairwise",
        hyperprior_weight=0.01,
        rating_power=0.1,
        rating_likelihood=GaussianRatings(1.0, learn_scale=False),
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainArguments(
            output_dir=folder, num_train_epochs=args.epochs, seed=seed, use_cpu=True,
            disable_tqdm=True, logging_steps=10_000, early_stopping_patience=5,
        )  # fmt: skip
        model = train(config, arguments, parts["train"], parts["validation"]).loaded.model
    assert isinstance(model, VRM)
    model = model.double().eval()
    dataset = PromptDataset(parts["test"], float(model.rating_loc), float(model.rating_scale))
    paired = np.unique(parts["test"].response_prompt[parts["test"].pair_first])
    batch = model.standardize(dataset.batch(paired[: args.prompts]).to(torch.float64))
    return {
        "simulated": _gaps(model, _simulated(model, batch, seed)),
        "real": _gaps(model, batch),
    }


def _simulated(model: VRM, batch: FeatureBatch, seed: int) -> FeatureBatch:
    """Return the batch with outcomes drawn from the program, with the same missing ones."""
    torch.manual_seed(seed)
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        w, scores = (
            conditionals.weights.sample(),
            conditionals.reward.scores(conditionals.features.sample()),
        )
        first, second = scores[batch.pair_first], scores[batch.pair_second]
        delta = conditionals.reward.delta(w[batch.pair_prompt], first, second)
        label = torch.bernoulli(conditionals.likelihood.probability(delta))
        return replace(batch, preference=label, ratings=conditionals.ratings.sample(scores))


def _gaps(model: VRM, batch: FeatureBatch) -> dict[str, float]:
    """Return means over prompts, in nats, and k-hat of the guide before and after refinement."""
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        evidence = log_evidence(model, batch, conditionals, 1024)
        found = {"evidence_se": evidence.standard_error.median().item()}
        found |= _khat("khat", model, batch, conditionals)
    if not model.guide.gaussian:
        with torch.no_grad():
            _, _, drawn = weighted_draws(model, batch, conditionals, ELBO_DRAWS)
            elbo = drawn["log_weight"].mean(0)
            kl_w, kl_z = (
                kl.sum().item()
                for kl in kl_terms(*model.guide.posterior(batch, conditionals), conditionals)
            )
        found["gap"] = (evidence.log_prob - elbo).mean().item()
        found["kl"] = (kl_w + kl_z) / batch.num_prompts
        return found
    refined = refine(model, batch, conditionals)
    amortized = model.guide
    with torch.no_grad():
        model.guide = refined.guide
        # The refined q is a better proposal, so estimate the evidence again.
        evidence = log_evidence(model, batch, conditionals, 1024)
        found |= _khat("khat_refined", model, batch, conditionals)
        model.guide = amortized
    found["amortization_gap"] = refined.amortization_gap.mean().item()
    found["approximation_gap"] = (evidence.log_prob - refined.after).mean().item()
    found["gap"] = (evidence.log_prob - refined.before).mean().item()
    return found


def _khat(name: str, model: VRM, batch: FeatureBatch, conditionals) -> dict[str, float]:
    torch.manual_seed(0)
    _, _, drawn = weighted_draws(model, batch, conditionals, KHAT_DRAWS)
    khat = smooth(drawn["log_weight"].numpy()).khat
    return {f"{name}_median": float(np.median(khat)), f"{name}_good": float((khat < GOOD).mean())}


if __name__ == "__main__":
    main()
