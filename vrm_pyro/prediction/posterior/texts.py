"""Texts beside the draws: join a posterior file with the rows it was drawn for."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro import names
from vrm_pyro.data.rows import PreferenceTable, prompt_key
from vrm_pyro.data.turns import Message, turn_text
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, read_data, rows_of
from vrm_pyro.prediction.posterior.labels import prompt_id


def with_texts(tree: xr.DataTree, rows: DataLike) -> xr.DataTree:
    """Return a posterior with the texts of its rows as coordinates.

    ``prompt_text`` goes along ``prompt``, ``response_text`` along ``response``, ``first_text`` and
    ``second_text`` along ``pair``, in every group that has the dimension. So
    ``tree["posterior"]["w"].mean(("chain", "draw")).to_dataframe()`` has a column of prompts.
    Prompts are found by the digest in the file: the rows may hold others and come in any order,
    as long as each prompt has the responses it had when the file was written.

    Args:
        tree: What ``xarray.open_datatree("posterior.nc")`` returns, whole: select rows afterwards.
        rows: The rows that the posterior was drawn for, in any form that
            :func:`~vrm_pyro.features.reading.read_data` takes.

    Raises:
        InputError: If a prompt of the tree is not among the rows, or has other responses there.
    """
    table = rows_of(read_data(rows))
    data = tree["constant_data"].to_dataset()
    table = table.select_prompts(
        _prompts(tree["sample_stats"].to_dataset()[names.PROMPT_DIM].values, table)
    )
    owner = data["response_prompt"].values
    ids = data[names.RESPONSE_DIM].values
    if not np.array_equal(owner, table.response_prompt) or (
        ids.dtype.kind in "OUT" and ids.tolist() != table.response_id
    ):
        raise InputError(
            f"with_texts: the posterior has {len(owner)} responses to its prompts, the rows have "
            f"{table.num_responses} or others. Give the rows that it was drawn for, and a tree "
            "of which nothing was selected yet."
        )
    responses = np.array(table.responses, dtype=object)
    texts = {
        "prompt_text": (names.PROMPT_DIM, [conversation_text(p) for p in table.prompts]),
        "response_text": (names.RESPONSE_DIM, responses),
    }
    if names.PAIR_DIM in data.sizes:
        texts |= {
            f"{side}_text": (names.PAIR_DIM, responses[data[f"pair_{side}"].values])
            for side in ("first", "second")
        }

    def joined(dataset: xr.Dataset) -> xr.Dataset:
        here = {name: text for name, text in texts.items() if text[0] in dataset.sizes}
        return dataset.assign_coords(here)

    found = tree.map_over_datasets(joined)
    assert isinstance(found, xr.DataTree)
    return found


def conversation_text(messages: Sequence[Message]) -> str:
    r"""Return a prompt as one text: a single turn as it is, several with their roles.

    >>> conversation_text(
    ...     [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hello"}]
    ... )
    'system: Be brief.\nuser: Hello'
    """
    if len(messages) == 1:
        return turn_text(messages[0])
    return "\n".join(f"{message['role']}: {turn_text(message)}" for message in messages)


def _prompts(wanted: NDArray[Any], table: PreferenceTable) -> list[int]:
    """Return where the prompts of a posterior stand in a table."""
    if wanted.dtype.kind not in "OUT":  # positions: the file has no digests
        if len(wanted) != table.num_prompts:
            raise InputError(
                f"with_texts: the posterior numbers {len(wanted)} prompts, the rows have "
                f"{table.num_prompts}. Give the rows that it was drawn for, all of them."
            )
        return list(range(len(wanted)))
    place = {prompt_id(prompt_key(messages)): i for i, messages in enumerate(table.prompts)}
    missing = [key for key in wanted.tolist() if key not in place]
    if missing:
        raise InputError(
            f"with_texts: {len(missing)} of {len(wanted)} prompts of the posterior are not among "
            f"the rows (the first: {missing[0]}). Give the rows that it was drawn for."
        )
    return [place[key] for key in wanted.tolist()]
