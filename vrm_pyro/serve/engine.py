"""The threads of the server that compute: batches of states, then answers."""

import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import InvalidStateError
from contextlib import suppress
from typing import Final

import numpy as np

from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.answers import answer_groups
from vrm_pyro.serve.queue import LONG, SHORT, JobQueue
from vrm_pyro.serve.settings import ServeSettings
from vrm_pyro.serve.work import Group, Job

log = logging.getLogger(__name__)

# How much less of a busy CPU the thread of long texts gets.
_NICE: Final = 10
_QUEUE_BATCHES: Final = 64
_LONG_SHARE: Final = 4


class Engine:
    """Computes the jobs of a queue in two threads: one for long texts, one for all others.

    The thread of long texts gives way to the other on a CPU, and hands its states over: answers
    are made in one thread only.

    Args:
        scorer: The model.
        settings: Settings of the server.
        on_batch: Called after each batch with the number of its jobs, its tokens and its seconds.
    """

    def __init__(
        self,
        scorer: Scorer,
        settings: ServeSettings,
        on_batch: Callable[[int, int, float], None] = lambda jobs, tokens, seconds: None,
    ) -> None:
        self.scorer, self._on_batch = scorer, on_batch
        backbone = scorer.backbone
        batch = settings.batch_tokens or max(backbone.token_budget, 256)
        self.queue = JobQueue(
            batch,
            settings.max_wait_ms / 1000,
            settings.long_tokens or max(1, batch // _LONG_SHARE),
            settings.max_queue_tokens or _QUEUE_BATCHES * batch,
            backbone.shares_prompts,
        )
        self._threads = [
            threading.Thread(target=self._run, args=(lane,), name=name, daemon=True)
            for lane, name in ((SHORT, "vrm-batches"), (LONG, "vrm-long-texts"))
        ]

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether both threads run."""
        return all(thread.is_alive() for thread in self._threads)

    def submit(self, groups: Sequence[Group], client: str, deadline: float) -> None:
        """Queue the groups of one request, all or none.

        Args:
            groups: The groups; each gets its result.
            client: Who asks.
            deadline: Time after which no answer is needed, of ``time.monotonic``.

        Raises:
            QueueFull: If there is no room now.
            TooLarge: If there never is.
        """
        jobs = [job for group in groups for job in group.jobs(client, deadline)]
        self.queue.put(jobs)
        for group in groups:
            if not group.responses and group.result.set_running_or_notify_cancel():
                nothing = [None] * len(group.place)
                group.result.set_result({"prompt_tokens": 0, "responses": nothing})

    def drop(self, groups: Iterable[Group]) -> None:
        """Forget groups that nobody waits for."""
        left = [group for group in groups if not group.result.done()]
        for group in left:
            group.result.cancel()
        self.queue.drop(left)

    def stop(self, timeout: float | None = None) -> None:
        """Finish what waits, then end the threads."""
        self.queue.close()
        for thread in reversed(self._threads):  # long texts first: the other makes their answers
            if thread.is_alive():
                thread.join(timeout)

    def _run(self, lane: int) -> None:
        on_cpu = self.scorer.backbone.device.type == "cpu"
        if lane == LONG and on_cpu and sys.platform == "linux":
            # Of this thread alone; on other systems it would be of the whole process.
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
        while True:
            # Asked before the queue is: what the other thread hands over last must not be missed.
            alone = lane == LONG or not self._threads[LONG].is_alive()
            jobs, finished = self.queue.take(lane)
            if not jobs and not finished:
                if alone:
                    return
                time.sleep(0.01)  # closed; the other thread still has a text
                continue
            try:
                finished = [*finished, *self._compute(jobs)]
                if lane == LONG:
                    self.queue.finish(finished)
                else:
                    answer_groups(self.scorer, finished)
            except Exception as error:
                log.exception("a batch failed")
                for group in {*finished, *(job.group for job in jobs)}:
                    with suppress(InvalidStateError):  # answered, or dropped meanwhile
                        group.result.set_exception(error)

    def _compute(self, jobs: Sequence[Job]) -> list[Group]:
        """Compute the states of a batch; return the groups that are complete with them."""
        jobs = [job for job in jobs if not job.group.dropped]
        if not jobs:
            return []
        start = time.perf_counter()
        prompts = {job.key: job.prompt for job in jobs}
        place = {key: i for i, key in enumerate(prompts)}
        unique: dict[tuple[bytes, bytes], int] = {}
        for job in jobs:
            unique.setdefault((job.key, job.response.digest), len(unique))
        first = {(job.key, job.response.digest): job.response for job in reversed(jobs)}
        owner = np.array([place[key] for key, _ in unique], dtype=np.int64)
        backbone = self.scorer.backbone
        prompt_states, states = backbone.pair_states(
            list(prompts.values()), [first[both] for both in unique], owner
        )
        finished = []
        for job in jobs:
            group = job.group
            group.prompt_state = prompt_states[place[job.key]]
            group.states[job.index] = states[unique[job.key, job.response.digest]]
            group.missing -= 1
            if not group.missing and not group.dropped:
                finished.append(group)
        tokens = _tokens(jobs, backbone.shares_prompts)
        seconds = time.perf_counter() - start
        self.queue.measured(tokens, seconds)
        self._on_batch(len(jobs), tokens, seconds)
        return finished


def _tokens(jobs: Sequence[Job], shares: bool) -> int:
    """Return the tokens that a batch computes."""
    if not shares:
        return sum(job.cost for job in jobs)
    first: dict[bytes, Job] = {}
    for job in jobs:
        first.setdefault(job.key, job)
    return sum(len(job.prompt) for job in first.values()) + sum(job.tail for job in jobs)
