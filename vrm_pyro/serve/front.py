"""What every request passes first: keys, limits of its body, its id and its line in the log."""

import asyncio
import logging
import time
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from vrm_pyro.serve import logs
from vrm_pyro.serve.authentication import key_of
from vrm_pyro.serve.errors import Refusal, error_body
from vrm_pyro.serve.service import CLOSED_BY_CLIENT, Service

OPEN: Final = ("/health", "/ready", "/", "/docs", "/openapi.json")
"""Routes without keys: they say nothing of texts or traffic."""

_ALWAYS: Final = ("/health", "/ready", "/metrics")
# How many largest bodies may be held at once.
_BODIES: Final = 32


class Front:
    """The outermost layer of the application, plain ASGI.

    Args:
        app: The application behind it.
        service: The service.
    """

    def __init__(self, app: ASGIApp, service: Service) -> None:
        self._app, self._service = app, service
        self._largest = int(service.settings.max_body_mb * 1_000_000)
        self._held = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, headers = time.perf_counter(), Headers(scope=scope)
        request_id = logs.request_id(headers.get(logs.REQUEST_ID))
        status = CLOSED_BY_CLIENT
        held = 0

        async def told(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)[logs.REQUEST_ID] = request_id
            await send(message)

        try:
            refusal = self._refusal(scope, headers)
            if refusal is None:
                body = await self._body(receive, headers)
                if isinstance(body, Refusal):
                    refusal = body
                elif body is not None:
                    held = len(body)
                    self._held += held
                    await self._app(scope, _replayed(body, receive), told)
            if refusal is not None:
                extra = {**refusal.headers, "Connection": "close"}
                response = JSONResponse(error_body(refusal), refusal.status, extra)
                await response(scope, receive, told)
        finally:
            self._held -= held
            self._write(scope, request_id, status, time.perf_counter() - start)

    def _refusal(self, scope: Scope, headers: Headers) -> Refusal | None:
        """Return why a request is refused before its body is read; note who asks."""
        scope["vrm_arrival"] = time.monotonic()
        path, keys = scope["path"], self._service.keys
        scope["vrm_client"] = (scope.get("client") or ("unknown",))[0]
        if self._service.draining and path not in _ALWAYS:
            again = {"Retry-After": "5"}
            return Refusal(503, "overloaded_error", "the server stops; ask another one.", again)
        if keys is not None and path not in OPEN:
            client = keys.client(key_of(headers) or "")
            if client is None:
                return Refusal(
                    401,
                    "authentication_error",
                    "no valid key; send Authorization: Bearer KEY, or X-API-Key: KEY.",
                    {"WWW-Authenticate": "Bearer"},
                )
            scope["vrm_client"] = client
        if scope["method"] == "POST" and "json" not in headers.get("content-type", ""):
            # Pages of other sites cannot send this type to a server on the reader's machine.
            return Refusal(415, "invalid_request_error", "send Content-Type: application/json.")
        length = headers.get("content-length", "0")
        if length.isdigit() and int(length) > self._largest:
            return self._too_large()
        if self._held > _BODIES * self._largest:
            return Refusal(503, "overloaded_error", "too many requests", {"Retry-After": "1"})
        return None

    async def _body(self, receive: Receive, headers: Headers) -> bytes | Refusal | None:
        """Return the body of a request within its limits; None if the client went away."""
        if "content-length" not in headers and "transfer-encoding" not in headers:
            return b""
        parts: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._service.settings.body_timeout_s):
                while True:
                    message = await receive()
                    if message["type"] == "http.disconnect":
                        return None
                    parts.append(message.get("body", b""))
                    size += len(parts[-1])
                    if size > self._largest:
                        return self._too_large()
                    if not message.get("more_body", False):
                        return b"".join(parts)
        except TimeoutError:
            seconds = f"{self._service.settings.body_timeout_s:g}"
            return Refusal(408, "invalid_request_error", f"no whole request within {seconds} s.")

    def _too_large(self) -> Refusal:
        return Refusal(
            413,
            "invalid_request_error",
            f"the body is larger than {self._largest / 1_000_000:g} MB. Send several requests, or "
            "start the server with a larger --max_body_mb.",
        )

    def _write(self, scope: Scope, request_id: str, status: int, seconds: float) -> None:
        route = getattr(scope.get("route"), "path", None) or "other"
        self._service.metrics.request(route, status, seconds)
        more: dict[str, Any] = scope.get("vrm_log", {})
        logs.write(
            "request",
            logging.ERROR if status == 500 else logging.INFO,
            id=request_id,
            client=scope.get("vrm_client"),
            method=scope["method"],
            route=route,
            status=status,
            ms=round(1000 * seconds, 2),
            **more,
        )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """Return a ``receive`` that gives the body at once, then what comes after it."""
    given = False

    async def replay() -> Message:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay
