"""Rewards of the completions of one call, with weights and spreads."""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.backbone.reading import ReadingSettings
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import Chunk, chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.conversations import completion_text
from vrm_pyro.integrations.rl.settings import RewardSettings
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.group_rewards import group_rewards
from vrm_pyro.prediction.reward_draws import predictive_draws
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.prediction.text_streams import text_streams

Text = str | Sequence[Mapping[str, Any]]

# Most responses in a chunk: group rewards need 128 draws of w for each.
_MAX_RESPONSES: Final = 1024


@dataclass(frozen=True)
class Assessment:
    """Reward, weights and spread of each of n completions.

    Args:
        rewards: The reward, or None if not scored.
        reward_sd: Standard deviation of r, None without text.
        group_sd: Standard deviation of r relative to the group's mean, if the aggregation uses
            it; else None.
        weights: E[w | prompt], shape (n, K), NaN without text; None without weights: for a
            Bradley-Terry model, or one objective.
        objectives: Names of the objectives, K of them.
    """

    rewards: list[float | None]
    reward_sd: list[float | None]
    group_sd: list[float | None]
    weights: NDArray[np.float64] | None
    objectives: tuple[str, ...]

    def top_objectives(self) -> list[str | None]:
        """Return the objective of the largest E[w] for each completion, None without one."""
        if self.weights is None:
            return [None] * len(self.rewards)
        return [
            None if np.isnan(row).any() else self.objectives[int(row.argmax())]
            for row in self.weights
        ]

    def metrics(self) -> dict[str, float]:
        """Return means over the completions with text, by name; empty without any.

        ``vrm/reward_sd``; ``vrm/group_sd`` if used; ``vrm/weight_entropy``, the entropy of
        E[w | prompt] in nats; ``vrm/top/NAME``, the share of completions whose prompt gives
        objective NAME the largest weight.
        """
        found = {}
        for name, values in (("reward_sd", self.reward_sd), ("group_sd", self.group_sd)):
            known = [value for value in values if value is not None]
            if known:
                found[f"vrm/{name}"] = float(np.mean(known))
        weights = self.weights
        if weights is not None and not np.isnan(weights).all():
            weights = weights[~np.isnan(weights).any(1)]
            log = np.log(np.maximum(weights, np.finfo(np.float64).tiny))
            found["vrm/weight_entropy"] = float(-(weights * log).sum(1).mean())
            share = np.bincount(weights.argmax(1), minlength=weights.shape[1]) / len(weights)
            for name, value in zip(self.objectives, share, strict=True):
                found[f"vrm/top/{name}"] = float(value)
        return found


