"""Rewards of a model that ``vrm-pyro serve`` serves."""

import asyncio
import json
import os
import random
import threading
import time
import weakref
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import httpx2
import numpy as np

from vrm_pyro.data.turns import Answer, answer_turn
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.assessment import Assessment, Text, check_numbers, warn_alone
from vrm_pyro.integrations.rl.conversations import completion_text, prompt_messages
from vrm_pyro.integrations.rl.settings import RewardSettings

API_KEY: Final = "VRM_PYRO_API_KEY"
"""Environment variable with the key, where the settings have none."""

_AGAIN: Final = (408, 429, 502, 503, 504)
_FAULT: Final = b"internal_error"  # what our own server calls a 500, which would come again
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 15.0
_CONNECT_SECONDS: Final = 10.0
# Responses in a request; groups stay whole.
_RESPONSES: Final = 512


class RewardClient:
    """A pool of connections to a server, for threads and for event loops.

    A request is sent again, after a growing pause, while the server cannot be reached, is
    overloaded or stops, until the time is over. Answers depend on the request alone, so asking
    twice does no harm.

    Args:
        url: Address of the server, such as ``http://host:8000``.
        api_key: Key of the server; that of the environment variable ``VRM_PYRO_API_KEY`` if None.
        timeout: Seconds for one call, all its attempts included.
    """

    def __init__(self, url: str, api_key: str | None = None, timeout: float = 180.0) -> None:
        self.url, self._timeout = url.rstrip("/"), timeout
        key = api_key or os.environ.get(API_KEY)
        self._settings: dict[str, Any] = {
            "base_url": self.url,
            "headers": {} if not key else {"Authorization": f"Bearer {key}"},
            "limits": httpx2.Limits(max_connections=64, max_keepalive_connections=16),
        }
        self._lock = threading.Lock()
        self._client: httpx2.Client | None = None
        self._by_loop: weakref.WeakKeyDictionary[Any, httpx2.AsyncClient] = (
            weakref.WeakKeyDictionary()
        )

    def post(self, route: str, body: Mapping[str, Any]) -> Any:
        """Return the reply to a request, as JSON.

        Raises:
            InputError: If the server refuses it for what it holds, or for its key.
            ConnectionError: If there is no answer in time.
        """
        with self._lock:
            if self._client is None:
                self._client = httpx2.Client(**self._settings)
                weakref.finalize(self, self._client.close)
            client = self._client
        content, attempts = _encoded(body), _Attempts(self.url, self._timeout)
        while True:
            try:
                reply = client.post(route, **content, timeout=attempts.limits())
            except httpx2.TransportError as error:
                pause = attempts.pause(error)
            else:
                if not _is_temporary(reply):
                    return _read(self.url, reply)
                pause = attempts.pause(reply)
            time.sleep(pause)

    async def post_async(self, route: str, body: Mapping[str, Any]) -> Any:
        """Return the reply to a request, as :meth:`post`, without holding up the event loop."""
        loop = asyncio.get_running_loop()
        client = self._by_loop.get(loop)
        if client is None:
            client = self._by_loop[loop] = httpx2.AsyncClient(**self._settings)
        content, attempts = _encoded(body), _Attempts(self.url, self._timeout)
        while True:
            try:
                reply = await client.post(route, **content, timeout=attempts.limits())
            except httpx2.TransportError as error:
                pause = attempts.pause(error)
            else:
                if not _is_temporary(reply):
                    return _read(self.url, reply)
                pause = attempts.pause(reply)
            await asyncio.sleep(pause)

    async def close_async(self) -> None:
        """Close the connections of the running event loop; the next call opens new ones.

        Those of threads are closed with this object.
        """
        client = self._by_loop.pop(asyncio.get_running_loop(), None)
        if client is not None:
            await client.aclose()


class _Attempts:
    """The time of one call, and the pauses between its attempts."""

    def __init__(self, url: str, timeout: float) -> None:
        self._url, self._timeout = url, timeout
        self._end = time.monotonic() + timeout
        self._next = _FIRST_PAUSE

    def limits(self) -> httpx2.Timeout:
        """Return the time that is left for an attempt."""
        left = max(0.01, self._end - time.monotonic())
        return httpx2.Timeout(left, connect=min(left, _CONNECT_SECONDS))

    def pause(self, reason: httpx2.Response | Exception) -> float:
        """Return the seconds until the next attempt.

        Raises:
            ConnectionError: If there is no time for one.
        """
        given = 0.0
        if isinstance(reason, httpx2.Response):
            text = reason.headers.get("retry-after", "")
            given = float(text) if text.isdigit() else 0.0
        # Many clients that were refused at once must not come back at once.
        pause = max(min(given, _LONGEST_PAUSE), self._next) * random.uniform(0.5, 1.0)
        self._next = min(2 * self._next, _LONGEST_PAUSE)
        if time.monotonic() + pause >= self._end:
            said = (
                f"it answers {reason.status_code}"
                if isinstance(reason, httpx2.Response)
                else f"{type(reason).__name__}: {reason}"
            )
            raise ConnectionError(
                f"{self._url}: no answer in {self._timeout:g} s ({said}). Is the server running "
                "(vrm-pyro serve)? If it needs longer, give a larger timeout."
            )
        return pause


