"""Error and cost of p(first preferred) and of E log p(c | Delta), against plain quadrature.

Plain quadrature is what earlier versions did: 64 scrambled Sobol nodes of w through the inverse
distribution function, and 32 Gauss-Hermite nodes of z at each. The exact p takes 16,384 nodes of
w and a fine grid for z at each. Costs are ratios, new over plain, of the CPU time of the same
call by turns in one run; below 1, the new one is faster.

    python benchmarks/quadrature.py --out quadrature.json

Targets: p off by at most .002 where scores differ by up to about 3 (``usual``), E log sigmoid by
.001 at sd(Delta | w) up to 20, at no more than 1.2 times the cost.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pyro.distributions as dist
import torch
from emit import emit
from scipy.special import gammaincinv, ndtri
from scipy.stats import qmc
from torch import Tensor

from vrm_pyro.models.distributions import Gaussian, LogisticNormal, as_logistic_normal
from vrm_pyro.models.distributions import weight_nodes as nodes_of
from vrm_pyro.models.distributions.quasi_random import SEED
from vrm_pyro.models.likelihoods import PREFERENCE_LIKELIHOODS, expect_normal
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.predictive import preference_probability
from vrm_pyro.models.reward import RewardParameters, delta_given_weights

SIZES = (2, 4, 8)
CONCENTRATIONS = (0.3, 1.0, 3.0, 10.0)
# Standard deviations of the difference of two scores, and of a score given its text.
SCORES = {"usual": ((1.0, 0.5), (1.0, 2.0), (2.0, 0.5), (3.0, 2.0)), "far apart": ((6.0, 0.3),)}
Problem = tuple[Any, Gaussian, RewardParameters]


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--prompts", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--out")
    options = parser.parse_args()
    torch.set_num_threads(1)
    emit(
        {
            "error_of_p": errors_of_p(options.prompts),
            "cost_of_p": costs_of_p(options.repeats),
            "error_of_expected_log_prob": errors_of_log_prob(),
            "cost_of_expected_log_prob": costs_of_log_prob(options.repeats),
        },
        options.out,
    )


def problem(
    family: str, size: int, alpha: float, scores: tuple[float, float], num: int, seed: int
) -> Problem:
    """Return distributions of w and z of prompts with two responses, scores as features."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(num, size, generator=generator)
    weights: Any = dist.Dirichlet((alpha * (0.5 * noise).exp()).clamp(min=0.1))
    if family == "LogisticNormal":
        weights = as_logistic_normal(weights)
    gap, sd = scores
    loc = gap / 2**0.5 * torch.randn(2 * num, size, generator=generator)
    reward = RewardParameters(torch.eye(size), torch.zeros(size), torch.tensor(1.0))
    return weights, Gaussian(loc, torch.full_like(loc, sd)), reward


