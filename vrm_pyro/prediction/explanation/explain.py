"""Explain a model's decision between responses to one prompt."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.rows.conversation import check_prompt, check_text
from vrm_pyro.data.rows.ranking_pairs import NO_RANKING
from vrm_pyro.data.source import FeatureSource, SourceParts
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.features.reading import DataLike, data_name, read_data, rows_of
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.explanation.decision import Decision, decide
from vrm_pyro.prediction.explanation.rendering import MODEL, RATING, Names, as_json, table
from vrm_pyro.prediction.opening import ModelLike, as_model, as_scorer, check_store

MIN_DRAWS = 100


@dataclass(frozen=True, repr=False)
class Explanation:
    """An explained decision between responses to one prompt: the result of :func:`explain`.

    ``print(explanation)`` shows the table and sentences of ``vrm-pyro explain``.

    Args:
        decision: Rewards, weights, scores, contributions and flips as numbers (spec 2.3, 2.9).
        names: Texts of prompt and responses, and names of the objectives.
    """

    decision: Decision
    names: Names

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as JSON values, keyed by names of objectives and responses."""
        return as_json(self.decision, self.names)

    def __str__(self) -> str:
        """Return the table and the sentences."""
        return table(self.decision, self.names)

    def __repr__(self) -> str:
        """Return the leading response and the probability that it is the best."""
        leader = self.decision.order[0]
        return (
            f"Explanation(response {self.names.letter(leader)} of {len(self.names.responses)} "
            f"leads, P(best) {self.decision.p_best[leader]:.2f})"
        )

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def explain(
    model: ModelLike,
    prompt: str | Messages,
    responses: Sequence[str],
    *,
    level: float = 0.9,
    num_draws: int = 4000,
    seed: int = 0,
    device: str | torch.device = "auto",
    dtype: str | None = None,
) -> Explanation:
    """Explain which response a model prefers, how certain it is and what would flip the order.

    Source: spec 2.5 (a reward difference as a sum over objectives), 2.9 (its two kinds of
    variance).

    Args:
        model: A variational reward model: folder of a run, loaded model or scorer.
        prompt: Text, or messages of role and content.
        responses: Two or more different texts.
        level: Coverage probability of the intervals.
        num_draws: Number of joint draws behind intervals and P(best), at least 100.
        seed: Seed of the draws.
        device: Device of the backbone.
        dtype: Precision of the backbone; that of training when omitted.

    Raises:
        InputError: If the model has no latent variables, or the texts cannot be compared.
    """
    loaded, vrm = explained_model(model)
    _check_numbers(level, num_draws)
    messages, texts = _checked(prompt, responses)
    names = _names(loaded, messages, texts, [None] * len(texts))
    scorer = as_scorer(model, device=device, dtype=dtype)
    source = scorer.encode([messages] * len(texts), texts)
    decision = decide(vrm, source, level=level, num_draws=num_draws, seed=seed)
    return Explanation(decision, names)


def explain_row(
    model: ModelLike,
    data: DataLike,
    row: str,
    *,
    level: float = 0.9,
    num_draws: int = 4000,
    seed: int = 0,
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
) -> Explanation:
    """Explain the comparison or ranking with a given id, like :func:`explain`.

    Args:
        model: A variational reward model: folder of a run, loaded model or scorer.
        data: Rows or a feature store.
        row: Id of the row; rows without an id are named ``pair-0`` and so on by position.
        level: Coverage probability of the intervals.
        num_draws: Number of joint draws behind intervals and P(best), at least 100.
        seed: Seed of the draws.
        skip_invalid: Skip and count unusable rows instead of raising.
        split: Split of a Hub id, or of a data set with several.
        device: Device of the backbone, if texts have to be encoded.
        dtype: Precision of the backbone; that of training when omitted.

    Raises:
        InputError: If the model has no latent variables, or there is no such comparison.
    """
    loaded, vrm = explained_model(model)
    _check_numbers(level, num_draws)
    rows = read_data(data, skip_invalid=skip_invalid, split=split)
    if isinstance(rows, FeatureStore):
        check_store(rows, loaded)
    among = rows_of(rows)
    chosen, labels = find_row(among, row, data_name(data))
    prompt = among.prompts[among.response_prompt[chosen[0]]]
    texts = [among.responses[j] for j in chosen]
    _check_different(texts)
    if isinstance(rows, PreferenceTable):
        scorer = as_scorer(model, device=device, dtype=dtype)
        source = scorer.encode([prompt] * len(texts), texts)
    else:
        held = rows if isinstance(rows, FeatureStore) else rows.source
        source = _of_states(
            np.asarray(held.prompts[among.response_prompt[chosen[:1]]]),
            np.asarray(held.responses[chosen]),
        )
    names = _names(loaded, prompt, texts, labels)
    decision = decide(vrm, source, level=level, num_draws=num_draws, seed=seed)
    return Explanation(decision, names)


