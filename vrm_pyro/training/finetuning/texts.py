"""Texts in place of states, for training a backbone that changes."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vrm_pyro.backbone import TransformerBackbone, make_rows, pad_rows
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.features.refused import naming_refused
from vrm_pyro.features.states import Features
from vrm_pyro.features.tokens import settle, token_facts

Ints = NDArray[np.int64]

# Number of texts tokenized at a time when only lengths and digests are kept.
_SLICE = 4096


class TextStates:
    """Prompts or responses that look like an array of states; states are computed when indexed.

    Args:
        table: The rows.
        backbone: Computes the states.
        responses: True for responses, each read after its prompt; False for prompts.
    """

    def __init__(
        self, table: PreferenceTable, backbone: TransformerBackbone, responses: bool
    ) -> None:
        self._table, self._backbone, self._responses = table, backbone, responses
        parts = np.array_split(np.arange(self.shape[0]), max(1, self.shape[0] // _SLICE))
        #: Tokens and digests, see :func:`~vrm_pyro.features.tokens.token_facts`.
        self.facts = np.concatenate([token_facts(self.sequences(part)) for part in parts])

    @property
    def tokens(self) -> Ints:
        """Tokens of each text, shape (texts,); a response counts with its prompt."""
        return self.facts[:, 0]

    @property
    def shape(self) -> tuple[int, int]:
        """Number of texts and hidden size."""
        size = self._table.num_responses if self._responses else self._table.num_prompts
        return size, self._backbone.hidden_size

    def sequences(self, rows: Ints) -> list[TokenSequence]:
        """Return the tokens of some texts."""
        table, chat = self._table, self._backbone.chat
        if not self._responses:
            return chat.encode([table.prompts[i] for i in rows])
        owners, place = np.unique(table.response_prompt[rows], return_inverse=True)
        prompts = [table.prompts[i] for i in owners]
        return chat.encode(prompts, [table.responses[j] for j in rows], place)

    def __getitem__(self, rows: Ints) -> NDArray[np.float32]:
        return self._backbone.states(self.sequences(np.asarray(rows)))


def read_texts(table: PreferenceTable, backbone: TransformerBackbone) -> Features:
    """Return a table with :class:`TextStates` for states.

    Pairs of responses with equal tokens are dropped, as everywhere.

    Raises:
        InputError: If no pair and no rating is left.
    """
    with naming_refused(table, backbone):
        prompts, responses = (TextStates(table, backbone, kind) for kind in (False, True))
    rows, pairs = settle(table, prompts.facts, responses.facts)
    return Features(prompts, responses, rows, pairs, prompts.tokens, responses.tokens)


class TextDataset(PromptDataset):
    """Training data set of prompts, each with the tokens of all its texts.

    Args:
        source: Pairs over :class:`TextStates`.
        backbone: Computes the states.
        share: Whether responses share the computation of their prompt.
        rating_loc: See :class:`~vrm_pyro.data.dataset.PromptDataset`.
        rating_scale: See there.
        prompts: See there.
    """

    def __init__(
        self,
        source: FeatureSource,
        backbone: TransformerBackbone,
        share: bool,
        rating_loc: float = 0.0,
        rating_scale: float = 1.0,
        prompts: Ints | None = None,
    ) -> None:
        super().__init__(source, rating_loc, rating_scale, prompts)
        self.backbone, self.share = backbone, share

    def inputs(self, prompts: Ints, responses: Ints, response_prompt: Ints) -> dict[str, Tensor]:
        """Return a :class:`RowBatch` in place of states, and the index of each text's state."""
        sequences = [
            *self.source.prompts.sequences(prompts),
            *self.source.responses.sequences(responses),
        ]
        prefix = np.concatenate([np.arange(len(prompts)), response_prompt])
        backbone = self.backbone
        rows = make_rows(sequences, prefix, backbone.pooling, self.share, self.longest)
        batch = pad_rows(rows, backbone.pad_id)
        place = torch.argsort(batch.states)
        # First an entry with one element per prompt: transformers takes the batch size from it.
        return {
            "prompt_state": place[: len(prompts)],
            "response_state": place[len(prompts) :],
            "input_ids": batch.input_ids,
            "type_ids": batch.type_ids,
            "positions": batch.positions,
            "segments": batch.segments,
            "pool_token": batch.pool_token,
            "pool_state": batch.pool_state,
        }

    @property
    def longest(self) -> int:
        """Largest number of tokens in a row with several responses."""
        return max(self.backbone.token_budget, self.backbone.max_length)

    def lengths(self) -> Ints:
        """Return the number of tokens of each item, shape (items,)."""
        prompt, response = self.source.prompts.tokens, self.source.responses.tokens
        owner = np.asarray(self.source.response_prompt)
        own = (response - prompt[owner]).clip(min=1) if self.share else response
        total: Ints = prompt + np.bincount(owner, own, len(prompt)).astype(np.int64)
        return total[self.items]
