"""Compare the variance of one-draw gradients of objectives ``sampled`` and ``integrated``.

Each estimate uses one draw of w, and ``sampled`` also one of z; the output has the time of both.
A prompt with one pair is copied, and each copy has its own leaf tensor for every parameter of q,
so one backward pass gives one independent gradient per copy. The ratio of a block of parameters
is that of the summed variances of its entries; above 1, ``integrated`` has less variance. Each
seed is a different problem (prior, reward, outcome); median, lowest and highest are over seeds.

    python benchmarks/gradient_variance.py --out gradient_variance.json

Target, for case ``standard`` at K = 4, d_z = 8: a median of at least 10 for the concentration of
q(w) and the log sd of q(z). The other cases show when the gain is smaller. Both objectives have
the noise of w, so the concentration gains less where it dominates that of z: for answers far
apart, or for ratings that determine z.
"""

import argparse
import statistics
import time
from dataclasses import asdict, dataclass
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from emit import emit
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.guides import OutcomeAwareGuide
from vrm_pyro.models.likelihoods import BradleyTerry
from vrm_pyro.models.objectives import IntegratedObjective, Objective, SampledObjective, Weights
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.ratings import GaussianRatings, GaussianValues
from vrm_pyro.models.reward import LinearReward, RewardParameters
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior.refine import FixedGuide

TARGET = 10.0
TARGET_BLOCKS = ("concentration", "log_scale")


@dataclass(frozen=True)
class Case:
    """Problem at which the gradient is taken.

    Args:
        loc_scale: Standard deviation of the prior means of z.
        feature_scale: Approximate prior standard deviation of z.
        loading_scale: Standard deviation of the entries of A.
        concentration: Approximate prior concentration of w.
        updated: Whether q is that of the outcome-aware guide; else it is the prior.
        ratings: Whether both answers are rated on every objective, with tau = 0.5.
    """

    loc_scale: float = 0.5
    feature_scale: float = 1.0
    loading_scale: float = 1.0
    concentration: float = 2.5
    updated: bool = False
    ratings: bool = False


CASES = {
    "standard": Case(),
    "defaults before training": Case(0.3, 0.5, 8**-0.5, 2.0),
    "answers far apart": Case(loc_scale=2.0),
    "standard, q given the label": Case(updated=True),
    "standard, q given label and ratings": Case(updated=True, ratings=True),
}


