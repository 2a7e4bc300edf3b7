"""Errors of requests: status, type and message of each."""

import logging
from typing import Any, Final, NamedTuple

from pydantic import BaseModel

from vrm_pyro.errors import InputError
from vrm_pyro.serve.queue import QueueFull, TooLarge
from vrm_pyro.serve.service import CLOSED_BY_CLIENT, ClientGone, UnknownModel

log = logging.getLogger(__name__)

_BAD: Final = "invalid_request_error"


class Refusal(NamedTuple):
    """How a request is refused.

    Attributes:
        status: Status of HTTP.
        kind: Type of the error.
        message: What is wrong, and how to fix it.
        headers: Further headers.
    """

    status: int
    kind: str
    message: str
    headers: dict[str, str] = {}


class Problem(BaseModel):
    """What is wrong with a request."""

    message: str
    type: str
    code: int


class ErrorReply(BaseModel):
    """The body of every refusal."""

    error: Problem


_STATUSES: Final = {
    400: "The body is no JSON.",
    401: "No valid key.",
    404: "Another model was asked for.",
    408: "The body does not come in time.",
    413: "The request is too large.",
    415: "The body is not sent as JSON.",
    422: "A text or a field is not usable.",
    503: "Come back later.",
}


def documented(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return refusals for the OpenAPI document, all of them without a status."""
    return {
        status: {"model": ErrorReply, "description": _STATUSES[status]}
        for status in statuses or _STATUSES
    }


def refusal_of(error: BaseException) -> Refusal:
    """Return how a request that ended with an error is answered; a fault of ours is logged."""
    if isinstance(error, QueueFull):
        seconds = max(1, round(error.seconds))
        return Refusal(503, "overloaded_error", str(error), {"Retry-After": str(seconds)})
    if isinstance(error, TooLarge):
        return Refusal(413, _BAD, str(error))
    if isinstance(error, UnknownModel):
        return Refusal(404, "not_found_error", str(error))
    if isinstance(error, InputError):
        return Refusal(422, _BAD, str(error))
    if isinstance(error, ClientGone):
        return Refusal(CLOSED_BY_CLIENT, "client_closed_request", "the client went away")
    log.error("a request failed", exc_info=error)
    return Refusal(
        500, "internal_error", "this is a fault of vrm_pyro, not of the request; please report it."
    )


def error_body(error: BaseException | Refusal) -> dict[str, Any]:
    """Return the body of an error, in the shape of OpenAI's."""
    found = error if isinstance(error, Refusal) else refusal_of(error)
    return {"error": {"message": found.message, "type": found.kind, "code": found.status}}