def pairs_of(num: int, each: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """Return prompt, first and second response of pairs; each prompt has two responses."""
    prompt = torch.arange(num).repeat_interleave(each)
    return prompt, 2 * prompt, 2 * prompt + 1


def plain_nodes(weights: Any, num: int) -> Tensor:
    """Return nodes of w as they were, (S, P, K)."""
    if isinstance(weights, LogisticNormal):
        size = weights.loc.shape[-1]
        points = ndtri(qmc.Sobol(size, rng=SEED).random(num).clip(1e-9, 1 - 1e-9))
        points -= points.mean(0)
        points = np.linalg.solve(np.linalg.cholesky(points.T @ points / num), points.T).T
        noise = torch.from_numpy(points.copy()).to(weights.loc)
        return weights.to_simplex(
            weights.loc + torch.einsum("...de,se->s...d", weights.scale_tril, noise)
        )
    alpha = weights.concentration.double().numpy()
    points = qmc.Sobol(alpha.shape[-1], rng=SEED).random(num).clip(1e-9, 1 - 1e-9)
    gamma = torch.from_numpy(np.maximum(gammaincinv(alpha, points[:, None]), 1e-38))
    return (gamma / gamma.sum(-1, keepdim=True)).to(weights.concentration)


def plain_p(given: Problem, pairs: tuple[Tensor, ...], likelihood: PreferenceLikelihood) -> Tensor:
    """Return p(first preferred) by 64 times 32 nodes."""
    weights, features, reward = given
    prompt, first, second = pairs
    nodes = plain_nodes(weights, 64)[:, prompt]
    mean, var = delta_given_weights(nodes, features.rows(first), features.rows(second), reward)
    return expect_normal(likelihood.probability, mean, var).mean(0)


def exact_p(given: Problem, pairs: tuple[Tensor, ...], likelihood: PreferenceLikelihood) -> Tensor:
    """Return p(first preferred) by 16,384 nodes of w and a grid for z."""
    weights, features, reward = given
    prompt, first, second = pairs
    nodes = nodes_of(weights, 16_384)[:, prompt]
    mean, var = delta_given_weights(nodes, features.rows(first), features.rows(second), reward)
    grid = torch.linspace(-6, 6, 49)
    mass = torch.exp(-(grid**2) / 2)
    total = torch.zeros(mean.shape[1])
    for point, part in zip(grid, mass / mass.sum(), strict=True):
        total += part * likelihood.probability(mean + var.sqrt() * point).mean(0)
    return total


def new_p(given: Problem, pairs: Any, likelihood: PreferenceLikelihood) -> Tensor:
    """Return p(first preferred) as the package does."""
    weights, features, reward = given
    joined = dist.Normal(features.loc, features.scale).to_event(1)
    return preference_probability(weights, joined, pairs, reward, likelihood)


def errors_of_p(num: int) -> dict[str, Any]:
    """Return the largest error over problems, plain and new."""
    found: dict[str, Any] = {}
    with torch.no_grad():
        for kind, scores in SCORES.items():
            for family in ("Dirichlet", "LogisticNormal"):
                for alpha in CONCENTRATIONS:
                    name = f"{kind}, {family}, concentrations around {alpha:g}"
                    found[name] = worst(kind, family, alpha, scores, num)
    return found


def worst(kind: str, family: str, alpha: float, scores: Any, num: int) -> dict[str, float]:
    """Return the largest errors over sizes, scores and likelihoods of one kind of prior."""
    errors = {"plain": 0.0, "new": 0.0}
    for size in SIZES:
        for seed, both in enumerate(scores):
            given, pairs = problem(family, size, alpha, both, num, seed), pairs_of(num)
            for name in ("BradleyTerry", "Davidson", "Graded", "Lapse", "Probit"):
                likelihood = PREFERENCE_LIKELIHOODS[name]().build()
                exact = exact_p(given, pairs, likelihood)
                for way, function in (("plain", plain_p), ("new", new_p)):
                    error = (function(given, pairs, likelihood) - exact).abs().max().item()
                    errors[way] = max(errors[way], round(error, 5))
    return errors


def ratio(new: Callable[[], Any], plain: Callable[[], Any], repeats: int) -> float:
    """Return the median over turns of the time of ``new`` over that of ``plain``."""
    times = []
    for _ in range(repeats + 1):
        marks = [time.process_time()]
        for function in (new, plain):
            function()
            marks.append(time.process_time())
        times.append((marks[1] - marks[0]) / (marks[2] - marks[1]))
    return round(float(np.median(times[1:])), 3)  # the first turn fills tables


def costs_of_p(repeats: int) -> dict[str, float]:
    """Return the cost of p, new over plain, for prompts with one pair and with four."""
    found = {}
    with torch.no_grad():
        for family in ("Dirichlet", "LogisticNormal"):
            for name in ("BradleyTerry", "Davidson", "Graded", "Probit"):
                for each in (1, 4):
                    given = problem(family, 4, 1.0, (1.0, 0.5), 300, 0)
                    likelihood = PREFERENCE_LIKELIHOODS[name]().build()
                    arguments = given, pairs_of(300, each), likelihood
                    found[f"{family}, {name}, {each} pairs a prompt"] = ratio(
                        lambda a=arguments: new_p(*a), lambda a=arguments: plain_p(*a), repeats
                    )
    return found


def plain_log_prob(likelihood: Any, loc: Tensor, variance: Tensor, label: Tensor) -> Tensor:
    """Return E log p(c | Delta) by 32 Gauss-Hermite nodes."""
    column = label.unsqueeze(-1)
    return expect_normal(lambda delta: likelihood.log_prob(delta, column), loc, variance)


def errors_of_log_prob() -> dict[str, Any]:
    """Return the largest error over means up to 40 for each sd of Delta given w."""
    loc = torch.linspace(-40, 40, 81, dtype=torch.float64)
    grid = torch.linspace(-9, 9, 20_001, dtype=torch.float64)
    mass = torch.exp(-(grid**2) / 2)
    found: dict[str, Any] = {}
    with torch.no_grad():
        for name, make in PREFERENCE_LIKELIHOODS.items():
            likelihood = make().build()
            label = torch.ones_like(loc)
            found[name] = {}
            for sd in (1.0, 4.0, 10.0, 20.0):
                delta = loc.unsqueeze(-1) + sd * grid
                exact = likelihood.log_prob(delta, label.unsqueeze(-1)) @ (mass / mass.sum())
                variance = torch.full_like(loc, sd**2)
                plain = plain_log_prob(likelihood, loc, variance, label)
                new = likelihood.expected_log_prob(loc, variance, label)
                found[name][f"sd {sd:g}"] = {
                    "plain": float(f"{(plain - exact).abs().max():.2g}"),
                    "new": float(f"{(new - exact).abs().max():.2g}"),
                }
    return found


def costs_of_log_prob(repeats: int) -> dict[str, float]:
    """Return the cost of E log p with its gradient, new over plain, 4 draws of 2,000 pairs."""
    found = {}
    for name, make in PREFERENCE_LIKELIHOODS.items():
        likelihood = make().build()
        loc = torch.randn(4, 2000, requires_grad=True)
        variance = torch.rand(4, 2000, requires_grad=True)
        label = torch.bernoulli(torch.full((2000,), 0.5))
        arguments = loc, variance, label
        found[name] = ratio(
            lambda a=arguments, known=likelihood: known.expected_log_prob(*a).sum().backward(),
            lambda a=arguments, known=likelihood: plain_log_prob(known, *a).sum().backward(),
            repeats,
        )
    return found


if __name__ == "__main__":
    main()
