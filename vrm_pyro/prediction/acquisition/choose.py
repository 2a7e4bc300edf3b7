"""Choose unlabelled pairs that are worth a label."""

from collections.abc import Iterator
from itertools import combinations
from typing import Any, Final, NamedTuple, cast

import numpy as np
import torch

from vrm_pyro.data.rows import PreferenceTable, ReadAs, load_table
from vrm_pyro.data.schemas.reading import ROWS
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.reading import DataLike, read_data, rows_of
from vrm_pyro.prediction.acquisition.information import LabelInformation, label_information
from vrm_pyro.prediction.acquisition.select import select_pairs
from vrm_pyro.prediction.opening import ModelLike, as_scorer
from vrm_pyro.prediction.scorer.lines import short

MOST_PAIRS: Final = 100
"""Pairs of one prompt that are looked at: 15 responses have 105."""


class Acquired(NamedTuple):
    """Pairs in the order in which they are worth a label.

    Attributes:
        rows: For each, ``prompt``, ``first`` and ``second``; ``preference``, which is None: fill
            in 1 if the first is preferred, 0 if the second is, 0.5 for a tie; ``p_first``, what
            the model expects; ``information`` in nats, of it ``information_parameters`` and
            ``information_weights``; ``id`` of the row where it has one.
        num_pairs: Pairs that were compared.
        mean_information: Mean information of all of them: what a random pair is worth.
    """

    rows: list[dict[str, Any]]
    num_pairs: int
    mean_information: float

    def __str__(self) -> str:
        values = [row["information"] for row in self.rows]
        return (
            f"{len(self.rows):,} of {self.num_pairs:,} pairs; expected information of a label "
            f"{np.mean(values):.4f} nats, of a random pair {self.mean_information:.4f}"
        )


def acquire(
    model: ModelLike,
    data: DataLike,
    number: int,
    *,
    per_prompt: int = 1,
    seed: int = 0,
    split: str = "train",
    skip_invalid: bool = False,
    device: str | torch.device = "auto",
    dtype: str | None = None,
    progress: bool = False,
    cache: bool = False,
) -> Acquired:
    """Return the pairs whose labels would teach a model most.

    ::

        for row in vrm_pyro.acquire("runs/rated", "unlabelled.jsonl", 100).rows:
            print(row["prompt"], row["information"])

    By the expected information of a label about the parameters and about w of its prompt
    (:func:`~vrm_pyro.prediction.acquisition.information.label_information`), one by one, so that
    pairs do not all say the same
    (:func:`~vrm_pyro.prediction.acquisition.select.select_pairs`).

    Args:
        model: A trained model in any form, with a spread over parameters or weights.
        data: Rows without labels: several ``responses``, single ones, or comparisons whose label
            is not read. All responses to a prompt are compared with each other.
        number: Number of pairs.
        per_prompt: Most pairs of one prompt.
        seed: Seed of the pairs that are looked at, where a prompt has very many.
        split: Split of a Hub id.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        device: Where the backbone runs.
        dtype: Its precision; that of training when omitted.
        progress: Whether to show a progress bar while texts are encoded.
        cache: Whether to use the disk cache of states.

    Raises:
        InputError: If rows or model cannot be read, no prompt has two responses, or the model has
            no spread, so that a label tells it nothing.
    """
    for name, value in (("number", number), ("per_prompt", per_prompt)):
        if value < 1:
            raise InputError(f"acquire: {name} is {value}, but must be at least 1.")
    table = rows_of(read_data(data, skip_invalid=skip_invalid, split=split, every_row=True))
    pairs = _pair_table(table, np.random.default_rng(seed))
    scorer = as_scorer(model, device=device, dtype=dtype)
    states = encode_table(pairs, scorer.backbone, progress=progress, cache=cache)
    rows = states.rows
    found = label_information(scorer.model, cast(FeatureSource, states))
    if not (found.total > 1e-9).any():
        raise InputError(
            "acquire: the model has no spread over parameters or weights, so that a label would "
            "tell it nothing. Give a VRM, an ensemble, or a model with a Bayesian head."
        )
    chosen = select_pairs(found, rows.pair_prompt, number, per_prompt)
    mean = float(found.total.mean())
    return Acquired([_row(rows, found, n) for n in chosen], rows.num_pairs, mean)


def _pair_table(table: PreferenceTable, rng: np.random.Generator) -> PreferenceTable:
    """Return a table of all pairs of responses to one prompt, without labels."""
    order = np.argsort(table.response_prompt, kind="stable")
    ends = np.searchsorted(table.response_prompt[order], np.arange(table.num_prompts + 1))
    groups = [order[a:b].tolist() for a, b in zip(ends[:-1], ends[1:], strict=True)]
    rows = [row for held in groups for row in _pairs_of(table, held, rng)]
    if not rows:
        raise InputError("acquire: no prompt has two responses to compare.")
    return load_table(ReadAs(rows, schema=ROWS))


def _pairs_of(
    table: PreferenceTable, held: list[int], rng: np.random.Generator
) -> Iterator[dict[str, Any]]:
    """Yield the pairs of responses to one prompt."""
    pairs = list(combinations(held, 2))
    if len(pairs) > MOST_PAIRS:
        pairs = [pairs[i] for i in np.sort(rng.permutation(len(pairs))[:MOST_PAIRS])]
    for first, second in pairs:
        row = {
            "prompt": table.prompts[int(table.response_prompt[first])],
            "chosen": table.responses[first],
            "rejected": table.responses[second],
        }
        name = table.response_id[first] or table.response_id[second]
        yield row if name is None else {**row, "id": name}


def _row(table: PreferenceTable, found: LabelInformation, n: int) -> dict[str, Any]:
    first, second = int(table.pair_first[n]), int(table.pair_second[n])
    name = {} if table.pair_id[n] is None else {"id": table.pair_id[n]}
    return {
        **name,
        "prompt": table.prompts[int(table.response_prompt[first])],
        "first": table.responses[first],
        "second": table.responses[second],
        "preference": None,
        "p_first": short(found.p_first[n]),
        "information": short(found.total[n]),
        "information_parameters": short(found.parameters[n]),
        "information_weights": short(found.weights[n]),
    }