def main() -> None:
    """Measure and print one JSON object."""
    options = arguments()
    torch.set_num_threads(options.threads)
    pyro.enable_validation(False)
    cases = {name: measure(case, options) for name, case in CASES.items()}
    result = {
        "num_objectives": options.num_objectives,
        "latent_dim": options.latent_dim,
        "draws": options.draws,
        "seeds": options.seeds,
        "target": TARGET,
        "met": all(
            cases["standard"]["variance_ratio"][block]["median"] >= TARGET
            for block in TARGET_BLOCKS
        ),
        "cases": cases,
        "torch": torch.__version__,
        "pyro": pyro.__version__,
    }
    emit(result, options.out)


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--out", help="JSON file to write; the object is printed in any case")
    parser.add_argument("--num-objectives", type=int, default=4)
    parser.add_argument("--latent-dim", type=int, default=8)
    parser.add_argument("--draws", type=int, default=20_000, help="gradients of each problem")
    parser.add_argument("--seeds", type=int, default=20, help="number of problems")
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Return ratios over seeds, and the cost of both estimates."""
    ratios: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {"sampled": [], "integrated": []}
    for seed in range(options.seeds):
        batch, conditionals = problem(case, seed, options)
        q = conditionals.weights, conditionals.features
        if case.updated:
            guide = OutcomeAwareGuide().build(1, options.num_objectives, options.latent_dim)
            with torch.no_grad():
                q = guide.double().posterior(batch, conditionals)
        variances = {}
        for objective in (SampledObjective(1), IntegratedObjective(1)):
            torch.manual_seed(1000 + seed)
            start = time.perf_counter()
            variances[objective.name] = gradient_variances(
                objective, batch, conditionals, q, options
            )
            seconds[objective.name].append(time.perf_counter() - start)
        for block, variance in variances["sampled"].items():
            ratios.setdefault(block, []).append(variance / variances["integrated"][block])
    return {
        "case": asdict(case),
        "variance_ratio": {
            block: {
                "median": statistics.median(values),
                "lowest": min(values),
                "highest": max(values),
                "share_of_seeds_at_target": sum(v >= TARGET for v in values) / len(values),
                "each_seed": values,
            }
            for block, values in ratios.items()
        },
        # Time of whole passes on large batches, including the setup of Pyro's traces.
        "time_of_integrated_over_sampled": statistics.median(
            i / s for i, s in zip(seconds["integrated"], seconds["sampled"], strict=True)
        ),
    }


def problem(
    case: Case, seed: int, options: argparse.Namespace
) -> tuple[FeatureBatch, Conditionals]:
    """Return one prompt with one pair, and random prior, reward and outcome."""
    generator = torch.Generator().manual_seed(seed)
    num_objectives, latent_dim = options.num_objectives, options.latent_dim

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    batch = FeatureBatch(
        prompts=torch.zeros(1, 1, dtype=torch.float64),
        responses=torch.zeros(2, 1, dtype=torch.float64),
        response_prompt=torch.tensor([0, 0]),
        pair_first=torch.tensor([0]),
        pair_second=torch.tensor([1]),
        preference=torch.bernoulli(torch.full((1,), 0.5), generator=generator).double(),
        pair_weight=torch.ones(1, dtype=torch.float64),
        ratings=normal(2, num_objectives),
        rating_mask=torch.full((2, num_objectives), case.ratings),
    )
    loc = case.loc_scale * normal(2, latent_dim)
    scale = case.feature_scale * (0.2 * normal(2, latent_dim)).exp()
    conditionals = Conditionals(
        dist.Dirichlet(case.concentration * (0.3 * normal(1, num_objectives)).exp()),
        dist.Normal(loc, scale).to_event(1),
        RewardParameters(
            case.loading_scale * normal(num_objectives, latent_dim),
            torch.zeros(num_objectives, dtype=torch.float64),
            torch.ones((), dtype=torch.float64),
        ),
        GaussianValues(
            torch.zeros(num_objectives, dtype=torch.float64),
            torch.full((num_objectives,), 0.5, dtype=torch.float64),
            1.0,
        ),
        BradleyTerry(),
    )
    return batch, conditionals


def gradient_variances(
    objective: Objective,
    batch: FeatureBatch,
    conditionals: Conditionals,
    q: tuple[dist.Dirichlet, dist.Independent],
    options: argparse.Namespace,
) -> dict[str, float]:
    """Return the summed variance of the one-draw gradient of each block of q's parameters."""
    copies = options.draws
    normal = q[1].base_dist
    leaves = {
        "concentration": q[0].concentration.repeat(copies, 1).requires_grad_(),
        "loc": normal.loc.repeat(copies, 1).requires_grad_(),
        "log_scale": normal.scale.log().repeat(copies, 1).requires_grad_(),
    }
    guide = FixedGuide(
        dist.Dirichlet(leaves["concentration"]),
        dist.Normal(leaves["loc"], leaves["log_scale"].exp()).to_event(1),
    )
    model = VRM(
        1,
        options.num_objectives,
        options.latent_dim,
        DirichletPrior(),
        NormalPrior(),
        OutcomeAwareGuide(),
        LinearReward(options.num_objectives, options.latent_dim),
        GaussianRatings().build(options.num_objectives),
    )
    model.guide = guide
    terms = objective.terms(
        model, guide, copied(batch, copies), copied_heads(conditionals, copies), Weights()
    )
    terms.objective.backward()  # type: ignore[no-untyped-call]
    variances = {}
    for name, leaf in leaves.items():
        assert leaf.grad is not None
        variances[name] = leaf.grad.view(copies, -1).var(0).sum().item()
    return variances


def copied(batch: FeatureBatch, copies: int) -> FeatureBatch:
    """Return the one-prompt batch repeated ``copies`` times."""
    values = {
        name: value.repeat(copies, *[1] * (value.dim() - 1))
        for name, value in batch.as_dict().items()
    }
    prompt = torch.arange(copies)
    values["response_prompt"] = prompt.repeat_interleave(2)
    values["pair_first"], values["pair_second"] = 2 * prompt, 2 * prompt + 1
    return FeatureBatch(**values)


def copied_heads(conditionals: Conditionals, copies: int) -> Conditionals:
    """Return the conditionals of the copies."""
    normal = conditionals.features.base_dist
    loc, scale = normal.loc.repeat(copies, 1), normal.scale.repeat(copies, 1)
    return Conditionals(
        dist.Dirichlet(conditionals.weights.concentration.repeat(copies, 1)),
        dist.Normal(loc, scale).to_event(1),
        conditionals.reward,
        conditionals.ratings,
        conditionals.likelihood,
    )


if __name__ == "__main__":
    main()
