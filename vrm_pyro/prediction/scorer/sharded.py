"""Score a large table shard by shard; an interrupted run resumes."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, cast

import numpy as np
from tqdm import tqdm

from vrm_pyro.data.rows.counts import RowReport, add_counts
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.tokens import cut_summary
from vrm_pyro.prediction.rating_range import log_outside, outside
from vrm_pyro.prediction.scorer.lines import table_lines
from vrm_pyro.prediction.scorer.output_rows import OutputRows
from vrm_pyro.prediction.scorer.parts import ScoreParts
from vrm_pyro.prediction.scorer.prompt_lines import prompt_lines
from vrm_pyro.prediction.scorer.scorer import Scorer
from vrm_pyro.prediction.scorer.scores import score_source

SHARD_ROWS: Final = 10_000
"""Rows in a shard: the states of 20,000 responses take 30 MB at width 384, 330 MB at 4,096."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Throughput:
    """What one run scored.

    Args:
        responses: Responses that went through the backbone.
        tokens: Tokens of all sequences that went through it, without padding.
        seconds: How long it took.
    """

    responses: int
    tokens: int
    seconds: float

    def words(self) -> str:
        """Return rates for a message.

        >>> Throughput(responses=600, tokens=90_000, seconds=2.0).words()
        '300.0 responses/s, 45,000 tokens/s'
        """
        rates = self.responses / self.seconds, self.tokens / self.seconds
        return f"{rates[0]:,.1f} responses/s, {rates[1]:,.0f} tokens/s"


def score_shards(
    scorer: Scorer,
    rows: OutputRows,
    parts: ScoreParts,
    shards: Sequence[int],
    shard_rows: int = SHARD_ROWS,
    *,
    progress: bool = False,
    cache: bool = False,
    k: float = 1.0,
) -> Throughput:
    """Score some shards of a table; those that are finished are left alone.

    Lines are those of :func:`~vrm_pyro.prediction.scorer.lines.table_lines`; of rows by prompt,
    those of :func:`~vrm_pyro.prediction.scorer.prompt_lines.prompt_lines`.

    States and scores of one shard at a time are in memory, beside the texts of all. A shard's
    lines depend on its rows alone, so a run that was killed and resumed gives the same file bit
    for bit on this machine. A prompt is read once in each shard that has rows of it.

    Args:
        scorer: The model with its backbone.
        rows: Rows of the score file.
        parts: Where lines are written.
        shards: Shards to score.
        shard_rows: Rows in a shard.
        progress: Whether to show a progress bar with responses and tokens per second.
        cache: See :func:`~vrm_pyro.features.memory.encode_table`.
        k: See :func:`~vrm_pyro.prediction.scorer.prompt_lines.prompt_lines`.
    """
    ranges = rows.shards(shard_rows)
    missing = set(parts.missing())
    work = [index for index in shards if index in missing]
    if len(work) < len(shards):
        log.info(
            "%s: %d of %d shards are there already",
            parts.folder,
            len(shards) - len(work),
            len(shards),
        )
    total = sum(rows.num_responses(*ranges[index]) for index in work)
    names, rated = scorer.loaded.objectives, scorer.loaded.rating_ranges
    far = np.zeros(len(names), np.int64)
    tokens, start = 0, time.perf_counter()
    cuts: dict[str, int] = {}
    with tqdm(total=total, unit="resp", desc="score", disable=not progress) as bar:
        for index in work:
            states = encode_table(
                rows.select(*ranges[index]),
                scorer.backbone,
                drop_identical=False,
                responses_done=bar.update,
                cache=cache,
            )
            source = cast(FeatureSource, states)
            scores = score_source(scorer.model, source)
            if rows.by_prompt:
                made = prompt_lines(scorer.model, source, scores, states.rows, k)
            else:
                made = table_lines(scores, states.rows, names, rated)
            parts.write(index, made)
            if scores.scores is not None:
                far += outside(scores.scores, names, rated).sum(0)
            tokens += int(states.prompt_tokens.sum() + states.response_tokens.sum())
            cuts = add_counts(cuts, states.rows.report.extra)
            bar.set_postfix_str(f"{tokens / (time.perf_counter() - start):,.0f} tok/s")
    log.info("%s: %s", parts.out, cut_summary(RowReport(extra=cuts)))
    log_outside(str(parts.out), far, total, names, rated)
    return Throughput(total, tokens, time.perf_counter() - start)