@dataclass(frozen=True)
class Responses:
    """The distinct texts of one call; equal completions of a prompt are one response.

    Args:
        prompts: Distinct prompts, in the order of their first response.
        owner: Prompt of each response, R of them.
        texts: Text of each response.
        counts: Number of completions with this text, (R,).
        place: Response of each completion, -1 without text.
    """

    prompts: list[Messages]
    owner: list[int]
    texts: list[str]
    counts: NDArray[np.int64]
    place: NDArray[np.int64]

    @classmethod
    def of(
        cls, reading: ReadingSettings, prompts: Sequence[Text], completions: Sequence[Text]
    ) -> "Responses":
        """Return the texts of prompts and completions as a reward model reads them.

        Args:
            reading: How the model's backbone reads conversations.
            prompts: A prompt for each completion, text or messages.
            completions: Texts, or lists of messages.

        Raises:
            InputError: If a message is not text.
        """
        prompt_index: dict[str, int] = {}
        index: dict[tuple[int, str], int] = {}
        unique: list[Messages] = []
        place = np.full(len(completions), -1, dtype=np.int64)
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            text = reading.answer(completion_text(completion))
            messages = reading.prompt(prompt)
            if not text.strip():
                continue
            owner = prompt_index.setdefault(json.dumps(messages, sort_keys=True), len(unique))
            if owner == len(unique):
                unique.append(messages)
            place[i] = index.setdefault((owner, text), len(index))
        counts = np.bincount(place[place >= 0], minlength=len(index))
        return cls(unique, [o for o, _ in index], [t for _, t in index], counts, place)

    def spread(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Expand values of responses to completions, NaN for those without text."""
        padded = np.concatenate([values, np.full((1, *values.shape[1:]), np.nan)])
        return padded[self.place]  # -1 is the row of NaN


def assess(
    scorer: Scorer,
    settings: RewardSettings,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    step: int = 0,
) -> Assessment:
    """Return rewards of completions, with weights and spreads.

    Args:
        scorer: The model with its backbone.
        settings: How the distribution of a reward becomes one number.
        prompts: A prompt for each completion, text or messages; equal prompts form a group.
        completions: Texts, or lists of messages.
        step: Step of ``thompson``.

    Raises:
        InputError: If the numbers of prompts and completions differ, a message is not text, or a
            reward is not finite.
    """
    check_numbers(prompts, completions)
    responses = Responses.of(scorer.backbone.settings, prompts, completions)
    sizes = np.bincount(responses.owner, weights=responses.counts).astype(int).tolist()
    warn_alone(sizes, settings)
    columns = _columns(scorer, settings, responses, step)
    rewards, sd, group_sd = (
        [None if np.isnan(value) else float(value) for value in responses.spread(column)]
        for column in columns.T[:3]
    )
    place = zip(responses.place, rewards, strict=True)
    rated = columns.shape[1] > 3
    return Assessment(
        [settings.empty_reward if j < 0 else value for j, value in place],
        sd,
        group_sd,
        responses.spread(columns[:, 3:]) if rated else None,
        scorer.loaded.objectives,
    )


def _columns(
    scorer: Scorer, settings: RewardSettings, responses: Responses, step: int
) -> NDArray[np.float64]:
    """Return reward, its sd, its sd in the group (NaN if unused) and E[w], (R, 3 + K)."""
    if not responses.texts:
        return np.zeros((0, 3))
    source = scorer.encode([responses.prompts[o] for o in responses.owner], responses.texts)
    return columns_of(scorer.model, source, settings, responses, step)


def columns_of(
    model: RewardModel,
    source: FeatureSource,
    settings: RewardSettings,
    responses: Responses,
    step: int,
) -> NDArray[np.float64]:
    """Return what an assessment is made of, by response: shape (R, 3 + K).

    Reward, its standard deviation, its standard deviation in the group (NaN if the aggregation
    does not use it), and E[w] where there are several objectives.

    Args:
        model: The model.
        source: States of the responses and of their prompts, in the order of ``responses``.
        settings: How the distribution of a reward becomes one number.
        responses: The texts.
        step: Step of ``thompson``.

    Raises:
        InputError: If a reward is not finite.
    """
    parts, order = [], []
    with evaluation_mode(model) as device:
        for chunk in chunks(PromptDataset(source), max_responses=_MAX_RESPONSES):
            batch = chunk.batch.to(device)
            found = model.predict_responses(batch)
            mean, variance = found.reward.mean, found.reward.variance
            reward, group_sd = _aggregate(model, settings, responses, chunk, batch, mean, step)
            columns = [reward, variance.sqrt(), group_sd]
            if found.weight_mean is not None and found.weight_mean.shape[1] > 1:
                columns.extend(found.weight_mean.T)
            parts.append(torch.stack([column.double() for column in columns], 1).cpu().numpy())
            order.append(chunk.responses)
    values = np.concatenate(parts)[np.argsort(np.concatenate(order))]
    if not np.isfinite(values[:, 0]).all():
        raise InputError(
            "a reward is not finite: the backbone gave states that are not. Try dtype float32; if "
            "that does not help, the weights of the model are damaged."
        )
    return values


def _aggregate(
    model: RewardModel,
    settings: RewardSettings,
    responses: Responses,
    chunk: Chunk,
    batch: FeatureBatch,
    mean: Tensor,
    step: int,
) -> tuple[Tensor, Tensor]:
    """Return the reward of each response of a batch, and its sd in the group (NaN if unused)."""
    unused = torch.full_like(mean, torch.nan)
    if settings.aggregation == "mean":
        return mean, unused
    if settings.aggregation == "thompson":
        # Source and `responses` number prompts alike: by first response.
        prompts = [responses.prompts[i] for i in chunk.prompts]
        texts = [responses.texts[j] for j in chunk.responses]
        owners = batch.response_prompt.tolist()
        streams = text_streams(settings.seed, step, prompts, list(zip(owners, texts, strict=True)))
        return predictive_draws(model, batch, 1, streams)[0], unused
    counts = torch.from_numpy(responses.counts[chunk.responses]).to(mean)
    group = group_rewards(model, batch, counts)
    if settings.aggregation == "lower_bound":
        return mean - settings.k * group.sd(), group.sd()
    return mean - group.mean() + group.quantile(settings.level), group.sd()


def check_numbers(prompts: Sequence[Text], completions: Sequence[Text]) -> None:
    """Raise InputError unless there is a prompt for each completion."""
    if len(prompts) != len(completions):
        raise InputError(
            f"{len(prompts)} prompts for {len(completions)} completions: give one for each."
        )


def warn_alone(sizes: Sequence[int], settings: RewardSettings) -> None:
    """Warn of prompts with a single completion, if the aggregation needs a group.

    Args:
        sizes: Number of completions with text of each prompt that has any.
        settings: Holds the aggregation.
    """
    alone = sum(size == 1 for size in sizes)
    if settings.needs_group and alone:
        warnings.warn(
            f"aggregation {settings.aggregation}: {alone} of {len(sizes)} prompts have a single "
            "completion in this call, which has no spread relative to others, so its reward is "
            "the mean. Keep all completions of a prompt on one process.",
            UserWarning,
            stacklevel=2,
        )
