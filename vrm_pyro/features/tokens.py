"""What tokenizing did to the texts of a table: lengths, cuts, and pairs that became equal."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone.chat import TokenSequence
from vrm_pyro.data.rows import PreferenceTable

COLUMNS = 5
"""Tokens, prompt cut, response cut, and two halves of a digest."""

IDENTICAL = "identical after tokenizing and cutting"


def token_facts(sequences: Sequence[TokenSequence]) -> NDArray[np.int64]:
    """Return tokens, prompt cut (0 or 1), response cut and digest of each sequence, (n, 5)."""
    facts = np.empty((len(sequences), COLUMNS), dtype=np.int64)
    for row, s in enumerate(sequences):
        facts[row, :3] = len(s), s.prompt_truncated, s.response_truncated
        facts[row, 3:] = np.frombuffer(s.digest, dtype="<i8")
    return facts


def settle(
    table: PreferenceTable, prompts: NDArray[np.int64], responses: NDArray[np.int64]
) -> tuple[PreferenceTable, NDArray[np.int64]]:
    """Drop pairs that are the same to the backbone, and count the cuts.

    Such a pair has loss ln 2 and no gradient whatever the model; its label would only be noise
    in every rate.

    Args:
        table: The table whose texts were tokenized.
        prompts: :func:`token_facts` of its prompts.
        responses: :func:`token_facts` of its responses.

    Returns:
        The table without these pairs and with the counts in its report, and the pairs of the
        given table that are left.

    Raises:
        InputError: If neither a pair nor a rating is left.
    """
    digests = responses[:, 3:]
    identical = (digests[table.pair_first] == digests[table.pair_second]).all(axis=1)
    counts = {
        "prompts cut": int(prompts[:, 1].sum()),
        "responses whose prompt was cut": int(responses[:, 1].sum()),
        "responses cut": int(responses[:, 2].sum()),
    }
    identical = table.complete_drop(identical)
    settled = table.with_report(counts).drop_pairs(identical, IDENTICAL)
    return settled, np.flatnonzero(~identical)
