"""Fit the Laplace posterior of the global parameters from their Fisher information."""

from collections.abc import Callable, Iterator
from typing import Final

import pyro
import torch
from torch import Tensor
from torch.func import jacrev, vmap
from tqdm import tqdm

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.distributions import as_gaussian
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.epistemic.base import run_with
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.evaluation import double_copy
from vrm_pyro.models.likelihoods import hermite_nodes, root
from vrm_pyro.models.likelihoods.base import PreferenceLikelihood
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.vrm import VRM

# Size of one block of gradients: 64 MB in float64.
_BLOCK: Final = 8_000_000
# Floor of a marginal probability: below it, gradient / sqrt(p) is rounding noise in float64.
_LEAST_PROBABILITY: Final = 1e-12

Function = Callable[..., Tensor]


def fit_laplace(model: RewardModel, dataset: PromptDataset, progress: bool = False) -> None:
    """Set the covariance of a model's Laplace posterior; leave other models unchanged.

    Source: spec 2.2.

    Args:
        model: A trained model.
        dataset: Its training prompts, with standardised ratings.
        progress: Whether to show a progress bar.
    """
    if isinstance(model, BradleyTerryModel) and model.last_layer is not None:
        model.last_layer.fit(_last_layer_information(model, dataset))
    for member in latent_members(model):
        posterior = member.parameter_posterior
        if isinstance(posterior, LaplacePosterior):
            posterior.fit(parameter_information(member, dataset, progress))


def _last_layer_information(model: BradleyTerryModel, dataset: PromptDataset) -> Tensor:
    """Return the Fisher information of all labels about the last layer, float64."""
    with double_copy(model) as copied:
        parts = (
            copied.last_layer_information(chunk.batch.to(torch.float64))
            for chunk in chunks(dataset)
        )
        return torch.stack(list(parts)).sum(0)


def parameter_information(model: VRM, dataset: PromptDataset, progress: bool = False) -> Tensor:
    """Return the Fisher information I of a model's uncertain parameters, (p, p), float64.

    Source: spec 2.2.

    Each pair adds ``pair_weight`` times the Fisher information of its label under the predictive
    distribution p(c) = E p(c | Delta), Delta ~ N(E Delta, Var Delta), with the closed-form moments
    of :meth:`VRM.delta_moments`, which integrate over w and z. For two outcomes it is
    J' J / (p (1 - p)), with J the gradient of p. With Var Delta = 0 it reduces to p (1 - p) times
    the squared gradient of E Delta, as in logistic regression.

    If ratings act on scores, each response adds the Fisher information of its ratings under
    y ~ N(E s, A Sigma A' + D), with D the inverse precision of the ratings given the scores,
    power included. It is exact for Gaussian ratings with power 1, and a Gaussian approximation
    at E s for others.

    Terms that share w or z (pairs of a prompt, ratings and labels of a response) count as
    independent, as in objective ``pairwise``. Ratings on weights add nothing.

    Args:
        model: A model with a Laplace head; a float64 copy on the CPU is used.
        dataset: Training prompts, with standardised ratings.
        progress: Whether to show a progress bar.
    """
    with double_copy(model) as copied, pyro.validation_enabled(False):
        head = copied.parameter_posterior
        assert isinstance(head, LaplacePosterior)
        total = torch.zeros(head.size, head.size, dtype=torch.float64)
        with tqdm(
            total=len(dataset), desc="Covariance", unit="prompt", disable=not progress
        ) as bar:
            for chunk in chunks(dataset, max_pairs=256, max_responses=512):
                batch = chunk.batch.to(torch.float64)
                for rows in (*_pair_rows(copied, head, batch), *_rating_rows(copied, head, batch)):
                    total.addmm_(rows.T, rows)
                bar.update(len(chunk.prompts))
    return total


def _pair_rows(model: VRM, head: LaplacePosterior, batch: FeatureBatch) -> Iterator[Tensor]:
    """Yield blocks of rows whose outer products sum to the information of the labels."""

    def moments(theta: Tensor, prompt: Tensor, first: Tensor, second: Tensor) -> Tensor:
        pair = _one_pair(batch, prompt, first, second)
        found = run_with(model, head.unflatten(theta), lambda: model.delta_moments(pair))
        return torch.cat([found.mean, found.variance])

    inputs = (
        batch.prompts[batch.pair_prompt],
        batch.responses[batch.pair_first],
        batch.responses[batch.pair_second],
    )
    weights = batch.pair_weight.split(_rows_at_once(head, 2))
    blocks = _jacobians(moments, head, model, inputs, 2)
    for (value, jacobian), weight in zip(blocks, weights, strict=True):
        gradients = outcome_gradients(model.likelihood, value[:, 0], value[:, 1])
        rows = torch.einsum("n,nom,nmp->nop", weight.sqrt(), gradients, jacobian)
        yield rows.flatten(0, 1)


def outcome_gradients(likelihood: PreferenceLikelihood, mean: Tensor, variance: Tensor) -> Tensor:
    """Return G with G'G the information of a label about mean and variance of Delta, (N, O, 2).

    Its rows are grad p_o / sqrt(p_o), with p_o the probability of outcome o for
    Delta ~ N(mean, variance). Two outcomes have proportional rows, which are merged into one.

    Args:
        likelihood: Preference likelihood.
        mean: E Delta, shape (N,).
        variance: Var Delta, shape (N,).
    """
    nodes, mass = hermite_nodes(mean)
    with torch.enable_grad():
        moments = torch.stack([mean, variance], -1).detach().requires_grad_()
        deltas = moments[:, :1] + root(moments[:, 1:]) * nodes
        chances = torch.einsum("nso,s->no", likelihood.outcome_probabilities(deltas), mass)
        gradients = torch.stack(
            [
                torch.autograd.grad(chance.sum(), moments, retain_graph=True)[0]
                for chance in chances.unbind(-1)
            ],
            dim=1,
        )
    chances = chances.detach().clamp(min=_LEAST_PROBABILITY)
    if chances.shape[-1] == 2:
        return gradients[:, 1:] / chances.prod(-1).sqrt()[:, None, None]
    return gradients / chances.sqrt().unsqueeze(-1)


