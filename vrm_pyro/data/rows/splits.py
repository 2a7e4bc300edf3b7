"""Split tables by prompt, and keep a subset of the labels."""

import hashlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows.builder import prompt_key
from vrm_pyro.data.rows.table import PreferenceTable
from vrm_pyro.errors import InputError


def prompt_positions(table: PreferenceTable, seed: int) -> NDArray[np.float64]:
    """Return a pseudo-random position in [0, 1) per prompt, shape (P,).

    It depends only on the prompt's text and the seed, not on the order of rows or on other
    prompts, so a prompt falls on the same side in every file.
    """
    salt = f"{seed}:".encode()
    digests = [
        hashlib.blake2b(salt + prompt_key(prompt).encode("utf-8"), digest_size=8).digest()
        for prompt in table.prompts
    ]
    # 53 bits: as many as a float holds, so that the result stays below 1
    return np.asarray([(int.from_bytes(d, "big") >> 11) / 2**53 for d in digests])


def split_by_prompt(
    table: PreferenceTable, fractions: Sequence[float] = (0.8, 0.1, 0.1), seed: int = 0
) -> tuple[PreferenceTable, ...]:
    """Split a table so that all rows of a prompt stay together.

    A seeded hash of its text decides the part of a prompt. So the fractions hold on average
    only, and a prompt is always in the same part for the same fractions and seed.

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": f"{i} + 1?", "chosen": str(i + 1), "rejected": "?"} for i in range(50)]
    >>> train, test = split_by_prompt(load_table(rows), (0.8, 0.2))
    >>> train.num_prompts, test.num_prompts
    (39, 11)

    Args:
        table: What to split.
        fractions: Expected share of the prompts in each part; they sum to 1.
        seed: Another seed gives another split.

    Raises:
        InputError: If the fractions are not shares, or a part with a positive share is empty.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if len(shares) == 0 or (shares < 0).any() or not np.isclose(shares.sum(), 1.0, atol=1e-6):
        raise InputError(f"split: fractions {tuple(fractions)} must be >= 0 and sum to 1.")
    bounds = np.cumsum(shares)[:-1]
    part = np.searchsorted(bounds, prompt_positions(table, seed), side="right")
    empty = [index for index in np.flatnonzero(shares) if not (part == index).any()]
    if empty:
        raise InputError(
            f"split: none of the {table.num_prompts} prompts falls into the part with share "
            f"{shares[empty[0]]:g}. Use more prompts, larger shares, or another seed."
        )
    return tuple(table.select_prompts(part == index) for index in range(len(shares)))


def fold_by_prompt(table: PreferenceTable, num_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Return the fold of each prompt, shape (P,), for cross-validation.

    Prompts are ordered by a seeded hash and assigned in turn, so fold sizes differ by at most
    one prompt. Test on ``table.select_prompts(folds == k)``, train on the rest.

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": f"{i} + 1?", "chosen": str(i + 1), "rejected": "?"} for i in range(5)]
    >>> sorted(fold_by_prompt(load_table(rows), 2).tolist())
    [0, 0, 0, 1, 1]

    Raises:
        InputError: If there are fewer than two folds or fewer prompts than folds.
    """
    if not 2 <= num_folds <= table.num_prompts:
        raise InputError(
            f"folds: {num_folds} folds of {table.num_prompts} prompts; give from 2 folds to as "
            "many as there are prompts."
        )
    order = np.argsort(prompt_positions(table, seed), kind="stable")
    folds = np.empty(table.num_prompts, dtype=np.int64)
    folds[order] = np.arange(table.num_prompts) % num_folds
    return folds


def keep_labels(table: PreferenceTable, num_pairs: int, seed: int = 0) -> PreferenceTable:
    """Keep the preference labels of some pairs and the ratings of all responses.

    For experiments with few labels. With one seed a larger number keeps all the pairs that a
    smaller one does. The other pairs are counted as dropped for "label withheld".

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"prompt": f"{i} + 1?", "chosen": str(i + 1), "rejected": "?"} for i in range(5)]
    >>> few = keep_labels(load_table(rows), 2)
    >>> few.num_pairs, few.num_responses, few.report.dropped
    (2, 10, {'label withheld': 3})

    Raises:
        InputError: If the table has fewer pairs, ``num_pairs`` is below 1, or the table has
            rankings, whose pairs cannot be withheld one by one.
    """
    if table.ranking_numbers:
        raise InputError(
            f"keep_labels: the table holds {len(table.ranking_numbers)} rankings, which lose more "
            "than the pairs withheld. Use rows of pairs."
        )
    if not 1 <= num_pairs <= table.num_pairs:
        raise InputError(
            f"keep_labels: asked for {num_pairs} labelled pairs of {table.num_pairs}; give a "
            "number from 1 to that."
        )
    dropped = np.ones(table.num_pairs, dtype=bool)
    dropped[np.random.default_rng(seed).permutation(table.num_pairs)[:num_pairs]] = False
    return table.drop_pairs(dropped, "label withheld")