def _is_temporary(reply: httpx2.Response) -> bool:
    """Whether to ask again; a proxy answers 500 when the server behind it dies."""
    if reply.status_code == 500:
        return _FAULT not in reply.content
    return reply.status_code in _AGAIN


def _encoded(body: Mapping[str, Any]) -> dict[str, Any]:
    content = json.dumps(body, ensure_ascii=True, allow_nan=False).encode("ascii")
    return {"content": content, "headers": {"Content-Type": "application/json"}}


def _read(url: str, reply: httpx2.Response) -> Any:
    try:
        found = reply.json()
    except ValueError as error:
        raise InputError(
            f"{url}: the reply is no JSON (status {reply.status_code}), so this is no server of "
            "vrm-pyro serve. Give its address, such as http://host:8000."
        ) from error
    if reply.status_code == 200:
        return found
    message = found.get("error", {}).get("message") if isinstance(found, dict) else None
    key = f" Set api_key, or the variable {API_KEY}." if reply.status_code == 401 else ""
    raise InputError(f"{url}: {message or f'status {reply.status_code}'}{key}")


class _Call:
    """The completions of one call, by prompt: what is sent, and what comes back."""

    def __init__(
        self,
        settings: RewardSettings,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        step: int,
    ) -> None:
        check_numbers(prompts, completions)
        self._settings, self._step, self._size = settings, step, len(completions)
        self._items: list[dict[str, Any]] = []
        self._places: list[list[int]] = []
        known: dict[str, int] = {}
        for i, (prompt, completion) in enumerate(zip(prompts, completions, strict=True)):
            messages = prompt_messages(prompt)
            text = completion_text(completion)
            n = known.setdefault(json.dumps(messages, sort_keys=True), len(known))
            if n == len(self._items):
                self._items.append({"prompt": messages, "responses": []})
                self._places.append([])
            sent = answer_turn(text) if isinstance(text, Answer) else text
            self._items[n]["responses"].append(sent)
            self._places[n].append(i)

    def bodies(self) -> Iterator[dict[str, Any]]:
        """Yield requests that hold whole groups."""
        part: list[dict[str, Any]] = []
        for item in self._items:
            if part and sum(len(i["responses"]) for i in [*part, item]) > _RESPONSES:
                yield self._body(part)
                part = []
            part.append(item)
        if part:
            yield self._body(part)

    def _body(self, items: list[dict[str, Any]]) -> dict[str, Any]:
        held = self._settings
        return {
            "items": items,
            "ask": ["mean", "sd", "weights", "reward"],
            "aggregation": held.aggregation,
            "k": held.k,
            "level": held.level,
            "seed": held.seed,
            "step": self._step,
            "truncate": True,
            "allow_empty": True,
        }

    def assessment(self, replies: Sequence[Mapping[str, Any]]) -> Assessment:
        """Return what the server's replies say, in the order of the completions."""
        objectives = tuple(replies[0]["objectives"]) if replies else ()
        rewards: list[float | None] = [self._settings.empty_reward] * self._size
        sd: list[float | None] = [None] * self._size
        group_sd: list[float | None] = [None] * self._size
        weights = np.full((self._size, len(objectives)), np.nan)
        results = [result for reply in replies for result in reply["results"]]
        for result, places in zip(results, self._places, strict=True):
            for i, response in zip(places, result["responses"], strict=True):
                if response is None:
                    continue
                rewards[i], sd[i] = response["reward"], response["sd"]
                group_sd[i] = response["group_sd"]
                if result["weights"] is not None:
                    weights[i] = [result["weights"][name] for name in objectives]
        sizes = [sum(r is not None for r in result["responses"]) for result in results]
        warn_alone([size for size in sizes if size], self._settings)
        has_weights = len(objectives) > 1 and not np.isnan(weights).all()
        return Assessment(rewards, sd, group_sd, weights if has_weights else None, objectives)


def assess_remotely(
    client: RewardClient,
    settings: RewardSettings,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    step: int = 0,
) -> Assessment:
    """Return what :func:`vrm_pyro.integrations.rl.assessment.assess` does, from a server.

    Raises:
        InputError: As there; or if the server refuses the request.
        ConnectionError: If there is no answer in time.
    """
    call = _Call(settings, prompts, completions, step)
    return call.assessment([client.post("/score", body) for body in call.bodies()])


async def assess_remotely_async(
    client: RewardClient,
    settings: RewardSettings,
    prompts: Sequence[Text],
    completions: Sequence[Text],
    step: int = 0,
) -> Assessment:
    """Return what :func:`assess_remotely` does, in an event loop."""
    call = _Call(settings, prompts, completions, step)
    replies = [client.post_async("/score", body) for body in call.bodies()]
    return call.assessment(await asyncio.gather(*replies))
