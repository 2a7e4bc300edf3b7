"""Answers from states: what a request asked for, of several groups in one call of the model."""

import itertools
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.assessment import Responses, columns_of
from vrm_pyro.integrations.rl.settings import RewardSettings
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.contributions import contributions
from vrm_pyro.prediction.explanation.decision import decide
from vrm_pyro.prediction.explanation.explain import MODEL, RATING, Names, as_json, table
from vrm_pyro.prediction.group_rewards import NUM_NODES, GroupRewards
from vrm_pyro.prediction.rating_range import flags
from vrm_pyro.prediction.scorer import Scorer, Scores, score_source
from vrm_pyro.prediction.scorer.lines import short
from vrm_pyro.prediction.scorer.prompt_lines import standing
from vrm_pyro.prediction.scorer.scorer import UnlabelledStates
from vrm_pyro.serve.work import Group

NOT_FINITE: Final = (
    "a reward is not finite: the backbone gave states that are not. Start the server with --dtype "
    "float32; if that does not help, the weights of the model are damaged."
)


def answer_groups(scorer: Scorer, groups: Sequence[Group]) -> None:
    """Set the result of every group, or its exception; all states are there.

    Args:
        scorer: The model.
        groups: Groups of any requests. No number of one depends on another.
    """
    wanted = [group for group in groups if group.result.set_running_or_notify_cancel()]
    finite = [group for group in wanted if _states_are_finite(group)]
    for group in set(wanted) - set(finite):
        group.result.set_exception(InputError(NOT_FINITE))
    if not finite:
        return
    source = joint_source(finite)
    scores = score_source(scorer.model, source)
    ends = np.cumsum([0, *(len(group.responses) for group in finite)])
    first_pair = 0
    for n, group in enumerate(finite):
        pairs = len(_pairs(group))
        part = slice(int(ends[n]), int(ends[n + 1]))
        try:
            found = _answer(scorer, group, scores, part, scores.p_first[first_pair:][:pairs])
        except Exception as error:  # noqa: BLE001 - of this group alone
            group.result.set_exception(error)
        else:
            group.result.set_result(found)
        first_pair += pairs


def joint_source(groups: Sequence[Group]) -> UnlabelledStates:
    """Return the states of several groups, each with a prompt of its own, as one source."""
    sizes = [len(group.responses) for group in groups]
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [
        start + np.array(_pairs(group), dtype=np.int64).reshape(-1, 2)
        for start, group in zip(starts, groups, strict=True)
    ]
    pairs = np.concatenate([np.zeros((0, 2), dtype=np.int64), *parts])
    return UnlabelledStates(
        np.stack([group.known_states()[0] for group in groups]),
        np.stack([state for group in groups for state in group.known_states()[1:]]),
        np.repeat(np.arange(len(groups)), sizes),
        pairs[:, 0],
        pairs[:, 1],
        preference=np.full(len(pairs), 0.5),
        pair_weight=np.ones(len(pairs)),
        ratings=np.zeros((sum(sizes), 0)),
    )


def _pairs(group: Group) -> list[tuple[int, int]]:
    """Return both orders of each pair: with ties, they do not add up to 1."""
    if "pairwise" not in group.ask.fields:
        return []
    return list(itertools.permutations(range(len(group.responses)), 2))


def _states_are_finite(group: Group) -> bool:
    return all(np.isfinite(state).all() for state in group.known_states())


def _answer(
    scorer: Scorer,
    group: Group,
    scores: Scores,
    part: slice,
    p_first: NDArray[np.float32],
) -> dict[str, Any]:
    """Return the answer of one group from its part of the scores of all."""
    fields, model, names = group.ask.fields, scorer.model, scorer.loaded.objectives
    mean, variance = scores.reward[part], scores.variance[part]
    if not (np.isfinite(mean).all() and np.isfinite(variance).all()):
        raise InputError(NOT_FINITE)
    columns: dict[str, Sequence[Any]] = {"tokens": [len(r) for r in group.responses]}
    columns["truncated"] = group.truncated
    found: dict[str, Any] = {"prompt_tokens": len(group.prompt)}
    if "mean" in fields:
        columns["mean"] = _shorts(mean)
    if "sd" in fields:
        columns["sd"] = _shorts(np.sqrt(variance))
    if "weights" in fields:
        own = None if scores.weights is None else scores.weights[part][0]
        found["weights"] = None if own is None else _named(names, own)
    if "scores" in fields:
        columns |= _score_columns(scorer, scores, part)
    own_source = joint_source([group])
    if "quantiles" in fields:
        columns["quantiles"] = _quantiles(model, own_source, group.ask.levels)
    if "contributions" in fields:
        columns["contributions"] = _contributions(scorer, own_source)
    if "p_best" in fields or "lower_bound" in fields:
        columns |= _standing_columns(model, own_source, group, mean)
    if "reward" in fields:
        columns |= _reward_columns(model, own_source, group)
    if "explanation" in fields:
        found["explanation"] = explanation_of(scorer, own_source, group)
    if "pairwise" in fields:
        found["pairwise"] = _matrix(group, p_first)
    found["responses"] = [
        None if j < 0 else {name: values[j] for name, values in columns.items()}
        for j in group.place.tolist()
    ]
    return found


