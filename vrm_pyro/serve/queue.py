"""The queue of the server: bounded, fair between clients, and batches that share prompts."""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from vrm_pyro.serve.work import Group, Job

SHORT, LONG = 0, 1
"""Lanes: a long text is computed beside the others, so that these need not wait for it."""

# How much longer than expected a batch may take.
_CAUTION = 1.1
# Batches' worth of turns among which texts of one length are looked for.
_LOOK_AHEAD = 4


class QueueFull(Exception):
    """No room for a request.

    Args:
        seconds: When there may be room again.
    """

    def __init__(self, seconds: float) -> None:
        super().__init__(f"the queue is full; room is expected in {seconds:.1f} s")
        self.seconds = seconds


class TooLarge(Exception):
    """A request that never fits into the queue."""


@dataclass
class _Lane:
    """Jobs of one lane by client, in order of arrival, and by prompt."""

    clients: "OrderedDict[str, deque[Job]]" = field(default_factory=OrderedDict)
    prompts: dict[bytes, dict[Job, None]] = field(default_factory=dict)
    tokens: int = 0


class JobQueue:
    """Jobs that wait, for threads that compute them in batches.

    A batch has a job of each client first, beginning with the one whose last turn is longest ago;
    where not all fit, those follow whose texts are about as long, as a batch is padded. Then it
    takes those that wait for the same prompts, whoever asked, as far as the budget allows: they
    cost the tokens of their responses alone.

    Args:
        batch_tokens: Most tokens in a batch; a longer text is a batch of its own.
        max_wait: Seconds that the first job of a batch waits for others.
        long_tokens: Texts with more tokens go to the lane of long ones.
        max_tokens: Most tokens that wait.
        shares_prompts: Whether jobs of one prompt share its tokens.
        clock: Time in seconds.
    """

    def __init__(
        self,
        batch_tokens: int,
        max_wait: float,
        long_tokens: int,
        max_tokens: int,
        shares_prompts: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.batch_tokens, self.max_wait, self.long_tokens = batch_tokens, max_wait, long_tokens
        self.max_tokens, self.shares_prompts, self._clock = max_tokens, shares_prompts, clock
        self._lanes = (_Lane(), _Lane())
        self._by_client: dict[str, int] = {}
        self._finished: list[Group] = []
        self._changed = threading.Condition()
        self._closed = False
        self.tokens_per_second = 0.0
        self._busy_until = [0.0, 0.0]  # when the batch of each lane should be done

    @property
    def tokens(self) -> int:
        """Tokens that wait."""
        return sum(lane.tokens for lane in self._lanes)

    def __len__(self) -> int:
        """Return how many jobs wait."""
        with self._changed:
            return sum(len(same) for lane in self._lanes for same in lane.prompts.values())

    def expected_wait(self) -> float:
        """Return in how many seconds what waits now should be done; at least one."""
        rate = self.tokens_per_second
        return max(1.0, self.tokens / rate if rate else 1.0)

    def put(self, jobs: Sequence[Job]) -> None:
        """Add the jobs of one request, all or none.

        A client that asks for more than its share cannot close the queue to others: each may have
        its share of the room, whatever the rest have.

        Raises:
            TooLarge: If they never fit.
            QueueFull: If there is no room now, or they would not be done before their deadline.
        """
        if not jobs:
            return
        size = sum(job.cost for job in jobs)
        if size > self.max_tokens:
            raise TooLarge(
                f"the request has {size} tokens; the queue takes {self.max_tokens}. Send it in "
                "several requests, or start the server with a larger --max_queue_tokens."
            )
        client, now = jobs[0].client, self._clock()
        with self._changed:
            held = self._by_client.get(client, 0)
            share = self.max_tokens / max(2, len(self._by_client) + (held == 0))
            done = self._expected_end(size, self.lane_of(jobs[0]), now)
            full = self.tokens and self.tokens + size > self.max_tokens and held + size > share
            # A client without waiting jobs has its turn in the next batch, however long the queue.
            late = held and done > jobs[0].deadline
            if full or late or self._closed:
                raise QueueFull(self.expected_wait())
            self._by_client[client] = held + size
            for job in jobs:
                job.arrival, job.queued = now, True
                lane = self._lanes[self.lane_of(job)]
                lane.clients.setdefault(client, deque()).append(job)
                lane.prompts.setdefault(job.key, {})[job] = None
                lane.tokens += job.cost
            self._changed.notify_all()

    def lane_of(self, job: Job) -> int:
        """Return the lane of a job."""
        return LONG if job.cost > self.long_tokens else SHORT

    def drop(self, groups: Sequence[Group]) -> None:
        """Forget groups that nobody waits for; what is computed of them already is lost."""
        with self._changed:
            for group in groups:
                group.dropped = True
                for job in group.made:
                    if job.queued:
                        self._take(self._lanes[self.lane_of(job)], job)

    def take(self, lane: int, timeout: float | None = None) -> tuple[list[Job], list[Group]]:
        """Return the next batch of a lane; wait for one.

        Returns:
            Jobs, and groups that the lane of long texts has finished (for the other lane). Both
            are empty once the queue is closed and nothing waits, or after the timeout.
        """
        held, end = self._lanes[lane], None if timeout is None else self._clock() + timeout
        with self._changed:
            self._busy_until[lane] = 0.0
            while True:
                finished = self._taken_finished(lane)
                ready = held.tokens and (self._closed or self._is_due(held))
                if ready or finished:
                    jobs = self._batch(held) if ready else []
                    self._started(lane, sum(job.cost for job in jobs))
                    return jobs, finished
                if self._closed or (end is not None and self._clock() >= end):
                    return [], []
                self._changed.wait(self._pause(held, end))

    def finish(self, groups: Sequence[Group]) -> None:
        """Hand over groups with all their states from the lane of long texts."""
        with self._changed:
            self._finished.extend(groups)
            self._changed.notify_all()

    def measured(self, tokens: int, seconds: float) -> None:
        """Note how fast a batch was; expected waits follow from it."""
        rate = tokens / max(seconds, 1e-6)
        before = self.tokens_per_second
        self.tokens_per_second = rate if not before else 0.8 * before + 0.2 * rate

    def _expected_end(self, tokens: int, lane: int, now: float) -> float:
        """Return when a request of so many tokens should be done if it is queued now.

        The batch at work comes first, then whole batches: others may fill the last one. What
        would be done just too late would take the time of what can be done in time.
        """
        if not self.tokens_per_second:
            return now
        batches = -(-(self.tokens + tokens) // self.batch_tokens)
        seconds = _CAUTION * batches * self.batch_tokens / self.tokens_per_second
        return max(now, self._busy_until[lane]) + seconds

    def _started(self, lane: int, tokens: int) -> None:
        rate = self.tokens_per_second
        self._busy_until[lane] = self._clock() + (_CAUTION * tokens / rate if rate else 0.0)

    def close(self) -> None:
        """Accept no more jobs; what waits is still handed out, at once."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _taken_finished(self, lane: int) -> list[Group]:
        if lane == LONG:
            return []
        found, self._finished = self._finished, []
        return found

    def _is_due(self, lane: _Lane) -> bool:
        oldest = min(jobs[0].arrival for jobs in lane.clients.values() if jobs)
        return lane.tokens >= self.batch_tokens or self._clock() - oldest >= self.max_wait

    def _pause(self, lane: _Lane, end: float | None) -> float | None:
        now, times = self._clock(), [] if end is None else [end]
        if lane.tokens:
            oldest = min(jobs[0].arrival for jobs in lane.clients.values() if jobs)
            times.append(oldest + self.max_wait)
        return max(0.0, min(times) - now) if times else None

    def _batch(self, lane: _Lane) -> list[Job]:
        """Take a job of each client, then those of the same prompts, then further ones in turn."""
        batch: list[Job] = []
        prompts: set[bytes] = set()
        room = self.batch_tokens

        def take(job: Job) -> bool:
            nonlocal room
            cost = self._added(job, prompts)
            if batch and cost > room:
                return False
            room -= cost
            prompts.add(job.key)
            self._take(lane, job)
            batch.append(job)
            return True

        def take_of(client: str) -> bool:
            if not take(lane.clients[client][0]):
                return False
            if client in lane.clients:
                lane.clients.move_to_end(client)
            return True

        waiting = {client for client in self._turns(lane) if not take_of(client)}
        todo = set(prompts)
        while room > 0:
            for key in todo:
                for job in list(lane.prompts.get(key, ())):
                    take(job)
            todo = set()
            client = next((name for name in lane.clients if name not in waiting), None)
            if client is None:
                break
            key = lane.clients[client][0].key
            if take_of(client):
                todo = {key}
            else:
                waiting.add(client)
        return batch

    def _turns(self, lane: _Lane) -> list[str]:
        """Return the clients whose turns are next: the first, then those with texts as long."""
        turns: list[str] = []
        tokens = 0
        for client, jobs in lane.clients.items():
            if tokens > _LOOK_AHEAD * self.batch_tokens:
                break
            turns.append(client)
            tokens += jobs[0].cost
        first = lane.clients[turns[0]][0].cost
        return sorted(turns, key=lambda client: abs(lane.clients[client][0].cost - first))

    def _added(self, job: Job, prompts: set[bytes]) -> int:
        """Return the tokens that a job adds to a batch."""
        if job.key not in prompts:
            return job.cost
        return job.tail if self.shares_prompts else job.cost

    def _take(self, lane: _Lane, job: Job) -> None:
        """Remove a job from all lists."""
        job.queued = False
        lane.tokens -= job.cost
        left = self._by_client[job.client] - job.cost
        if left:
            self._by_client[job.client] = left
        else:
            del self._by_client[job.client]
        same = lane.prompts[job.key]
        del same[job]
        if not same:
            del lane.prompts[job.key]
        jobs = lane.clients[job.client]
        while jobs and not jobs[0].queued:
            jobs.popleft()
        if not jobs:
            del lane.clients[job.client]
