"""Metrics of the server in the format of Prometheus."""

import math
import statistics
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

_SECONDS: Final = (
    0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60, math.inf,
)  # fmt: skip
_SHARES: Final = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, math.inf)
# Rewards behind their mean and standard deviation.
_RECENT: Final = 10_000


class Metrics:
    """Counters, gauges and histograms of one server.

    Args:
        batch_tokens: Most tokens in a batch.
        queue_tokens: Returns how many tokens wait.
    """

    def __init__(self, batch_tokens: int, queue_tokens: Callable[[], int]) -> None:
        self.registry = CollectorRegistry()
        self._batch_tokens = batch_tokens
        self._rewards: deque[float] = deque(maxlen=_RECENT)
        known: dict[str, Any] = {"registry": self.registry}
        self._requests = Counter(
            "vrm_requests", "Requests by route and status.", ["route", "status"], **known
        )
        self._latency = Histogram(
            "vrm_request_seconds",
            "Time from request to answer.",
            ["route"],
            buckets=_SECONDS,
            **known,
        )
        self._batch_seconds = Histogram(
            "vrm_batch_seconds", "Time of a batch.", buckets=_SECONDS, **known
        )
        self._fill = Histogram(
            "vrm_batch_fill",
            "Tokens of a batch as a share of batch_tokens.",
            buckets=_SHARES,
            **known,
        )
        self._batch_jobs = Histogram(
            "vrm_batch_responses",
            "Responses in a batch.",
            buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, math.inf),
            **known,
        )
        self._tokens = Counter(
            "vrm_tokens", "Tokens computed; its rate is the throughput.", **known
        )
        self._responses = Counter("vrm_responses", "Responses scored.", **known)
        self._overlong = Counter(
            "vrm_overlong_responses", "Responses too long for the model: cut or refused.", **known
        )
        for name, text, value in (
            ("vrm_queue_tokens", "Tokens that wait.", lambda: float(queue_tokens())),
            ("vrm_reward_mean", "Mean of the last 10,000 rewards.", self._mean),
            ("vrm_reward_sd", "Standard deviation of the last 10,000 rewards.", self._sd),
        ):
            Gauge(name, text, **known).set_function(value)

    def text(self) -> bytes:
        """Return all metrics as text."""
        return generate_latest(self.registry)

    def request(self, route: str, status: int, seconds: float) -> None:
        """Note one request."""
        self._requests.labels(route, str(status)).inc()
        self._latency.labels(route).observe(seconds)

    def batch(self, jobs: int, tokens: int, seconds: float) -> None:
        """Note one batch."""
        self._batch_seconds.observe(seconds)
        self._batch_jobs.observe(jobs)
        self._fill.observe(tokens / self._batch_tokens)
        self._tokens.inc(tokens)

    def answer(self, answer: dict[str, Any]) -> None:
        """Note the rewards of one group's answer."""
        found = [response for response in answer["responses"] if response is not None]
        self._responses.inc(len(found))
        self._overlong.inc(sum(response["truncated"] for response in found))
        self._rewards.extend(r["mean"] for r in found if "mean" in r)

    def refused_overlong(self, number: int = 1) -> None:
        """Note responses that were refused because of their length."""
        self._overlong.inc(number)

    def _mean(self) -> float:
        values = list(self._rewards)
        return statistics.fmean(values) if values else math.nan

    def _sd(self) -> float:
        values = list(self._rewards)
        return statistics.pstdev(values) if values else math.nan
