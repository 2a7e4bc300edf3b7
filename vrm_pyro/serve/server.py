"""Run the server: listen, answer, and stop without losing an answer."""

import asyncio
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from vrm_pyro.errors import InputError
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve import logs
from vrm_pyro.serve.application import build_application
from vrm_pyro.serve.opening import served_name
from vrm_pyro.serve.service import Service
from vrm_pyro.serve.settings import ServeSettings

# Most connections at once; further ones get 503.
_CONNECTIONS: Final = 4096
_KEEP_ALIVE: Final = 75
_HEADER_SECONDS: Final = 20.0


def serve(
    scorer: Scorer,
    settings: ServeSettings,
    listening: socket.socket,
    started: Callable[[str], None] = lambda address: None,
) -> None:
    """Serve a model until SIGTERM or SIGINT; requests that were accepted get their answers.

    SIGHUP reads the file of keys anew.

    Args:
        scorer: The model.
        settings: How to serve it.
        listening: Of :func:`listen`; it is closed at the end.
        started: Called with the address once requests are answered.

    Raises:
        InputError: If keys or certificates cannot be read.
    """
    service = Service(scorer, settings, served_name(scorer, settings))
    config = uvicorn.Config(
        build_application(service),
        host=settings.host,
        port=settings.port,
        http=HeadersInTime,
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE,
        timeout_graceful_shutdown=int(settings.timeout_s) + 5,
        ssl_certfile=settings.tls_certificate,
        ssl_keyfile=settings.tls_key,
    )
    try:
        config.load()
    except OSError as error:
        raise InputError(f"tls_certificate, tls_key: cannot be used ({error}).") from error
    port = listening.getsockname()[1]
    address = settings.address.removesuffix(f":{settings.port}") + f":{port}"
    try:
        asyncio.run(_Server(config, service, address, started).serve(sockets=[listening]))
    finally:
        listening.close()


def listen(settings: ServeSettings) -> socket.socket:
    """Return a socket bound to the address, which refuses connections until a server runs.

    Raises:
        InputError: If the address is taken or is none of this machine's.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    listening = socket.socket(family)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except (OSError, UnicodeError) as error:
        listening.close()
        raise InputError(
            f"cannot listen on {settings.host} port {settings.port} ({error}). Choose another "
            "--port, or 0 for a free one."
        ) from error
    return listening


class _Server(uvicorn.Server):
    """uvicorn's server with our signals: it drains, and ends with code 0."""

    def __init__(
        self,
        config: uvicorn.Config,
        service: Service,
        address: str,
        started: Callable[[str], None],
    ) -> None:
        super().__init__(config)
        self._service, self._address, self._tell = service, address, started

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals in the loop; uvicorn would raise them again at the end."""
        loop = asyncio.get_running_loop()
        handlers: dict[int, Callable[[], None]] = {
            signal.SIGTERM: self._drain,
            signal.SIGINT: self._drain,
        }
        if hasattr(signal, "SIGHUP"):
            handlers[signal.SIGHUP] = self._rotate
        for number, handler in handlers.items():
            loop.add_signal_handler(number, handler)
        try:
            yield
        finally:
            for number in handlers:
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say where."""
        await super().startup(sockets=sockets)
        if not self.should_exit:
            logs.write("listening", address=self._address, model=self._service.name)
            self._tell(self._address)

    def _drain(self) -> None:
        if self._service.draining:  # asked twice: now
            self.force_exit = True
        logs.write("stopping")
        self._service.draining = True
        self.should_exit = True

    def _rotate(self) -> None:
        keys = self._service.keys
        if keys is None:
            return
        try:
            keys.reload()
        except InputError as error:
            logs.write("keys kept", logging.ERROR, reason=str(error))
        else:
            logs.write("keys read", keys=len(keys))


class HeadersInTime(H11Protocol):
    """uvicorn's protocol, which ends connections whose headers do not come in time."""

    _timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        """Start to wait for the headers of the first request."""
        super().connection_made(transport)
        self._watch(True)

    def data_received(self, data: bytes) -> None:
        """Wait as long as a request has begun and its headers are not complete."""
        super().data_received(data)
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        self._watch(begun)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._watch(False)
        super().connection_lost(exc)

    def _watch(self, waits: bool) -> None:
        if waits and self._timer is None:
            self._timer = self.loop.call_later(_HEADER_SECONDS, self.transport.close)
        elif not waits and self._timer is not None:
            self._timer.cancel()
            self._timer = None
