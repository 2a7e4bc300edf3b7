"""Joint draws of the rewards of responses on new text, and of what they are made of."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.distributions import Streams, as_gaussian, draw_features, draw_weights
from vrm_pyro.models.epistemic.base import run_with
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.settings.build import RewardModel
from vrm_pyro.models.vrm import VRM


@dataclass(frozen=True)
class TextStreams:
    """Random streams on the CPU, one for each thing that is drawn.

    Streams that are seeded by a text alone make its draws independent of what stands beside it.

    Args:
        head: For the parameters, or the member of an ensemble.
        prompts: For w, one for each prompt.
        responses: For z, one for each response.
    """

    head: torch.Generator
    prompts: Sequence[torch.Generator]
    responses: Sequence[torch.Generator]


class LatentDraws(NamedTuple):
    """Joint draws of what a reward is made of, in model units.

    Attributes:
        weights: w, shape (S, P, K).
        scores: s, shape (S, R, K).
        contributions: beta w_k s_k, shape (S, R, K); their sum over k is the reward.
    """

    weights: Tensor
    scores: Tensor
    contributions: Tensor


def predictive_draws(
    model: RewardModel,
    batch: FeatureBatch,
    num_draws: int,
    random: torch.Generator | TextStreams,
) -> Tensor:
    """Return joint draws of the rewards of all responses on new text, shape (S, R).

    Within a draw all responses share the parameters, those to one prompt share w, and each has
    a z of its own (spec 2.1): r = beta w'(A z + b). So differences within a prompt are spread as
    the model says, which draws of one response at a time would not be. The global random state is
    neither read nor moved, and training mode does not matter.

    With a Bayesian head the parameters are drawn from its law, afresh for each draw up to the
    number that a prediction averages (``head_draws``), then in turn. An ensemble draws a member.

    Args:
        model: The model.
        batch: Raw states; pairs, preferences and ratings are not read.
        num_draws: S.
        random: One stream for everything, or one for each text; on the CPU.
    """
    if isinstance(random, torch.Generator):
        prompts: torch.Generator | Sequence[torch.Generator] = random
        responses: torch.Generator | Sequence[torch.Generator] = random
        head = random
    else:
        prompts, responses, head = random.prompts, random.responses, random.head
    with evaluation_mode(model):
        if isinstance(model, BradleyTerryModel):
            rewards = model.member_rewards(batch.responses)
            member = torch.randint(len(rewards), (num_draws,), generator=head)
            return rewards[member.to(rewards.device)]

        def rewards_of(count: int) -> tuple[Tensor]:
            w, scores = _latents(model, batch, count, prompts, responses)
            reward = model.reward()
            return (reward.rewards(w[:, batch.response_prompt], scores),)

        return _over_head(model, head, rewards_of, num_draws)[0]


def latent_draws(
    model: VRM, batch: FeatureBatch, num_draws: int, random: torch.Generator
) -> LatentDraws:
    """Return joint draws of weights, scores and contributions on new text.

    The law is that of :func:`predictive_draws`, whose rewards are the sums of the contributions:
    with the same stream they are the same draws.

    Args:
        model: The model.
        batch: Raw states; pairs, preferences and ratings are not read.
        num_draws: S.
        random: Stream for everything; on the CPU.
    """

    def parts_of(count: int) -> tuple[Tensor, Tensor, Tensor]:
        w, scores = _latents(model, batch, count, random, random)
        return w, scores, model.reward().scale * w[:, batch.response_prompt] * scores

    with evaluation_mode(model):
        return LatentDraws(*_over_head(model, random, parts_of, num_draws))


def _latents(
    model: VRM, batch: FeatureBatch, count: int, prompts: Streams, responses: Streams
) -> tuple[Tensor, Tensor]:
    """Draw w (S, P, K), then s (S, R, K), at the parameters' values."""
    w = draw_weights(model.predictive_weights(batch.prompts), count, prompts)
    features = as_gaussian(model.predictive_features(batch.responses))
    return w, model.reward().scores(draw_features(features, count, responses))


def _over_head(
    model: VRM,
    stream: torch.Generator,
    function: Callable[[int], tuple[Tensor, ...]],
    num_draws: int,
) -> tuple[Tensor, ...]:
    """Return tensors of draws (S, ...), each draw at a value of the uncertain parameters."""
    if model.parameter_posterior is None:
        return function(num_draws)
    distinct = min(num_draws, model.parameter_posterior.num_draws)
    parameters = [model.parameter_posterior.draw(model, stream) for _ in range(distinct)]
    parts = []
    for i, values in enumerate(parameters):
        share = partial(function, len(range(i, num_draws, distinct)))
        parts.append(run_with(model, values, share))
    return tuple(_interleaved(same, num_draws) for same in zip(*parts, strict=True))


def _interleaved(parts: Sequence[Tensor], num_draws: int) -> Tensor:
    """Return draws (S, ...) of which part i holds every i-th out of ``len(parts)``."""
    draws = parts[0].new_empty(num_draws, *parts[0].shape[1:])
    for i, part in enumerate(parts):
        draws[i :: len(parts)] = part
    return draws
