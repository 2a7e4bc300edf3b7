"""Minibatches of prompts on three flat index sets: prompts, responses, pairs."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vrm_pyro.errors import InputError
from vrm_pyro.rankings import Rankings, from_pairs


@runtime_checkable
class FeatureSource(Protocol):
    """Anything that holds backbone states and the comparisons made on them.

    A source may also have an attribute of :data:`OPTIONAL_COLUMNS`; it is None or left out where
    no pair has one.

    Attributes:
        prompts: Prompt states, indexable by an integer array, shape (P, hidden).
        responses: Response states, shape (R, hidden).
        response_prompt: Prompt index of every response, shape (R,).
        pair_first: Response index of the first answer of every pair, shape (N,).
        pair_second: Response index of the second answer, shape (N,).
        preference: Probability in [0, 1] that the first is preferred, shape (N,).
        pair_weight: Power on the likelihood of the pair, shape (N,).
        ratings: Ratings in raw units, NaN where missing, shape (R, objectives).
        objectives: Names of the rated objectives.
    """

    prompts: Any
    responses: Any
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]


#: What only some sources know of their pairs, and the value of a pair that has none:
#: ``pair_margin``, the known threshold of a pair, and ``pair_ranking``, the number of the ranking
#: that it was cut out of, each (N,).
OPTIONAL_COLUMNS: Final[dict[str, float]] = {"pair_margin": np.nan, "pair_ranking": -1}
PAIR_COLUMNS: Final = ("pair_first", "pair_second", "preference", "pair_weight")


def optional_column(source: FeatureSource, name: str) -> NDArray[Any] | None:
    """Return a column of :data:`OPTIONAL_COLUMNS`, or None where no pair has a value.

    The one place that knows of sources without it.
    """
    values = getattr(source, name, None)
    if values is None:
        return None
    values = np.asarray(values)
    absent = OPTIONAL_COLUMNS[name]
    missing = np.isnan(values) if np.isnan(absent) else values == absent
    return None if missing.all() else values


@dataclass
class SourceParts:
    """A feature source made of another by :func:`replace_parts`."""

    prompts: Any
    responses: Any
    response_prompt: NDArray[np.int64]
    pair_first: NDArray[np.int64]
    pair_second: NDArray[np.int64]
    preference: NDArray[np.float64]
    pair_weight: NDArray[np.float64]
    ratings: NDArray[np.float64]
    objectives: tuple[str, ...]
    pair_margin: NDArray[np.float64] | None = None
    pair_ranking: NDArray[np.int64] | None = None


def replace_parts(source: FeatureSource, **changes: Any) -> SourceParts:
    """Return a source with some attributes exchanged; the others are taken over, not copied."""
    values: dict[str, Any] = {
        item.name: getattr(source, item.name, None)
        if item.name in OPTIONAL_COLUMNS
        else getattr(source, item.name)
        for item in fields(SourceParts)
    }
    return SourceParts(**(values | changes))


def select_pairs(source: FeatureSource, pairs: NDArray[np.int64] | slice) -> SourceParts:
    """Return the same responses with the comparisons of some pairs alone.

    Raises:
        InputError: If a ranking would lose some of its pairs and keep others.
    """
    ranking = optional_column(source, "pair_ranking")
    if ranking is not None and np.isin(ranking, ranking[pairs][ranking[pairs] >= 0]).sum() != (
        (ranking[pairs] >= 0).sum()
    ):
        raise InputError(
            "the rows hold rankings, whose pairs cannot be withheld one by one. Use rows of pairs."
        )
    columns: dict[str, Any] = {
        name: np.asarray(getattr(source, name))[pairs] for name in PAIR_COLUMNS
    }
    for name in OPTIONAL_COLUMNS:
        values = optional_column(source, name)
        columns[name] = None if values is None else values[pairs]
    return replace_parts(source, **columns)


@dataclass(frozen=True)
class FeatureBatch:
    """A set of prompts with all their responses and pairs.

    Flat index sets instead of a rectangular prompt x response block: real prompts have from one
    to dozens of responses, and a response may stand in many pairs or in none.

    Args:
        prompts: Prompt states, shape (P, hidden).
        responses: Response states, shape (R, hidden).
        response_prompt: Row of ``prompts`` each response belongs to, shape (R,).
        pair_first: Row of ``responses``, shape (N,).
        pair_second: Row of ``responses``, shape (N,).
        preference: Probability in [0, 1] that the first response is preferred, shape (N,).
        pair_weight: Power on each pair's likelihood, shape (N,).
        ratings: Standardised ratings, any finite number where missing, shape (R, K).
        rating_mask: True where a rating was observed, shape (R, K).
        pair_margin: Known threshold of each pair, NaN where it has none, shape (N,); None where no
            pair of the data set has one.
        pair_ranking: Number of the ranking that each pair was cut out of, -1 for none, shape
            (N,); None where the data set has no ranking.
    """

    prompts: Tensor
    responses: Tensor
    response_prompt: Tensor
    pair_first: Tensor
    pair_second: Tensor
    preference: Tensor
    pair_weight: Tensor
    ratings: Tensor
    rating_mask: Tensor
    pair_margin: Tensor | None = None
    pair_ranking: Tensor | None = None

    def __post_init__(self) -> None:
        for column in (self.pair_margin, self.pair_ranking):
            assert column is None or column.shape == self.pair_first.shape

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return self.prompts.shape[0]

    @property
    def num_responses(self) -> int:
        """Number of responses R."""
        return self.responses.shape[0]

    @property
    def num_pairs(self) -> int:
        """Number of pairs N."""
        return self.pair_first.shape[0]

    @property
    def pair_prompt(self) -> Tensor:
        """Prompt row of every pair, shape (N,)."""
        return self.response_prompt[self.pair_first]

    @property
    def margin_column(self) -> Tensor | None:
        """Margin of every pair beside a trailing dimension, shape (N, 1); None without any."""
        return None if self.pair_margin is None else self.pair_margin.unsqueeze(-1)

    @cached_property
    def rankings(self) -> Rankings | None:
        """The rankings that pairs were cut out of; None without any.

        Raises:
            ValueError: If a ranking lacks some of its pairs.
        """
        if self.pair_ranking is None:
            return None
        rows = self.ranked.nonzero().squeeze(-1)
        if len(rows) == 0:
            return None
        return from_pairs(
            self.pair_ranking[rows],
            (self.pair_first[rows], self.pair_second[rows]),
            self.preference[rows],
            self.pair_weight[rows],
        )

    @property
    def ranked(self) -> Tensor:
        """Whether each pair is part of a ranking, shape (N,)."""
        if self.pair_ranking is None:
            return torch.zeros_like(self.pair_first, dtype=torch.bool)
        return self.pair_ranking >= 0

    @property
    def plain_weight(self) -> Tensor:
        """Weights of the pairs that are part of no ranking, 0 for the others, shape (N,)."""
        return torch.where(self.ranked, 0.0, self.pair_weight)

    @property
    def has_ratings(self) -> bool:
        """Whether any rating is observed in this batch."""
        return bool(self.rating_mask.any())

    def swap_pairs(self) -> "FeatureBatch":
        """Return the same data with first and second exchanged in every pair."""
        values = dict(self.as_dict())
        values["pair_first"], values["pair_second"] = self.pair_second, self.pair_first
        values["preference"] = 1 - self.preference
        return FeatureBatch(**values)

    def as_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name, as ``transformers.Trainer`` passes them around."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, target: torch.device | torch.dtype | str) -> "FeatureBatch":
        """Return a copy on a device, or with its floating tensors in a dtype."""
        if isinstance(target, torch.dtype):
            return FeatureBatch(
                **{
                    k: v.to(target) if v.is_floating_point() else v
                    for k, v in self.as_dict().items()
                }
            )
        return FeatureBatch(**{k: v.to(target) for k, v in self.as_dict().items()})


def _grouped(keys: NDArray[np.int64], num_groups: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``order`` and ``offsets``: members of group g are order[offsets[g]:offsets[g+1]]."""
    order = np.argsort(keys, kind="stable")
    offsets = np.zeros(num_groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=num_groups), out=offsets[1:])
    return order, offsets


