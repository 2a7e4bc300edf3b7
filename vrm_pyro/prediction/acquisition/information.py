"""Expected information of a label about the parameters and the weights of its prompt."""

from collections.abc import Callable
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel

Floats = NDArray[np.float32]

NUM_NODES: Final = 64
"""Fixed draws of w, for each value of the parameters."""
_PAIRS: Final = 512


class LabelInformation(NamedTuple):
    """What a label would say about each pair, in nats, (N,) each.

    Attributes:
        p_first: Probability that the first is preferred.
        parameters: Mutual information of label and parameters.
        weights: Mutual information of label and w of its prompt, given the parameters.
        deviations: E[Delta | parameters] minus its mean, over V values of the parameters divided
            by sqrt(V): the squared length is the epistemic variance; (N, V).
        noise: Variance of Delta that the parameters do not explain, plus that of the label.
    """

    p_first: Floats
    parameters: Floats
    weights: Floats
    deviations: Floats
    noise: Floats

    @property
    def total(self) -> Floats:
        """Mutual information of the label with both, the score of BALD."""
        return self.parameters + self.weights


def label_information(model: RewardModel, source: FeatureSource) -> LabelInformation:
    """Return the expected information of the label of each pair of a source.

    With p the probability of the label given parameters and w, z integrated out, and H the entropy
    of a label: parameters have H(E p) - E H(E[p | parameters]), weights the mean over parameters
    of H(E[p | parameters]) - E[H(p) | parameters]. What z leaves open is of this item alone and
    counts for nothing.

    Source: Houlsby et al. (2011), BALD, on the joint draws of spec 2.9.

    Args:
        model: The model.
        source: States and pairs; preferences are not read.
    """
    found: list[tuple[Tensor, ...]] = []
    order: list[NDArray[np.int64]] = []
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source), max_pairs=_PAIRS, max_responses=2 * _PAIRS):
            batch = chunk.batch.to(device)
            if not batch.num_pairs:
                continue
            loc, variance = model.reward_mixture(batch, NUM_NODES)
            for rows in torch.arange(batch.num_pairs, device=device).split(_PAIRS):
                first, second = batch.pair_first[rows], batch.pair_second[rows]
                mean = loc[..., first] - loc[..., second]
                spread = variance[..., first] + variance[..., second]
                parts = _information(mean, spread, model.likelihood.expected_probability)
                found.append(tuple(part.cpu() for part in parts))
            order.append(chunk.pairs)
    places = np.argsort(np.concatenate(order))
    columns = (torch.cat(column).float().numpy()[places] for column in zip(*found, strict=True))
    return LabelInformation(*columns)


def _information(
    mean: Tensor, variance: Tensor, probability: Callable[[Tensor, Tensor], Tensor]
) -> tuple[Tensor, ...]:
    """Return the columns of :class:`LabelInformation` from Delta given both, (V, S, N)."""
    p = probability(mean, variance)
    given = p.mean(1)
    overall = given.mean(0)
    about_parameters = _entropy(overall) - _entropy(given).mean(0)
    about_weights = (_entropy(given) - _entropy(p).mean(1)).mean(0)
    expected = mean.mean(1)
    deviations = (expected - expected.mean(0)) / len(expected) ** 0.5
    within = (variance.mean(1) + mean.var(1, correction=0)).mean(0)
    label = 1 / (overall * (1 - overall)).clamp(min=1e-6)
    return (
        overall,
        about_parameters.clamp(min=0),
        about_weights.clamp(min=0),
        deviations.T,
        within + label,
    )


def _entropy(p: Tensor) -> Tensor:
    """Return the entropy of a label in nats."""
    return -(torch.xlogy(p, p) + torch.xlogy(1 - p, 1 - p))
