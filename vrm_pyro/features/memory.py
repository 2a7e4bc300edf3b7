"""Compute the states of rows in memory."""

from collections.abc import Callable

from tqdm import tqdm

from vrm_pyro.backbone import Backbone
from vrm_pyro.features.cache import Encoded, Texts, cached
from vrm_pyro.features.reading import DataLike, read_data, rows_of
from vrm_pyro.features.refused import naming_refused, without_refused
from vrm_pyro.features.states import Features
from vrm_pyro.features.tokens import settle, token_facts


def encode_table(
    data: DataLike,
    backbone: Backbone,
    *,
    drop_identical: bool = True,
    progress: bool = False,
    responses_done: Callable[[int], None] | None = None,
    cache: bool = False,
    skip_invalid: bool = False,
) -> Features:
    """Compute the states of all texts in rows, in memory.

    >>> import numpy as np
    >>> from vrm_pyro.backbone import Backbone
    >>> class Lengths(Backbone):
    ...     def embed(self, texts):
    ...         return np.array([[len(text.response or "")] for text in texts], dtype=np.float32)
    >>> rows = [{"prompt": "2 + 2?", "chosen": "It is 4.", "rejected": "5"}]
    >>> encode_table(rows, Lengths(name="lengths", hidden_size=1)).responses.tolist()
    [[8.0], [1.0]]

    Args:
        data: Rows in any form, see :data:`~vrm_pyro.features.reading.DataLike`.
        backbone: The backbone that reads the texts.
        drop_identical: Whether to drop pairs whose two responses have equal tokens. Scoring
            keeps them, to write one line per row.
        progress: Whether to show a progress bar with sequences per second.
        responses_done: Called after each batch of responses with their number.
        cache: Whether to use the disk cache, see :mod:`vrm_pyro.features.cache`. It does not
            change the numbers.
        skip_invalid: Leave out and count rows that the chat template does not take.

    Raises:
        InputError: If the chat template refuses a row, or no pair or rating is left.
    """
    table = rows_of(read_data(data))
    if skip_invalid:
        table = without_refused(table, backbone)

    def compute() -> Encoded:
        prompts = backbone.sequences(table.prompts)
        responses = backbone.sequences(table.prompts, table.responses, table.response_prompt)
        total = len(prompts) + len(responses)
        with tqdm(total=total, unit="seq", desc="features", disable=not progress) as bar:
            states = backbone.pair_states(
                prompts, responses, table.response_prompt, bar.update, responses_done
            )
        return Encoded(*states, token_facts(prompts), token_facts(responses))

    with naming_refused(table, backbone):
        encoded, found = (
            cached(Texts.of(table), backbone, compute) if cache else (compute(), False)
        )
    if found and responses_done is not None:
        responses_done(table.num_responses)
    facts = encoded.prompt_facts, encoded.response_facts
    rows, pairs = settle(table, *facts, drop_identical=drop_identical)
    return Features(
        prompts=encoded.prompts,
        responses=encoded.responses,
        rows=rows,
        table_pairs=pairs,
        prompt_tokens=facts[0][:, 0],
        response_tokens=facts[1][:, 0],
    )
