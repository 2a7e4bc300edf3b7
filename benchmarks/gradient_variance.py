"""Gradient noise of `sampled` against `integrated`: K = 4 objectives, d_z = 8 features.

One prompt, two responses, one pair. Both objectives estimate the same bound from one draw a step;
the ratio of their variances says how many draws of the program one integrated step is worth. The
variances are those of single-draw estimates over many copies of the prompt, each with parameters
of its own; a seed is another random problem.

    python benchmarks/gradient_variance.py --out runs/gradient_variance.json
"""

import argparse
import json
from pathlib import Path

import numpy as np
import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.batch import FeatureBatch
from vrm_pyro.elbo import IntegratedObjective, Objective, SampledObjective, Weights
from vrm_pyro.guides import GuideModule, OutcomeAwareGuide
from vrm_pyro.heads import Heads
from vrm_pyro.likelihood import BradleyTerry
from vrm_pyro.likelihood.ratings import RatingParameters
from vrm_pyro.model import VRM
from vrm_pyro.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.reward import LinearReward, RewardParameters

NUM_OBJECTIVES, LATENT_DIM = 4, 8
QUANTITIES = ("value", "concentration", "loc", "log_scale")
TARGETS = {"concentration": 10.0, "log_scale": 10.0}


class GivenGuide(GuideModule):
    """A guide whose q(w) and q(z) are handed in."""

    def __init__(self, q_weights: dist.Dirichlet, q_features: dist.Independent) -> None:
        super().__init__()
        self.q = (q_weights, q_features)

    def weights(self, batch: FeatureBatch, heads: Heads) -> dist.Dirichlet:
        """Return the q(w) handed in."""
        return self.q[0]

    def features(self, batch: FeatureBatch, heads: Heads) -> dist.Independent:
        """Return the q(z) handed in."""
        return self.q[1]


def problem(seed: int, ratings: bool, copies: int) -> tuple[FeatureBatch, Heads]:
    """Return ``copies`` copies of one random prompt with a pair, and its heads."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    alpha = (0.4 * normal(1, NUM_OBJECTIVES)).exp() * 1.5
    loc = normal(2, LATENT_DIM)
    scale = (0.2 * normal(2, LATENT_DIM)).exp() * 0.6
    rated = normal(2, NUM_OBJECTIVES)
    loading = normal(NUM_OBJECTIVES, LATENT_DIM) / LATENT_DIM**0.5
    first = 2 * torch.arange(copies)
    batch = FeatureBatch(
        prompts=torch.zeros(copies, 1).double(),
        responses=torch.zeros(2 * copies, 1).double(),
        response_prompt=torch.arange(copies).repeat_interleave(2),
        pair_first=first,
        pair_second=first + 1,
        preference=torch.ones(copies).double(),
        pair_weight=torch.ones(copies).double(),
        ratings=rated.repeat(copies, 1),
        rating_mask=torch.full((2 * copies, NUM_OBJECTIVES), ratings),
    )
    heads = Heads(
        dist.Dirichlet(alpha.repeat(copies, 1)),
        dist.Normal(loc.repeat(copies, 1), scale.repeat(copies, 1)).to_event(1),
        RewardParameters(
            loading,
            torch.zeros(NUM_OBJECTIVES).double(),
            torch.tensor(1.5, dtype=torch.float64),
        ),
        RatingParameters(
            torch.zeros(NUM_OBJECTIVES).double(), torch.full((NUM_OBJECTIVES,), 0.7).double(), 1.0
        ),
        BradleyTerry(),
    )
    return batch, heads


def empty_model() -> VRM:
    """Return a model for its program alone; heads and guide are handed in."""
    return VRM(
        1,
        NUM_OBJECTIVES,
        LATENT_DIM,
        ConditionalDirichletPrior(),
        ConditionalNormalPrior(),
        OutcomeAwareGuide(),
        LinearReward(NUM_OBJECTIVES, LATENT_DIM),
    ).double()


def noise(objective: Objective, seed: int, ratings: bool, copies: int) -> dict[str, float]:
    """Return the variance of the one-draw value, and of its gradients summed over components."""
    torch.manual_seed(1000 + seed)
    model = empty_model()
    batch, heads = problem(seed, ratings, copies)
    with torch.no_grad():
        # Where training is: the posterior of the guide, as it starts, under these outcomes.
        q_weights, q_features = model.guide.posterior(batch, heads)
    normal = q_features.base_dist
    leaves = {
        "concentration": q_weights.concentration.clone().requires_grad_(),
        "loc": normal.loc.clone().requires_grad_(),
        "log_scale": normal.scale.log().clone().requires_grad_(),
    }
    model.guide = GivenGuide(
        dist.Dirichlet(leaves["concentration"]),
        dist.Normal(leaves["loc"], leaves["log_scale"].exp()).to_event(1),
    )
    terms = objective.terms(model, model.guide, batch, heads, Weights())
    terms.objective.backward()  # type: ignore[no-untyped-call]
    found = {}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        found[name] = leaf.grad.reshape(copies, -1).var(0).sum().item()
    values = []
    single, one = problem(seed, ratings, 1)
    model.guide = GivenGuide(
        dist.Dirichlet(q_weights.concentration[:1]),
        dist.Normal(normal.loc[:2], normal.scale[:2]).to_event(1),
    )
    with torch.no_grad():
        for _ in range(2000):
            values.append(objective.terms(model, model.guide, single, one, Weights()).objective)
    found["value"] = torch.stack(values).var().item()
    return found


def main() -> None:
    """Measure over seeds; print and write ratios with their spread."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="random problems")
    parser.add_argument("--copies", type=int, default=20_000, help="single-draw gradients each")
    parser.add_argument("--out", default=None)
    args = parser.parse_args()
    torch.set_num_threads(1)
    report: dict = {
        "num_objectives": NUM_OBJECTIVES,
        "latent_dim": LATENT_DIM,
        "draws": 1,
        "copies": args.copies,
        "seeds": args.seeds,
        "targets": TARGETS,
    }
    for case, ratings in (("preferences", False), ("with_ratings", True)):
        ratios: dict[str, list[float]] = {name: [] for name in QUANTITIES}
        for seed in range(args.seeds):
            sampled = noise(SampledObjective(1), seed, ratings, args.copies)
            integrated = noise(IntegratedObjective(1), seed, ratings, args.copies)
            for name in QUANTITIES:
                ratios[name].append(sampled[name] / integrated[name])
        report[case] = {
            name: {
                "median": float(np.median(values)),
                "min": min(values),
                "max": max(values),
                "all": values,
            }
            for name, values in ratios.items()
        }
        for name, target in TARGETS.items():
            report[case][name]["meets_target"] = report[case][name]["median"] >= target
    text = json.dumps(report, indent=2)
    print(text)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        Path(args.out).write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
