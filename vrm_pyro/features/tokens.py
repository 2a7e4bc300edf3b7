"""Effects of tokenizing a table's texts: lengths, truncation, and pairs that became equal."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone import Text
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.data.rows import PreferenceTable, RowReport

COLUMNS = 5
"""Columns: tokens, prompt cut, response cut, and the two halves of a digest."""

IDENTICAL = "identical after tokenizing and cutting"
"""Reason for a dropped pair in a row report."""

PROMPTS_CUT = "prompts cut"
RESPONSE_PROMPTS_CUT = "responses whose prompt was cut"
RESPONSES_CUT = "responses cut"
CUTS = (PROMPTS_CUT, RESPONSE_PROMPTS_CUT, RESPONSES_CUT)
"""Names of the counts of truncated texts in a row report."""


def token_facts(sequences: Sequence[TokenSequence | Text]) -> NDArray[np.int64]:
    """Return tokens, prompt cut (0 or 1), response cut and digest of each sequence, (n, 5)."""
    facts = np.empty((len(sequences), COLUMNS), dtype=np.int64)
    for row, s in enumerate(sequences):
        facts[row, :3] = len(s), s.prompt_truncated, s.response_truncated
        facts[row, 3:] = np.frombuffer(s.digest, dtype="<i8")
    return facts


def settle(
    table: PreferenceTable,
    prompts: NDArray[np.int64],
    responses: NDArray[np.int64],
    *,
    drop_identical: bool = True,
) -> tuple[PreferenceTable, NDArray[np.int64]]:
    """Count truncated texts, and drop pairs whose two responses have equal tokens.

    Such a pair has loss ln 2 and no gradient under any model; its label only adds noise to every
    metric.

    Args:
        table: The table whose texts were tokenized.
        prompts: :func:`token_facts` of its prompts, shape (P, 5).
        responses: :func:`token_facts` of its responses, shape (R, 5).
        drop_identical: Whether to drop these pairs; otherwise they are only counted.

    Returns:
        The table with the counts in its report, and the indices of its pairs in the given table,
        shape (N,).

    Raises:
        InputError: If neither a pair nor a rating is left.
    """
    counts = {
        PROMPTS_CUT: int(prompts[:, 1].sum()),
        RESPONSE_PROMPTS_CUT: int(responses[:, 1].sum()),
        RESPONSES_CUT: int(responses[:, 2].sum()),
    }
    settled = table.with_report(counts)
    if not drop_identical:
        return settled, np.arange(table.num_pairs)
    digests = responses[:, 3:]
    identical = (digests[table.pair_first] == digests[table.pair_second]).all(axis=1)
    identical = table.complete_drop(identical)
    return settled.drop_pairs(identical, IDENTICAL), np.flatnonzero(~identical)


def cut_summary(report: RowReport) -> str:
    """Return one line for the user: how many texts were cut and pairs dropped.

    Args:
        report: The report of an encoded table, from
            :func:`~vrm_pyro.features.memory.encode_table` or a store.

    >>> from vrm_pyro.data.rows import RowReport
    >>> cut_summary(RowReport(dropped={IDENTICAL: 2}, extra={PROMPTS_CUT: 3, RESPONSES_CUT: 1200}))
    '3 prompts cut, 1,200 responses cut; 2 pairs dropped (identical after tokenizing and cutting)'
    >>> cut_summary(RowReport())
    'no text cut; no pair dropped'
    """
    cuts = [f"{report.extra[name]:,} {name}" for name in CUTS if report.extra.get(name)]
    drops = [f"{count:,} pairs dropped ({why})" for why, count in report.dropped.items() if count]
    return f"{', '.join(cuts) or 'no text cut'}; {', '.join(drops) or 'no pair dropped'}"
