"""Joint draws of the rewards of responses on new text, and of what they are made of."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.models.distributions import TextStreams
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.vrm import VRM


class LatentDraws(NamedTuple):
    """Joint draws of what a reward is made of, in model units.

    Attributes:
        weights: w, shape (S, P, K).
        scores: s, shape (S, R, K).
        contributions: beta w_k s_k, shape (S, R, K); their sum over k is the reward.
    """

    weights: Float[Tensor, "draws prompts objectives"]
    scores: Float[Tensor, "draws responses objectives"]
    contributions: Float[Tensor, "draws responses objectives"]


def predictive_draws(
    model: RewardModel,
    batch: FeatureBatch,
    num_draws: int,
    random: torch.Generator | TextStreams,
) -> Float[Tensor, "draws responses"]:
    """Return joint draws of the rewards of all responses on new text, shape (S, R).

    Within a draw all responses share the parameters, those to one prompt share w, and each has
    a z of its own (spec 2.1): r = beta w'(A z + b). So differences within a prompt are spread as
    the model says, which draws of one response at a time would not be. The global random state is
    neither read nor moved, and training mode does not matter.

    With a Bayesian head the parameters are drawn from their posterior, afresh for each draw up to
    the number that a prediction averages (``head_draws``), then in turn. An ensemble takes
    its members in turn, in an order that is drawn.

    Args:
        model: The model.
        batch: Raw states; pairs, preferences and ratings are not read.
        num_draws: S.
        random: One stream for everything, or one for each text; on the CPU.
    """
    if isinstance(random, torch.Generator):
        random = TextStreams(random, random, random)
    with evaluation_mode(model):
        return model.draw_rewards(batch, num_draws, random)


def latent_draws(
    model: RewardModel, batch: FeatureBatch, num_draws: int, random: torch.Generator
) -> LatentDraws:
    """Return joint draws of weights, scores and contributions on new text.

    Scores of an ensemble are expected standardised ratings where ratings act on scores. Their
    distribution is that of :func:`predictive_draws`, whose rewards are the sums of the
    contributions: with the same stream they are the same draws.

    Args:
        model: A model with latent variables.
        batch: Raw states; pairs, preferences and ratings are not read.
        num_draws: S.
        random: Stream for everything; on the CPU.
    """

    def of_member(m: int, number: int) -> tuple[Tensor, ...]:
        member = latent_members(model)[m]

        def parts_of(count: int) -> tuple[Tensor, ...]:
            w, scores = member.draw_latents(batch, count, random, random)
            parts = member.reward().scale * w[:, batch.response_prompt] * scores
            return w, shared_scores(model, member, scores), parts

        drawn = member.draws_over_parameters(random, parts_of, number)
        return tuple(model.aligned(m, part) for part in drawn)

    with evaluation_mode(model):
        return LatentDraws(*model.draws_over_members(random, of_member, num_draws))


def shared_scores(
    model: RewardModel, member: VRM, scores: Float[Tensor, "draws responses objectives"]
) -> Float[Tensor, "draws responses objectives"]:
    """Return drawn scores of a member in the unit that the members of a model share.

    In an ensemble it is that of standardised ratings, as each member has its own rating model.
    """
    return scores if member is model or member.ratings is None else member.ratings().mean(scores)
