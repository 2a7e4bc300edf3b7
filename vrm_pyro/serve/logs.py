"""The log of requests: one line of JSON each, without texts."""

import datetime
import json
import logging
import re
import uuid
from typing import Any, Final

log = logging.getLogger("vrm_pyro.serve.requests")

REQUEST_ID: Final = "x-request-id"
_ID: Final = re.compile(r"[!-~]{1,128}")


def request_id(given: str | None) -> str:
    """Return the id that a client gave to its request, or a new one.

    >>> request_id("step-17"), len(request_id(None)), len(request_id("a b"))
    ('step-17', 32, 32)
    """
    return given if given and _ID.fullmatch(given) else uuid.uuid4().hex


def write(event: str, level: int = logging.INFO, **values: Any) -> None:
    """Log an event as one line of JSON.

    Args:
        event: What happened.
        level: Level of the log.
        **values: JSON values; those that are None are left out.
    """
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds")
    known = {key: value for key, value in values.items() if value is not None}
    record = {"time": now, "level": logging.getLevelName(level).lower(), "event": event, **known}
    log.log(level, "%s", json.dumps(record, ensure_ascii=True, default=str))
