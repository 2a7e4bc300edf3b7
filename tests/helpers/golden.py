"""The golden problem of spec 2.12: one prompt, one pair, exact numbers by quadrature."""

import numpy as np
import pyro.distributions as dist
import torch
from scipy.special import roots_jacobi
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.likelihoods import BradleyTerry
from vrm_pyro.models.ratings import GaussianValues
from vrm_pyro.models.reward import RewardParameters

EVIDENCE = -0.6328320270
EVIDENCE_OTHER = -0.7573350868
EVIDENCE_RATINGS = -4.6624477741
EVIDENCE_JOINT = -5.1721010508
WEIGHT_MOMENTS = {  # E[w_1 | outcomes], E[w_1^2 | outcomes]
    False: (0.7022293535, 0.5422098358),
    True: (0.7029482181, 0.5430162150),
}
PRIOR_AS_GUIDE = {False: -0.8835846751, True: -7.7359043383}
BEST_DIAGONAL = {False: -0.6859061025, True: -5.1867171435}
BEST_GUIDE = {
    False: ((2.469995, 1.018246), (0.755619, 0.035768), (-0.555619, 0.164232),
            (0.939205, 0.963583)),
    True: ((2.374974, 0.994655), (0.786314, 0.405413), (-0.243474, 0.478896),
           (0.532125, 0.622295)),
}  # fmt: skip


def batch(ratings: bool, preference: float = 1.0, dtype: torch.dtype = torch.float64):
    """Return the one-prompt batch; states are empty, the heads are given."""
    return FeatureBatch(
        prompts=torch.zeros(1, 1, dtype=dtype),
        responses=torch.zeros(2, 1, dtype=dtype),
        response_prompt=torch.tensor([0, 0]),
        pair_first=torch.tensor([0]),
        pair_second=torch.tensor([1]),
        preference=torch.tensor([preference], dtype=dtype),
        pair_weight=torch.ones(1, dtype=dtype),
        ratings=torch.tensor([[1.0, 0.2], [0.1, 0.6]], dtype=dtype),
        rating_mask=torch.full((2, 2), ratings),
    )


def conditionals(dtype: torch.dtype = torch.float64, power: float = 1.0) -> Conditionals:
    """Return priors and parameters of the golden problem."""
    loc = torch.tensor([[0.5, -0.2], [-0.3, 0.4]], dtype=dtype)
    return Conditionals(
        dist.Dirichlet(torch.tensor([[2.0, 1.0]], dtype=dtype)),
        dist.Normal(loc, torch.ones_like(loc)).to_event(1),
        RewardParameters(
            torch.tensor([[1.0, 0.3], [-0.4, 0.8]], dtype=dtype),
            torch.zeros(2, dtype=dtype),
            torch.tensor(1.5, dtype=dtype),
        ),
        GaussianValues(torch.zeros(2, dtype=dtype), torch.full((2,), 0.7, dtype=dtype), power),
        BradleyTerry(),
    )


def guide(ratings: bool) -> tuple[dist.Dirichlet, dist.Independent]:
    """Return the best diagonal q(w), q(z) as listed."""
    alpha, first, second, sd = BEST_GUIDE[ratings]
    loc = torch.tensor([first, second], dtype=torch.float64)
    scale = torch.tensor([sd, sd], dtype=torch.float64)
    return (
        dist.Dirichlet(torch.tensor([alpha], dtype=torch.float64)),
        dist.Normal(loc, scale).to_event(1),
    )


def jacobi_nodes(concentration: Tensor, num_nodes: int = 64) -> tuple[Tensor, Tensor]:
    """Return Gauss-Jacobi nodes of a two-objective Dirichlet: (S, P, 2) and log mass (S, P)."""
    nodes, masses = [], []
    for a, b in concentration.detach().numpy():
        x, mass = roots_jacobi(num_nodes, b - 1, a - 1)
        first = (1 + x) / 2
        nodes.append(np.stack([first, 1 - first], -1))
        masses.append(np.log(mass / mass.sum()))
    return torch.tensor(np.stack(nodes, 1)), torch.tensor(np.stack(masses, 1))
