"""Rows that a backbone's chat template does not take: named, or left out and counted."""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from vrm_pyro.backbone import Backbone
from vrm_pyro.backbone.template import RefusedConversation
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError

REFUSED = "refused by the chat template"
"""Reason in a row report."""

_LISTED = 20


def refused_responses(table: PreferenceTable, backbone: Backbone) -> dict[int, str]:
    """Return the responses that the chat template does not take, with its reason for each."""
    found: dict[int, str] = {}
    for index, owner in enumerate(table.response_prompt.tolist()):
        try:
            backbone.sequences([table.prompts[owner]], [table.responses[index]])
        except RefusedConversation as error:
            found[index] = str(error)
    return found


def without_refused(table: PreferenceTable, backbone: Backbone) -> PreferenceTable:
    """Return the rows that the chat template takes; the others are counted as invalid.

    Raises:
        InputError: If none is left.
    """
    try:
        # Whole first: one template takes all rows or few, and one call is quick.
        backbone.sequences(table.prompts, table.responses, table.response_prompt)
    except RefusedConversation:
        mask = np.zeros(table.num_responses, dtype=bool)
        mask[list(refused_responses(table, backbone))] = True
        return table.drop_responses(mask, REFUSED)
    return table


@contextmanager
def naming_refused(table: PreferenceTable, backbone: Backbone) -> Iterator[None]:
    """Name the rows if the chat template refuses some within the block.

    Raises:
        InputError: Lists the rows, the template's reason and the remedy.
    """
    try:
        yield
    except RefusedConversation as error:
        found = refused_responses(table, backbone)
        if not found:
            raise
        rows: dict[str, str] = {}
        for index, reason in found.items():
            rows.setdefault(place_of(table, index), reason)
        lines = [f"  {place}: {reason}" for place, reason in list(rows.items())[:_LISTED]]
        if len(rows) > _LISTED:
            lines.append(f"  ... and {len(rows) - _LISTED:,} more")
        raise InputError(
            f"{len(rows):,} rows are no conversations for the chat template of backbone "
            f"{backbone.name}. Write them as it asks (many take no system turn: put it into the "
            "first turn of the user), leave them out with --skip_invalid, or choose another "
            "backbone:\n" + "\n".join(lines)
        ) from error


def place_of(table: PreferenceTable, index: int) -> str:
    """Return how a message calls the row of a response."""
    place = table.response_place[index] if table.response_place else None
    name = place or table.response_id[index]
    return name or f"response {index} ({table.responses[index][:30]!r})"
