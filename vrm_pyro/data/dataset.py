"""A torch data set of prompts over a feature source, and its collation into batches."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.source import COLUMNS, OPTIONAL_COLUMNS, FeatureSource, optional_column


def _grouped(keys: NDArray[np.int64], num_groups: int) -> tuple[NDArray[Any], NDArray[Any]]:
    """Return ``order`` and ``offsets``: members of group g are order[offsets[g]:offsets[g+1]]."""
    order = np.argsort(keys, kind="stable")
    offsets = np.zeros(num_groups + 1, dtype=np.int64)
    np.cumsum(np.bincount(keys, minlength=num_groups), out=offsets[1:])
    return order, offsets


class PromptItem(NamedTuple):
    """One prompt of a dataset, by number; states are read when the batch is collated."""

    dataset: "PromptDataset"
    prompt: int
    counts: bool = True


IDLE: Final = "idle"


def idle(index: int) -> list[int]:
    """Return a dummy batch that takes part in a step but is not counted.

    A process with no items left in the last step of an epoch still has to run a batch: the
    others wait for its gradients.
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
        source: States and comparisons.
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
        found = {name: optional_column(source, name) for name in OPTIONAL_COLUMNS}
        self._optional = {name: values for name, values in found.items() if values is not None}

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> PromptItem:
        """Return item ``index``; for index -1 - i, item i marked as not counted."""
        return PromptItem(self, int(self.items[index if index >= 0 else -1 - index]), index >= 0)

    def rows_of(self, prompts: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return the indices of the responses and of the pairs of some prompts."""
        return (
            _take_groups(self._responses, self._response_offsets, prompts),
            _take_groups(self._pairs, self._pair_offsets, prompts),
        )

    def collate(self, items: Sequence[int] | NDArray[np.int64]) -> dict[str, Tensor]:
        """Build the tensors of :class:`FeatureBatch` for some prompts."""
        prompts = np.asarray(items, dtype=np.int64)
        responses, pairs = self.rows_of(prompts)
        counts = np.diff(self._response_offsets)[prompts]
        # Map responses of the source to rows of this batch by sorting, without a full-size table.
        order = np.argsort(responses)
        where = order[np.searchsorted(responses, self._endpoints(pairs), sorter=order)]
        ratings = np.asarray(self.source.ratings[responses], dtype=np.float64)
        observed = ~np.isnan(ratings)
        standard = (ratings - self.rating_loc) / self.rating_scale
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
            **{
                name: _tensor(values[pairs], COLUMNS[name].dtype)
                for name, values in self._optional.items()
            },
        }

    def inputs(
        self,
        prompts: NDArray[np.int64],
        responses: NDArray[np.int64],
        response_prompt: NDArray[np.int64],
    ) -> dict[str, Tensor]:
        """Return the model inputs of a batch of texts: their states.

        Args:
            prompts: Prompts of a batch.
            responses: All their responses.
            response_prompt: Index into ``prompts`` of each response's prompt.
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


def _tensor(values: NDArray[Any], dtype: type[np.generic]) -> Tensor:
    return _float(values) if dtype is np.float64 else torch.from_numpy(values)