def explained_model(model: ModelLike) -> tuple[LoadedModel, RewardModel]:
    """Return a variational reward model or an ensemble of them, with and without its settings.

    Raises:
        InputError: If it is no variational reward model.
    """
    loaded = as_model(model)
    if not loaded.members:
        raise InputError(
            f"{loaded.directory or 'the model'}: a {loaded.architecture} model has one reward and "
            "no objectives to explain it by. Give a model of architecture vrm; vrm-pyro score "
            "writes the rewards."
        )
    return loaded, loaded.model


def find_row(
    table: PreferenceTable, name: str, where: str
) -> tuple[NDArray[np.int64], list[str | None]]:
    """Return the responses of the row with an id, and their labels in the row.

    A ranking gives all its responses. Rows without an id are named ``pair-0`` and so on by
    position in the input, as in score files.

    Raises:
        InputError: If no comparison has this id, or comparisons of several prompts have it.
    """
    names = table.pair_names
    pairs = np.flatnonzero(np.array([given == name for given in names], dtype=bool))
    if len(pairs) == 0:
        if name in table.response_id:
            raise InputError(
                f"{where}: row {name!r} is a single response, and a reward has no meaning on its "
                "own: only differences within a prompt do. Name a comparison, or give the texts "
                "with --prompt and --response."
            )
        raise InputError(f"{where}: no comparison with the id {name!r}{did_you_mean(name, names)}")
    if len(np.unique(table.pair_prompt[pairs])) > 1:
        raise InputError(
            f"{where}: {len(pairs)} comparisons of several prompts have the id {name!r}. Give the "
            "texts with --prompt and --response, or ids that differ."
        )
    sides = np.stack([table.pair_first[pairs], table.pair_second[pairs]], axis=1).ravel()
    rows = sides[np.sort(np.unique(sides, return_index=True)[1])]
    if len(rows) == 2 and len(pairs) == 1:
        return rows, _labels(float(table.preference[pairs[0]]))
    if (table.pair_ranking[pairs] == NO_RANKING).any():
        return rows, [None] * len(rows)
    # Each pair of a ranking has the better response first, so the number of wins gives the rank.
    wins = np.array([(table.pair_first[pairs] == j).sum() for j in rows])
    rows = rows[np.argsort(-wins, kind="stable")]
    return rows, [f"rank {i + 1}" for i in range(len(rows))]


def _labels(preference: float) -> list[str | None]:
    if preference == 1:
        return ["chosen", "rejected"]
    if preference == 0:
        return ["rejected", "chosen"]
    return [f"preferred {preference:g}", f"preferred {1 - preference:g}"]


def _of_states(prompt: NDArray[Any], responses: NDArray[Any]) -> FeatureSource:
    """Return a source of one prompt (1, H) and its responses (R, H), without comparisons."""
    nothing = np.zeros(0, dtype=np.int64)
    source = SourceParts(
        prompts=prompt,
        responses=responses,
        response_prompt=np.zeros(len(responses), dtype=np.int64),
        pair_first=nothing,
        pair_second=nothing,
        preference=np.zeros(0),
        pair_weight=np.zeros(0),
        ratings=np.zeros((len(responses), 0)),
        objectives=(),
    )
    return cast(FeatureSource, source)


def _checked(
    prompt: str | Messages, responses: Sequence[str]
) -> tuple[list[dict[str, str]], list[str]]:
    if len(responses) < 2:
        raise InputError(
            f"{len(responses)} responses: a reward has no zero, only differences between "
            "responses to one prompt mean something. Give two or more."
        )
    try:
        messages = check_prompt(prompt)
    except RowProblem as problem:
        raise InputError(f"prompt: {problem}") from None
    texts = []
    for i, value in enumerate(responses, start=1):
        try:
            texts.append(check_text(value, "response"))
        except RowProblem as problem:
            raise InputError(f"response {i}: {problem}") from None
    _check_different(texts)
    return messages, texts


def _check_numbers(level: float, num_draws: int) -> None:
    if not 0 < level < 1:
        raise InputError(f"the interval is {level:g}, but must be between 0 and 1.")
    if num_draws < MIN_DRAWS:
        raise InputError(f"draws: {num_draws}, but must be at least {MIN_DRAWS}.")


def _check_different(responses: Sequence[str]) -> None:
    seen: dict[str, int] = {}
    for j, text in enumerate(responses):
        if text in seen:
            first, second = Names.letter(seen[text]), Names.letter(j)
            raise InputError(
                f"responses {first} and {second} are the same text; there is nothing to compare. "
                "Give different ones."
            )
        seen[text] = j


def _names(
    loaded: LoadedModel,
    prompt: Sequence[dict[str, str]],
    texts: Sequence[str],
    labels: Sequence[str | None],
) -> Names:
    unit = RATING if loaded.model.scores_are_ratings else MODEL
    return Names(loaded.objectives, prompt, texts, labels, unit, loaded.rating_ranges)