def _score_columns(scorer: Scorer, scores: Scores, part: slice) -> dict[str, list[Any]]:
    if scores.scores is None or scores.scores_sd is None:
        none = [None] * (part.stop - part.start)
        return {"scores": none, "scores_sd": none}
    names, ranges = scorer.loaded.objectives, scorer.loaded.rating_ranges
    rows = scores.scores[part]
    found: dict[str, list[Any]] = {
        "scores": [_named(names, row) for row in rows],
        "scores_sd": [_named(names, row) for row in scores.scores_sd[part]],
    }
    for key, values in _transposed([flags(row, names, ranges) for row in rows]).items():
        found[key] = values
    return found


def _standing_columns(
    model: RewardModel, source: UnlabelledStates, group: Group, mean: NDArray[np.float32]
) -> dict[str, list[float]]:
    """Return P(best) and the lower bound, as a score file by prompt has them."""
    assert group.messages is not None
    texts = [group.messages], list(group.texts)
    found = standing(model, source, texts, group.counts, np.zeros(1, dtype=np.int64))
    bound = mean - group.ask.k * found.sd
    columns = {"p_best": _shorts(found.p_best), "lower_bound": _shorts(bound)}
    return {name: values for name, values in columns.items() if name in group.ask.fields}


def _reward_columns(
    model: RewardModel, source: UnlabelledStates, group: Group
) -> dict[str, list[float | None]]:
    """Return what :class:`vrm_pyro.VRMReward` makes of the group."""
    assert group.messages is not None
    ask = group.ask
    settings = RewardSettings("served", ask.aggregation, ask.k, ask.level, seed=ask.seed)
    size = len(group.texts)
    responses = Responses(
        [group.messages], [0] * size, list(group.texts), group.counts, group.place
    )
    reward, _, group_sd = columns_of(model, source, settings, responses, ask.step).T[:3]
    spread: list[float | None] = [None if np.isnan(v) else float(v) for v in group_sd]
    return {"reward": [float(v) for v in reward], "group_sd": spread}


def _quantiles(
    model: RewardModel, source: UnlabelledStates, levels: Sequence[float]
) -> list[dict[str, float]]:
    """Return quantiles of each reward, of its mixture of Normals over w."""
    batch, place = _whole_batch(source)
    with evaluation_mode(model) as device:
        mixture = GroupRewards(*model.reward_mixture(batch.to(device), NUM_NODES))
        values = {f"{level:g}": _shorts(mixture.quantile(level)[place]) for level in levels}
    return [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]


def _contributions(scorer: Scorer, source: UnlabelledStates) -> list[dict[str, float] | None]:
    """Return E[beta w_k s_k] by objective; None without objectives."""
    if not scorer.loaded.members:
        return [None] * len(source.responses)
    batch, place = _whole_batch(source)
    with evaluation_mode(scorer.model) as device:
        parts = contributions(scorer.model, batch.to(device)).parts[place].cpu().numpy()
    return [_named(scorer.loaded.objectives, row) for row in parts]


def _whole_batch(source: UnlabelledStates) -> tuple[FeatureBatch, torch.Tensor]:
    """Return a source as one batch, and the row of each response in it."""
    (chunk,) = chunks(PromptDataset(source), max_responses=len(source.responses))
    return chunk.batch, torch.from_numpy(np.argsort(chunk.responses))


def explanation_of(scorer: Scorer, source: UnlabelledStates, group: Group) -> dict[str, Any]:
    """Return the JSON of ``vrm-pyro explain`` for a group, and its table as text.

    Raises:
        InputError: If the model has no objectives, or there are fewer than two responses.
    """
    loaded = scorer.loaded
    if not loaded.members:
        raise InputError(
            f"a {loaded.architecture} model has one reward and no objectives to explain it by; "
            "ask for mean and sd."
        )
    if len(group.responses) < 2:
        raise InputError("an explanation compares two or more different responses; give them.")
    assert group.messages is not None
    unit = RATING if loaded.model.scores_are_ratings else MODEL
    names = Names(
        loaded.objectives,
        [{**message, "content": str(message["content"])} for message in group.messages],
        list(group.texts),
        [None] * len(group.texts),
        unit,
        loaded.rating_ranges,
    )
    ask = group.ask
    decision = decide(
        scorer.model, source, level=ask.interval, num_draws=ask.num_draws, seed=ask.seed
    )
    return {**as_json(decision, names), "table": table(decision, names)}


def _matrix(group: Group, p_first: NDArray[np.float32]) -> list[list[float | None]]:
    """Return p(row preferred to column) for the responses asked for; None for equal texts."""
    known = dict(zip(_pairs(group), _shorts(p_first), strict=True))
    place = group.place.tolist()
    return [[known.get((i, j)) for j in place] for i in place]


def _named(names: Sequence[str], values: Any) -> dict[str, float]:
    return dict(zip(names, _shorts(values), strict=True))


def _shorts(values: Any) -> list[float]:
    return [short(value) for value in values]


def _transposed(rows: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    keys = dict.fromkeys(key for row in rows for key in row)
    return {key: [row.get(key) for row in rows] for key in keys}
