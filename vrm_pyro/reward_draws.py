"""Joint draws of the rewards of responses on new text."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vrm_pyro.baseline import BradleyTerryModel
from vrm_pyro.batch import FeatureBatch
from vrm_pyro.bayesian_head import run_with
from vrm_pyro.build import RewardModel
from vrm_pyro.laws import as_gaussian, draw_features, draw_weights
from vrm_pyro.model import VRM
from vrm_pyro.passes import evaluation_mode


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

        def rewards_of(count: int) -> Tensor:
            w = draw_weights(model.predictive_weights(batch.prompts), count, prompts)
            features = as_gaussian(model.predictive_features(batch.responses))
            reward = model.reward()
            scores = reward.scores(draw_features(features, count, responses))
            return reward.scale * (w[:, batch.response_prompt] * scores).sum(-1)

        return _over_head(model, head, rewards_of, num_draws)


def _over_head(
    model: VRM, stream: torch.Generator, function: Callable[[int], Tensor], num_draws: int
) -> Tensor:
    if model.head is None:
        return function(num_draws)
    distinct = min(num_draws, model.head.num_draws)
    parameters = [model.head.draw(model, stream) for _ in range(distinct)]
    parts = []
    for i, values in enumerate(parameters):
        share = partial(function, len(range(i, num_draws, distinct)))
        parts.append(run_with(model, values, share))
    draws = torch.empty(num_draws, parts[0].shape[1], dtype=parts[0].dtype, device=parts[0].device)
    for i, part in enumerate(parts):
        draws[i::distinct] = part
    return draws