def _rating_rows(model: VRM, head: LaplacePosterior, batch: FeatureBatch) -> Iterator[Tensor]:
    """Yield blocks of rows whose outer products sum to the information of the ratings."""
    if model.ratings is None or not batch.has_ratings:
        return
    size = model.num_objectives
    upper = torch.triu_indices(size, size)

    def distribution(theta: Tensor, response: Tensor) -> Tensor:
        def scores() -> Tensor:
            features = as_gaussian(model.predictive_features(response.unsqueeze(0)))
            reward = model.reward()
            factor = features.factor(reward.loading).squeeze(0)
            covariance = (factor @ factor.T)[upper[0], upper[1]]
            return torch.cat([reward.scores(features.loc).squeeze(0), covariance])

        return run_with(model, head.unflatten(theta), scores)

    features = as_gaussian(model.predictive_features(batch.responses))
    precision, _ = model.ratings().site(batch, model.reward().scores(features.loc))
    outputs = size + upper.shape[1]
    precisions = precision.split(_rows_at_once(head, outputs))
    blocks = _jacobians(distribution, head, model, (batch.responses,), outputs)
    for (value, jacobian), given in zip(blocks, precisions, strict=True):
        root_information = gaussian_gradients(value, given)
        rows = torch.einsum("nom,nmp->nop", root_information, jacobian)
        yield rows[rows.flatten(2).abs().amax(-1) > 0]


def gaussian_gradients(distribution: Tensor, precision: Tensor) -> Tensor:
    """Return G with G'G the information of ratings about the distribution of their scores.

    For y ~ N(m, V), V = C + diag(1 / precision), the information is
    dm' V^-1 dm + 1/2 tr(V^-1 dC V^-1 dC). With V = L L', the rows of G are L^-1 dm and the
    vech-weighted L^-1 dC L^-T / sqrt 2. Precision 0 marks a missing rating.

    Args:
        distribution: m and the upper triangle of C, row by row, shape (R, K + K (K + 1) / 2).
        precision: Of a rating given its score, shape (R, K).

    Returns:
        Shape (R, K + K (K + 1) / 2, K + K (K + 1) / 2); columns in the order of ``distribution``.
    """
    size = precision.shape[-1]
    rows, columns = torch.triu_indices(size, size)
    covariance = distribution.new_zeros(len(distribution), size, size)
    covariance[:, rows, columns] = covariance[:, columns, rows] = distribution[:, size:]
    seen = precision > 0
    both = (seen.unsqueeze(-1) & seen.unsqueeze(-2)).to(distribution.dtype)
    noise = torch.where(seen, 1 / torch.where(seen, precision, 1.0), 1.0)
    factor = torch.linalg.cholesky(covariance * both + torch.diag_embed(noise))
    inverse = torch.linalg.solve_triangular(
        factor, torch.eye(size).to(factor).expand_as(factor), upper=False
    )
    inverse = inverse * seen.unsqueeze(-2)
    # Column (i, j) of the covariance part: L^-1 (e_i e_j' + e_j e_i') L^-T, once if i = j.
    one, other = inverse[:, :, rows], inverse[:, :, columns]
    product = one[:, rows] * other[:, columns]
    swapped = other[:, rows] * one[:, columns]
    diagonal = rows == columns
    moved = torch.where(diagonal, product, product + swapped)
    # Off-diagonal entries count twice in the trace.
    moved = moved * torch.where(diagonal, 0.5, 1.0).to(distribution).sqrt().unsqueeze(-1)
    result = distribution.new_zeros(
        len(distribution), distribution.shape[1], distribution.shape[1]
    )
    result[:, :size, :size] = inverse
    result[:, size:, size:] = moved
    return result


def _jacobians(
    function: Function,
    head: LaplacePosterior,
    model: VRM,
    inputs: tuple[Tensor, ...],
    outputs: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield values (n, m) and gradients (n, m, p) of a function of theta, n inputs at a time."""
    theta = head.flatten(head.values(model)).detach()

    def twice(theta: Tensor, *each: Tensor) -> tuple[Tensor, Tensor]:
        value = function(theta, *each)
        return value, value

    derivative = vmap(
        jacrev(twice, has_aux=True),
        in_dims=(None, *[0] * len(inputs)),
        randomness="same",  # distributions without closed moments are sampled under a fixed seed
    )
    step = _rows_at_once(head, outputs)
    for block in zip(*(values.split(step) for values in inputs), strict=True):
        if len(block[0]):
            jacobian, value = derivative(theta, *block)
            yield value, jacobian


def _rows_at_once(head: LaplacePosterior, outputs: int) -> int:
    return max(1, _BLOCK // (head.size * outputs))


def _one_pair(batch: FeatureBatch, prompt: Tensor, first: Tensor, second: Tensor) -> FeatureBatch:
    """Return a batch with one pair and no outcome."""
    index = torch.zeros(2, dtype=torch.long)
    none = batch.ratings.new_zeros(2, batch.ratings.shape[1])
    return FeatureBatch(
        prompts=prompt.unsqueeze(0),
        responses=torch.stack([first, second]),
        response_prompt=index,
        pair_first=index[:1],
        pair_second=index[:1] + 1,
        preference=none.new_zeros(1),
        pair_weight=none.new_ones(1),
        ratings=none,
        rating_mask=torch.zeros_like(none, dtype=torch.bool),
    )
