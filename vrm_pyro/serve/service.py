"""The service behind all routes: reads requests, queues them, waits for their answers."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, TypeVar

from starlette.requests import Request

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.settings import AGGREGATIONS
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.authentication import KeyFile
from vrm_pyro.serve.engine import Engine
from vrm_pyro.serve.metrics import Metrics
from vrm_pyro.serve.queue import QueueFull
from vrm_pyro.serve.reading import RequestReader, check_group
from vrm_pyro.serve.settings import ServeSettings
from vrm_pyro.serve.warm_up import warm_up
from vrm_pyro.serve.work import Group

T = TypeVar("T")
Answer = dict[str, Any]

CLOSED_BY_CLIENT: Final = 499
"""Status in the log of a request whose client went away."""

# Seconds between looks at whether a client is still there.
_WATCH: Final = 0.05


class ClientGone(Exception):
    """The client went away before its answer."""


class UnknownModel(Exception):
    """A request names another model."""


class Service:
    """A model, the threads that compute it, and what the routes need besides.

    Args:
        scorer: The model.
        settings: Settings of the server.
        name: What clients call the model.

    Raises:
        InputError: If the keys or the policy's tokenizer cannot be read, or the model reads texts
            and token ids differently.
    """

    def __init__(self, scorer: Scorer, settings: ServeSettings, name: str) -> None:
        self.scorer, self.settings, self.name = scorer, settings, name
        self.keys = None if settings.api_key_file is None else KeyFile(settings.api_key_file)
        self.reader = RequestReader(scorer, settings.policy_tokenizer)
        self.engine = Engine(scorer, settings, self._on_batch)
        queue = self.engine.queue
        self.metrics = Metrics(queue.batch_tokens, lambda: queue.tokens)
        self.created = int(time.time())
        self.draining = False
        self._threads = ThreadPoolExecutor(1, thread_name_prefix="vrm-reader")

    def start(self) -> None:
        """Warm the model up, then start the threads that compute."""
        warm_up(self.scorer, self.reader)
        self.engine.start()

    def stop(self) -> None:
        """Finish what waits, then end the threads."""
        self.engine.stop()
        self._threads.shutdown()

    @property
    def is_ready(self) -> bool:
        """Whether requests are answered."""
        return self.engine.is_alive and not self.draining

    def _on_batch(self, jobs: int, tokens: int, seconds: float) -> None:
        self.metrics.batch(jobs, tokens, seconds)

    def describe(self) -> Answer:
        """Return what ``/v1/models`` says of the model."""
        loaded, backbone = self.scorer.loaded, self.scorer.backbone
        return {
            "id": self.name,
            "object": "model",
            "created": self.created,
            "owned_by": "vrm_pyro",
            "max_model_len": backbone.max_length,
            "vrm": {
                "version": vrm_pyro.__version__,
                "architecture": loaded.architecture,
                "objectives": list(loaded.objectives),
                "score_unit": self.scorer.score_unit,
                "aggregations": list(AGGREGATIONS),
                "whole_texts": self.reader.divides,
                "precision": backbone.precision,
            },
        }

    def check_model(self, name: str | None) -> None:
        """Raise UnknownModel if a request names a model that is not served here."""
        directory = self.scorer.loaded.directory
        known = {None, "", self.name, *([] if directory is None else [str(directory)])}
        if name not in known:
            raise UnknownModel(f"no model {name!r} here; this server has {self.name!r}.")

    def deadline(self, request: Request, timeout_s: float | None) -> float:
        """Return when a request has to be answered, of ``time.monotonic``; from its arrival on."""
        given = self.settings.timeout_s if timeout_s is None else timeout_s
        arrival: float = request.scope.get("vrm_arrival", time.monotonic())
        return arrival + min(given, self.settings.timeout_s)

    async def read(self, make: Callable[[], T], deadline: float) -> T:
        """Return what a function of the reader makes of a request, in the reader's thread.

        Raises:
            QueueFull: If the time is over.
        """

        def in_time() -> T:
            if time.monotonic() > deadline:  # nobody waits any more
                raise QueueFull(self.engine.queue.expected_wait())
            return make()

        reading = asyncio.get_running_loop().run_in_executor(self._threads, in_time)
        try:
            return await asyncio.wait_for(reading, max(0.0, deadline - time.monotonic()))
        except TimeoutError:
            raise QueueFull(self.engine.queue.expected_wait()) from None

    async def groups(
        self,
        request: Request,
        make: Callable[[], list[Group]],
        *,
        truncate: bool | None = None,
        empty: bool | None = None,
        timeout_s: float | None = None,
        texts: Any = None,
    ) -> list[Group]:
        """Return the groups of a request; they can be scored.

        Args:
            request: The request.
            make: Makes them.
            truncate: Whether texts may be cut; the server's setting if None.
            empty: Whether a response may be empty; if None, where the server has a reward for it.
            timeout_s: The request's own time.
            texts: What the log has of the request where it has texts.
        """
        settings = self.settings
        cuts = settings.truncate if truncate is None else truncate
        empties = settings.empty_reward is not None if empty is None else empty

        def checked() -> list[Group]:
            found = make()
            number = sum(len(group.place) for group in found)
            if number > settings.max_responses:
                raise InputError(
                    f"{number} responses in one request; at most {settings.max_responses}. Send "
                    "several requests, or start the server with a larger --max_responses."
                )
            if not cuts and any(any(group.truncated) for group in found):
                self.metrics.refused_overlong()
            return [check_group(group, cuts, empties) for group in found]

        groups = await self.read(checked, self.deadline(request, timeout_s))
        note(
            request,
            responses=sum(len(group.place) for group in groups),
            tokens=sum(group.tokens for group in groups),
            texts=texts if settings.log_texts else None,
        )
        return groups

    async def answers(
        self, request: Request, groups: Sequence[Group], timeout_s: float | None = None
    ) -> list[Answer]:
        """Return the answers of a request's groups.

        Raises:
            QueueFull: If there is no room for them, or the time is over.
            ClientGone: If nobody waits any more; work that was not done is dropped.
        """
        return [answer async for _, answer in self._stream(request, groups, timeout_s, True)]

    async def stream(
        self, request: Request, groups: Sequence[Group], timeout_s: float | None = None
    ) -> AsyncIterator[tuple[int, Answer | Exception]]:
        """Yield index and answer of each group as it is done; its error in place of an answer.

        Raises:
            QueueFull: As :meth:`answers`, before the first is yielded.
        """
        async for item in self._stream(request, groups, timeout_s, False):
            yield item

    async def _stream(
        self,
        request: Request,
        groups: Sequence[Group],
        timeout_s: float | None,
        in_order: bool,
    ) -> AsyncIterator[tuple[int, Any]]:
        """Yield answers; in order they are all there, or an error is raised."""
        end = self.deadline(request, timeout_s)
        self.engine.submit(groups, client_of(request), end)
        futures = [asyncio.wrap_future(group.result) for group in groups]
        number = {future: i for i, future in enumerate(futures)}
        watch = asyncio.create_task(_gone(request))
        waiting: set[asyncio.Future[Any]] = set(futures)
        try:
            while waiting:
                done, _ = await asyncio.wait(
                    {*waiting, watch},
                    timeout=max(0.0, end - time.monotonic()),
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if watch in done:
                    raise ClientGone
                if not done:
                    raise QueueFull(self.engine.queue.expected_wait())
                for future in sorted(done & waiting, key=number.__getitem__):
                    waiting.discard(future)
                    error = future.exception()
                    if error is None:
                        self.metrics.answer(future.result())
                    if in_order and error is not None:
                        raise error
                    if not in_order:
                        yield number[future], error or future.result()
            if in_order:
                for i, future in enumerate(futures):
                    yield i, future.result()
        finally:
            watch.cancel()
            self.engine.drop(groups)
            for future in futures:
                if future.done() and not future.cancelled():
                    future.exception()  # taken note of, whoever gets it
            with suppress(asyncio.CancelledError):
                await watch


async def _gone(request: Request) -> None:
    """Return when the client of a request has gone away."""
    while not await request.is_disconnected():
        await asyncio.sleep(_WATCH)


def service_of(request: Request) -> Service:
    """Return the service of the application that a request came to."""
    found: Service = request.app.state.service
    return found


def client_of(request: Request) -> str:
    """Return who asks: the name of the key, or the address."""
    found: str = request.scope.get("vrm_client", "unknown")
    return found


def note(request: Request, **values: Any) -> None:
    """Add values to the line of a request in the log."""
    request.scope.setdefault("vrm_log", {}).update(values)
