"""OpenAssistant trees: every turn of the assistant with ranked replies.

Published: ``OpenAssistant/oasst1`` and ``oasst2``, the files of trees (``*.trees.jsonl.gz``). The
files of messages hold one message a row, without its conversation, and are refused.

Label: replies of the assistant to one message are ranked by ``rank``, 0 the best; two or more are
a ranking. The turns from the root to that message are the prompt. Deleted messages and replies
without a rank are left out.

Ratings: none; the crowd's ``labels`` are not used.

Ties and strengths: replies with the same rank make no comparison. ``lang`` of the root becomes the
subset.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from vrm_pyro.data.schemas.rows import ranked
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import needed_number, number, objects

_ROLES = {"prompter": "user", "assistant": "assistant"}


def convert(row: Row) -> list[dict[str, Any]]:
    """Return a ranking for every message with two or more ranked replies."""
    root = row["prompt"]
    return [
        found
        for prompt, replies in _forks(root)
        for found in ranked(
            prompt,
            [reply["text"] for reply in replies],
            [needed_number(reply, "rank") for reply in replies],
            subset=root.get("lang"),
            id=row.get("message_tree_id"),
        )
    ]


def _forks(root: Mapping[str, Any]) -> Iterator[tuple[list[dict[str, Any]], list[Any]]]:
    """Yield the turns and the ranked replies of every message with several."""
    waiting = [([_turn(root)], root)]  # a list: trees may be deeper than Python recurses
    while waiting:
        turns, node = waiting.pop(0)
        replies = [
            reply
            for reply in objects(node.get("replies") or [], "replies", "text")
            if not reply.get("deleted")
        ]
        ordered = [
            reply
            for reply in replies
            if reply.get("role") == "assistant" and number(reply.get("rank"), "rank") is not None
        ]
        if len(ordered) > 1:
            yield turns, ordered
        waiting += [([*turns, _turn(reply)], reply) for reply in replies]


def _turn(node: Mapping[str, Any]) -> dict[str, Any]:
    role = node.get("role")
    return {"role": _ROLES.get(str(role), role), "content": node.get("text")}


SCHEMA = Schema(__doc__, {"message_tree_id": "", "prompt": "object"}, convert, ("tree_state",))