class PromptItem(NamedTuple):
    """One prompt of a dataset, by number: its states are read when the batch is known."""

    dataset: "PromptDataset"
    prompt: int
    counts: bool = True


IDLE: Final = "idle"
"""Entry of a batch that counts for nothing: see :func:`idle`."""


def idle(index: int) -> list[int]:
    """Return a batch of a dataset that takes part in a step and counts for nothing.

    A process without an item of its own in the last step of an epoch has to compute something:
    the others wait for its gradients.
    """
    return [-1 - index]


def collate(items: Sequence[PromptItem]) -> dict[str, Tensor]:
    """Build the tensors of :class:`FeatureBatch` for items of one dataset."""
    batch = items[0].dataset.collate([item.prompt for item in items])
    return batch if items[0].counts else batch | {IDLE: torch.ones(())}


class PromptDataset(Dataset[PromptItem]):
    """Prompts as the items of training: each brings all its responses and pairs.

    Items are prompt numbers; :meth:`collate` reads the states of a whole batch at once, so a
    memory-mapped store is touched only where the batch needs it.

    Args:
        source: Where states and comparisons come from.
        rating_loc: Subtracted from every rating; one number per data set (spec 2.5).
        rating_scale: Divides every rating; one number per data set.
        prompts: Which prompts to use; all when omitted.
    """

    def __init__(
        self,
        source: FeatureSource,
        rating_loc: float = 0.0,
        rating_scale: float = 1.0,
        prompts: NDArray[np.int64] | None = None,
    ) -> None:
        self.source = source
        self.rating_loc, self.rating_scale = rating_loc, rating_scale
        num_prompts = source.prompts.shape[0]
        response_prompt = np.asarray(source.response_prompt)
        self._responses, self._response_offsets = _grouped(response_prompt, num_prompts)
        pair_prompt = response_prompt[np.asarray(source.pair_first)]
        self._pairs, self._pair_offsets = _grouped(pair_prompt, num_prompts)
        self.items = np.arange(num_prompts) if prompts is None else np.asarray(prompts)
        self._margin = optional_column(source, "pair_margin")
        self._ranking = optional_column(source, "pair_ranking")

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> PromptItem:
        """Return an item; at -1 - i that of i, without it counting for anything."""
        return PromptItem(self, int(self.items[index if index >= 0 else -1 - index]), index >= 0)

    def rows_of(self, prompts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the response and the pair indices of some prompts, in that order."""
        return (
            _take_groups(self._responses, self._response_offsets, prompts),
            _take_groups(self._pairs, self._pair_offsets, prompts),
        )

    def collate(self, items: Sequence[int] | NDArray[np.int64]) -> dict[str, Tensor]:
        """Build the tensors of :class:`FeatureBatch` for some prompts."""
        prompts = np.asarray(items, dtype=np.int64)
        responses, pairs = self.rows_of(prompts)
        counts = np.diff(self._response_offsets)[prompts]
        # Where each response of the source went in this batch: a sort, not a full-size table.
        order = np.argsort(responses)
        where = order[np.searchsorted(responses, self._endpoints(pairs), sorter=order)]
        ratings = np.asarray(self.source.ratings[responses], dtype=np.float64)
        observed = ~np.isnan(ratings)
        standard = (ratings - self.rating_loc) / self.rating_scale
        optional = {}
        if self._margin is not None:
            optional["pair_margin"] = _float(self._margin[pairs])
        if self._ranking is not None:
            optional["pair_ranking"] = torch.from_numpy(self._ranking[pairs])
        response_prompt = np.repeat(np.arange(len(prompts)), counts)
        return {
            **self.inputs(prompts, responses, response_prompt),
            "response_prompt": torch.from_numpy(response_prompt),
            "pair_first": torch.from_numpy(where[: len(pairs)]),
            "pair_second": torch.from_numpy(where[len(pairs) :]),
            "preference": _float(self.source.preference[pairs]),
            "pair_weight": _float(self.source.pair_weight[pairs]),
            "ratings": _float(np.where(observed, standard, 0.0)),
            "rating_mask": torch.from_numpy(observed),
            **optional,
        }

    def inputs(
        self,
        prompts: NDArray[np.int64],
        responses: NDArray[np.int64],
        response_prompt: NDArray[np.int64],
    ) -> dict[str, Tensor]:
        """Return what a model reads of the texts: their states.

        Args:
            prompts: Prompts of a batch.
            responses: All their responses.
            response_prompt: Place in ``prompts`` of each response's prompt.
        """
        return {
            "prompts": _states(self.source.prompts, prompts),
            "responses": _states(self.source.responses, responses),
        }

    def batch(self, items: Sequence[int] | NDArray[np.int64] | None = None) -> FeatureBatch:
        """Return some prompts (all when omitted) as one :class:`FeatureBatch`."""
        return FeatureBatch(**self.collate(self.items if items is None else items))

    def _endpoints(self, pairs: NDArray[np.int64]) -> NDArray[np.int64]:
        first = np.asarray(self.source.pair_first[pairs])
        return np.concatenate([first, np.asarray(self.source.pair_second[pairs])])


def _take_groups(
    order: NDArray[np.int64], offsets: NDArray[np.int64], groups: NDArray[np.int64]
) -> NDArray[np.int64]:
    if len(groups) == 0:
        return np.zeros(0, dtype=np.int64)
    return np.concatenate([order[offsets[g] : offsets[g + 1]] for g in groups])


def _states(array: Any, rows: NDArray[np.int64]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array[rows], dtype=np.float32))


def _float(values: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32))
