"""The golden problem of the specification beside what the package computes.

One prompt, two responses, one pair, two objectives, exact by quadrature. Each row: the listed
number, ours, the difference, and what it may be. Exits with 1 when a row is off.

    python benchmarks/golden.py --out runs/golden.json
"""

import argparse
import importlib.util
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pyro.distributions as dist
import torch
from torch import Tensor

from vrm_pyro.conjugate import features_given_ratings, rating_evidence
from vrm_pyro.elbo import SampledObjective, Weights
from vrm_pyro.elbo.collapsed import prompt_log_weights
from vrm_pyro.elbo.integrated import integrated_terms
from vrm_pyro.guides import OutcomeAwareGuide
from vrm_pyro.heads import Heads
from vrm_pyro.likelihood import GaussianDelta, root
from vrm_pyro.model import VRM
from vrm_pyro.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.reward import LinearReward


def _load_problem() -> ModuleType:
    """Return the module that states the problem once, for tests and for this script."""
    path = Path(__file__).resolve().parents[1] / "tests" / "golden.py"
    spec = importlib.util.spec_from_file_location("golden_problem", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


golden: Any = _load_problem()


class Row(NamedTuple):
    """One line of the table.

    Attributes:
        quantity: What it is.
        listed: Number of the specification.
        found: Ours.
        allowed: Largest difference.
    """

    quantity: str
    listed: float
    found: float
    allowed: float

    @property
    def holds(self) -> bool:
        """Whether ours is close enough."""
        return abs(self.found - self.listed) <= self.allowed


def posterior_of_weights(ratings: bool, preference: float, heads: Heads) -> tuple[Tensor, ...]:
    """Return log p(c | ratings), E[w_1] and E[w_1^2] given the outcomes, by Gauss-Jacobi."""
    nodes, log_mass = golden.jacobi_nodes(heads.weights.concentration)
    loc, covariance = features_given_ratings(golden.batch(ratings), heads)
    direction = heads.reward.scale * nodes[:, 0] @ heads.reward.loading
    mean = direction @ (loc[0] - loc[1])
    variance = torch.einsum("sd,de,se->s", direction, covariance.sum(0), direction)
    label = torch.full((len(nodes),), preference, dtype=torch.float64)
    law = GaussianDelta(mean, root(variance), heads.likelihood)
    joint = log_mass[:, 0] + law.log_prob(label)
    evidence = joint.logsumexp(0)
    mass, first = (joint - evidence).exp(), nodes[:, 0, 0]
    return evidence, (mass * first).sum(), (mass * first**2).sum()


def bound(ratings: bool, q_weights: dist.Dirichlet, q_features: dist.Independent) -> Tensor:
    """Return the integrated ELBO with w by Gauss-Jacobi: no noise."""
    nodes, log_mass = golden.jacobi_nodes(q_weights.concentration)
    return integrated_terms(
        golden.batch(ratings), golden.heads(), q_weights, q_features, nodes, log_mass, Weights()
    ).objective


def optimum(ratings: bool) -> tuple[dist.Dirichlet, dist.Independent]:
    """Return the best diagonal q that an optimiser finds from the prior."""
    heads = golden.heads()
    prior = heads.features.base_dist
    nodes, log_mass = golden.jacobi_nodes(heads.weights.concentration, 32)
    leaves = [
        heads.weights.concentration.log().clone().requires_grad_(),
        prior.loc.clone().requires_grad_(),
        prior.scale.log().clone().requires_grad_(),
    ]
    optimiser = torch.optim.LBFGS(leaves, max_iter=200, line_search_fn="strong_wolfe")

    def q(values: list[Tensor]) -> tuple[dist.Dirichlet, dist.Independent]:
        features = dist.Normal(values[1], values[2].exp()).to_event(1)
        return dist.Dirichlet(values[0].exp()), features

    def loss() -> Tensor:
        optimiser.zero_grad()
        q_weights, q_features = q(leaves)
        # The nodes stay where the prior put them; their mass follows q.
        mass = log_mass + q_weights.log_prob(nodes) - heads.weights.log_prob(nodes)
        value = -integrated_terms(
            golden.batch(ratings), heads, q_weights, q_features, nodes, mass, Weights()
        ).objective
        value.backward()  # type: ignore[no-untyped-call]
        return value

    optimiser.step(loss)  # type: ignore[arg-type]
    return q([leaf.detach() for leaf in leaves])


def model_with(q_weights: dist.Dirichlet, q_features: dist.Independent) -> VRM:
    """Return a model for its programs alone: heads are handed in, the guide is this q."""
    model = VRM(
        1, 2, 2, ConditionalDirichletPrior(), ConditionalNormalPrior(), OutcomeAwareGuide(),
        LinearReward(2, 2),
    ).double()  # fmt: skip
    model.guide = golden.FixedGuide(q_weights, q_features)
    return model


def mean_and_error(values: Tensor) -> tuple[float, float]:
    """Return the mean of independent values and its standard error."""
    return values.mean().item(), (values.std() / len(values) ** 0.5).item()


def drawn_by_pyro(ratings: bool, repeats: int = 100, particles: int = 500) -> tuple[float, float]:
    """Return the sampled ELBO at the listed guide."""
    model, objective = model_with(*golden.guide(ratings)), SampledObjective(particles)
    batch, heads = golden.batch(ratings), golden.heads()
    with torch.no_grad():
        values = [
            objective.terms(model, model.guide, batch, heads, Weights()).objective
            for _ in range(repeats)
        ]
    return mean_and_error(torch.stack(values))


def collapsed(alpha: list[float], num_draws: int, repeats: int) -> tuple[float, float]:
    """Return the importance bound of q(w) = Dir(alpha), over independent sets of draws."""
    heads = golden.heads()
    model = model_with(dist.Dirichlet(torch.tensor([alpha]).double()), heads.features)
    with torch.no_grad():
        log_weights, _ = prompt_log_weights(model, golden.batch(False), heads, num_draws * repeats)
    values = log_weights.view(num_draws, repeats).logsumexp(0) - math.log(num_draws)
    return mean_and_error(values)


def highest_of_random_guides(ratings: bool, count: int = 200) -> float:
    """Return the largest integrated ELBO of random guides around the optimum and far from it."""
    generator = torch.Generator().manual_seed(11)
    best_w, best_z = golden.guide(ratings)
    normal, highest = best_z.base_dist, -float("inf")
    for i in range(count):

        def noise(*shape: int, spread: float = 0.02 * 2.0 ** (i % 8)) -> Tensor:
            return spread * torch.randn(*shape, generator=generator).double()

        alpha = (best_w.concentration * noise(1, 2).exp()).clamp(min=0.1, max=1e4)
        q_features = dist.Normal(normal.loc + noise(2, 2), normal.scale * noise(2, 2).exp())
        highest = max(
            highest, bound(ratings, dist.Dirichlet(alpha), q_features.to_event(1)).item()
        )
    return highest


def exact_rows() -> list[Row]:
    """Return what quadrature gives."""
    heads = golden.heads()
    rows = []
    for ratings, suffix in ((False, ""), (True, ", ratings")):
        evidence, first, second = posterior_of_weights(ratings, 1.0, heads)
        listed = golden.EVIDENCE_JOINT - golden.EVIDENCE_RATINGS if ratings else golden.EVIDENCE
        moments = (0.7029482181, 0.5430162150) if ratings else (0.7022293535, 0.5422098358)
        rows += [
            Row(f"log p(c=1{' given ratings' if ratings else ''})", listed, evidence.item(), 1e-7),
            Row(f"E[w_1 given c{suffix}]", moments[0], first.item(), 1e-7),
            Row(f"E[w_1^2 given c{suffix}]", moments[1], second.item(), 1e-7),
        ]
    other = posterior_of_weights(False, 0.0, heads)[0].item()
    rows.append(Row("log p(c=0)", golden.EVIDENCE_OTHER, other, 1e-7))
    rated = rating_evidence(golden.batch(True), heads).sum().item()
    joint = rated + posterior_of_weights(True, 1.0, heads)[0].item()
    rows.append(Row("log p(ratings)", golden.EVIDENCE_RATINGS, rated, 1e-7))
    rows.append(Row("log p(c=1, ratings)", golden.EVIDENCE_JOINT, joint, 1e-7))
    tempered = golden.heads(power=0.3)
    value = rating_evidence(golden.batch(True), tempered).sum()
    value = value + posterior_of_weights(True, 1.0, tempered)[0]
    rows.append(Row("log p at lambda = .3 (spec 2.13)", -2.303, value.item(), 5e-4))
    return rows


def bound_rows() -> list[Row]:
    """Return the bounds without noise: at the listed guides, at the prior, after optimising."""
    heads = golden.heads()
    rows = []
    for ratings in (False, True):
        name = "ratings" if ratings else "no ratings"
        at_prior = bound(ratings, heads.weights, heads.features).item()
        at_best = bound(ratings, *golden.guide(ratings)).item()
        q_weights, q_features = optimum(ratings)
        best = golden.BEST_DIAGONAL[ratings]
        alpha, loc_a, loc_b, scale = golden.BEST_GUIDE[ratings]
        rows += [
            Row(f"ELBO with q = prior, {name}", golden.PRIOR_AS_GUIDE[ratings], at_prior, 1e-6),
            Row(f"ELBO at the listed q, {name}", best, at_best, 1e-6),
            Row(f"best diagonal ELBO, {name}", best, bound(ratings, q_weights, q_features), 1e-6),
        ]
        found = q_weights.concentration[0].tolist()
        normal = q_features.base_dist
        means = [normal.loc[0].tolist(), normal.loc[1].tolist(), normal.scale[0].tolist()]
        for label, listed, ours in zip(
            ("alpha", "mu_a", "mu_b", "sd"),
            (alpha, loc_a, loc_b, scale),
            (found, *means),
            strict=True,
        ):
            for k in range(2):
                row = Row(f"  {label}[{k}] there, {name}", listed[k], ours[k], 2e-3)
                rows.append(row)
    return [row._replace(found=float(row.found)) for row in rows]


def drawn_rows() -> list[Row]:
    """Return the estimates with draws, allowed four standard errors."""
    rows = []
    for ratings in (False, True):
        name = "ratings" if ratings else "no ratings"
        mean, error = drawn_by_pyro(ratings)
        listed = golden.BEST_DIAGONAL[ratings]
        rows.append(Row(f"sampled Pyro program, {name} (4 se)", listed, mean, 4 * error))
    mean, error = collapsed([2.2, 1.0], 8, 200_000)
    allowed = 4 * (error**2 + 2e-4**2) ** 0.5
    rows.append(Row("collapsed, Dir(2.2, 1), 8 draws (4 se)", -0.63342, mean, allowed))
    return rows


def main() -> int:
    """Print the table; return 1 when a row is off."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default=None, help="write the rows as JSON")
    args = parser.parse_args()
    torch.manual_seed(0)
    sections: list[Callable[[], list[Row]]] = [exact_rows, bound_rows, drawn_rows]
    rows = [row for section in sections for row in section()]
    print(f"{'quantity':44} {'listed':>15} {'ours':>15} {'difference':>11} {'allowed':>9}")
    for row in rows:
        print(
            f"{row.quantity:44} {row.listed:15.10f} {row.found:15.10f} "
            f"{row.found - row.listed:11.1e} {row.allowed:9.1e} {'' if row.holds else '  OFF'}"
        )
    below = []
    for ratings, evidence in ((False, golden.EVIDENCE), (True, golden.EVIDENCE_JOINT)):
        highest = highest_of_random_guides(ratings)
        below.append(highest <= evidence + 1e-9)
        print(
            f"200 random guides, {'ratings' if ratings else 'no ratings'}: highest ELBO "
            f"{highest:.7f}, evidence {evidence:.7f}{'' if below[-1] else '  OFF'}"
        )
    holds = all(row.holds for row in rows) and all(below)
    if args.out:
        Path(args.out).parent.mkdir(parents=True, exist_ok=True)
        content = {"rows": [row._asdict() for row in rows], "holds": holds}
        Path(args.out).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    return 0 if holds else 1


if __name__ == "__main__":
    sys.exit(main())
