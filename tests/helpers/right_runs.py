"""Runs in which everything is right, and runs with one planted fault, for the diagnostics."""

from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, Arrays, small_batch, small_model
from torch import nn

from vrm_pyro.diagnostics.checks import CheckInputs, Rows
from vrm_pyro.diagnostics.checks.simulated import simulated_outcomes
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.distributions import Gaussian, as_gaussian
from vrm_pyro.models.guides import FullCovarianceGuide
from vrm_pyro.models.guides.base import GuideModule
from vrm_pyro.prediction.posterior.refine import refine

NUM_OBJECTIVES, LATENT_DIM = 3, 3
OBJECTIVES = tuple(f"objective_{k}" for k in range(NUM_OBJECTIVES))


class Shared(dict):
    """A dictionary that copies of a guide have in common."""

    def __deepcopy__(self, memo):
        return self


class RightGuide(GuideModule):
    """The best q of its family for each prompt, found anew for each batch.

    ``narrow`` divides its standard deviations; ``kl_weight`` is the weight of the KL in what it
    maximises: outcomes to the power 1 / kl_weight have the same best q.
    """

    def __init__(self, narrow=1.0, kl_weight=1.0):
        super().__init__()
        self.narrow, self.kl_weight = narrow, kl_weight
        # Where refinement starts, of which it asks for no more than a guide.
        self.start = small_model(num_objectives=NUM_OBJECTIVES, latent_dim=LATENT_DIM)
        with torch.random.fork_rng():
            torch.manual_seed(0)
            self.start.guide = FullCovarianceGuide().build(HIDDEN_SIZE, NUM_OBJECTIVES, LATENT_DIM)
        self.known = Shared()

    def posterior(self, batch, conditionals):
        key = hash((batch.preference.numpy().tobytes(), batch.ratings.numpy().tobytes()))
        if key not in self.known:
            self.known[key] = self.find(batch, conditionals)
        return self.known[key]

    def find(self, batch, conditionals):
        ratings = conditionals.ratings
        if self.kl_weight != 1:
            ratings = replace(ratings, power=ratings.power / self.kl_weight)
            batch = replace(batch, pair_weight=batch.pair_weight / self.kl_weight)
        found = refine(
            self.start, batch, replace(conditionals, ratings=ratings), num_steps=25, num_nodes=24
        )
        q_weights, q_features = found.guide.distributions
        gaussian = as_gaussian(q_features)
        return (
            # The sd of a Dirichlet falls with the root of its total concentration.
            dist.Dirichlet(q_weights.concentration.detach() * self.narrow**2),
            Gaussian(gaussian.loc.detach(), gaussian.scale.detach() / self.narrow).distribution(),
        )

    def weights(self, batch, conditionals):
        return self.posterior(batch, conditionals)[0]

    def features(self, batch, conditionals):
        return self.posterior(batch, conditionals)[1]


def check_inputs(seed=0, num_prompts=200, num_draws=500, fault=""):
    """Return a model whose own program made the outcomes, with a right guide, or with a fault.

    Each prompt has two pairs of two responses, most of them rated; subsets and lengths have
    nothing to do with anything.
    """
    model = small_model(num_objectives=NUM_OBJECTIVES, latent_dim=LATENT_DIM, seed=1000 + seed)
    with torch.no_grad():
        model.reward.log_scale.fill_(np.log(2.0))
    batch = small_batch(num_prompts, NUM_OBJECTIVES, single_use=True, seed=2000 + seed)
    batch = replace(batch, pair_weight=torch.ones_like(batch.pair_weight))
    # In the precision of a source, so that outcomes and predictions see the same states.
    batch = batch.to(torch.float32).to(torch.float64)
    with torch.no_grad():
        batch, _, _ = simulated_outcomes(batch, model.conditionals(batch), 3000 + seed)
    rng = np.random.default_rng(4000 + seed)
    subset = np.where(rng.random(num_prompts) < 0.5, "left", "right").tolist()
    lengths = rng.integers(20, 400, batch.num_responses)
    model.guide = RightGuide()
    batch, lengths = plant(fault, model, batch, subset, lengths, rng)
    source = Arrays(batch)
    rows = Rows(source, [subset[i] for i in batch.pair_prompt.tolist()], lengths)
    config = network_config(rating_power=1.0)
    loaded = LoadedModel(model, config, OBJECTIVES, True, {})
    return CheckInputs(loaded, rows, rows, num_draws, seed, refined_prompts=25)


