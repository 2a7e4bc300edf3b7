"""The objective that refinement maximises, and where it starts and ends."""

from dataclasses import replace

import torch
from helpers.problems import random_conditionals, small_batch, small_model

from vrm_pyro.models.distributions import weight_nodes
from vrm_pyro.models.objectives import Weights
from vrm_pyro.models.objectives.integrated import integrated_terms
from vrm_pyro.prediction.posterior.refine import prompt_elbo, refine

NODES = 16


def problem():
    batch = small_batch(4, num_objectives=4)
    weight = torch.linspace(0.2, 3.0, batch.num_pairs).double()
    return replace(batch, pair_weight=weight), random_conditionals(4, batch.num_responses)


def test_prompts_sum_to_the_integrated_elbo_with_the_weights_of_pairs():
    batch, heads = problem()
    other = random_conditionals(4, batch.num_responses, seed=5)
    q_weights, q_features = other.weights, other.features
    nodes = weight_nodes(q_weights, NODES)
    mass = nodes.new_full((NODES,), 1 / NODES).log()
    expected = integrated_terms(batch, heads, q_weights, q_features, nodes, mass, Weights())
    found = prompt_elbo(batch, heads, q_weights, q_features, NODES)
    assert torch.allclose(found.sum(), expected.elbo, rtol=1e-12)


def test_pairs_of_weight_zero_leave_the_prior():
    """With nothing to explain, the best q is p, with an ELBO of 0."""
    batch, heads = problem()
    silent = replace(
        batch,
        pair_weight=torch.zeros_like(batch.pair_weight),
        rating_mask=torch.zeros_like(batch.rating_mask),
    )
    found = refine(small_model(num_objectives=4, latent_dim=4), silent, heads, 5, NODES)
    assert torch.allclose(found.after, torch.zeros(4).double(), atol=1e-9)