def plant(fault, model, batch, subset, lengths, rng):
    """Spoil one thing after the outcomes were made."""
    if fault in ("", None):
        return batch, lengths
    left = torch.tensor([name == "left" for name in subset])
    one = torch.randperm(batch.num_prompts, generator=torch.Generator().manual_seed(7))
    if fault == "sd halved":
        model.guide = RightGuide(narrow=2.0)
    elif fault == "KL term scaled":
        model.guide = RightGuide(kl_weight=0.2)
    elif fault == "w on other rows":
        batch = replace(batch, prompts=batch.prompts[one])
    elif fault == "w of other objectives":
        head = last_layer(model.weight_prior)
        with torch.no_grad():
            for parameter in head.parameters():
                parameter[:NUM_OBJECTIVES] = parameter[:NUM_OBJECTIVES].roll(1, 0)
    elif fault == "prior shifted":
        with torch.no_grad():
            last_layer(model.feature_prior).bias[:LATENT_DIM] += 1.0
    elif fault == "prior too tight":
        model.feature_prior = Tight(model.feature_prior)
    elif fault == "labels flipped in a subset":
        flipped = torch.where(left[batch.pair_prompt], 1 - batch.preference, batch.preference)
        batch = replace(batch, preference=flipped)
    elif fault == "labels flipped":
        batch = replace(batch, preference=1 - batch.preference)
    elif fault == "ratings scaled":
        batch = replace(batch, ratings=1.5 * batch.ratings)
    elif fault == "ratings scaled in a subset":
        factor = torch.where(left[batch.response_prompt], 3.0, 1.0).unsqueeze(-1)
        batch = replace(batch, ratings=factor * batch.ratings)
    elif fault == "labels follow one objective":
        better = batch.ratings[batch.pair_first, 0] > batch.ratings[batch.pair_second, 0]
        some = torch.from_numpy(rng.random(batch.num_pairs) < 0.7)
        label = torch.where(some, better.to(batch.preference), batch.preference)
        batch = replace(batch, preference=label)
    elif fault == "reward too large":
        with torch.no_grad():
            model.reward.log_scale += np.log(3.0)
    elif fault == "collapse of w":
        silence(model.weight_prior)
    elif fault == "collapse of z":
        silence(model.feature_prior)
    elif fault == "labels like length":
        longer = (
            torch.from_numpy(lengths)[batch.pair_first]
            > torch.from_numpy(lengths)[batch.pair_second]
        )
        some = torch.from_numpy(rng.random(batch.num_pairs) < 0.4)
        batch = replace(
            batch, preference=torch.where(some, longer.to(batch.preference), batch.preference)
        )
    elif fault == "labels like the first":
        some = torch.from_numpy(rng.random(batch.num_pairs) < 0.3)
        batch = replace(batch, preference=torch.where(some, 1.0, batch.preference))
    elif fault == "other texts in a subset":
        far = torch.where(left[batch.response_prompt], 2.0, 1.0).unsqueeze(-1)
        batch = replace(batch, responses=far * batch.responses)
    else:
        raise ValueError(fault)
    return batch, lengths


class Tight(nn.Module):
    """A feature prior with a third of the right standard deviation."""

    def __init__(self, prior):
        super().__init__()
        self.prior = prior

    def forward(self, states):
        law = as_gaussian(self.prior(states))
        return dist.Normal(law.loc, law.scale / 3).to_event(1)


def last_layer(module):
    return [layer for layer in module.modules() if isinstance(layer, nn.Linear)][-1]


def silence(module):
    """Make a network ignore its states."""
    with torch.no_grad():
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.zero_()
