"""The queue: batches by budget and time, shared prompts, fair clients, bounds, dropped work."""

import threading

import numpy as np
import pytest

from vrm_pyro.serve.queue import LONG, SHORT, JobQueue, QueueFull, TooLarge
from vrm_pyro.serve.work import Ask, Group


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


class Tokens:
    """A sequence of some length; equal names are equal texts."""

    prompt_truncated = response_truncated = False

    def __init__(self, name, size):
        self.digest, self.size = name.encode(), size

    def __len__(self):
        return self.size


def group(prompt="p", sizes=(10,), prompt_size=4):
    responses = [Tokens(f"{prompt}-{i}", size) for i, size in enumerate(sizes)]
    return Group(Tokens(prompt, prompt_size), responses, np.arange(len(sizes)), Ask())


def jobs(made, client="a", deadline=1e9):
    return made.jobs(client, deadline)


def queue(clock=None, **settings):
    values = {"batch_tokens": 100, "max_wait": 0.0, "long_tokens": 50, "max_tokens": 1000}
    return JobQueue(**(values | settings), clock=clock or Clock())


def taken(held, lane=SHORT):
    return held.take(lane, timeout=0.0)[0]


def test_a_batch_keeps_its_budget_and_order():
    held = queue()
    for i in range(5):
        held.put(jobs(group(f"p{i}", (40,))))
    found = [[job.key for job in taken(held)] for _ in range(3)]
    assert found == [[b"p0", b"p1"], [b"p2", b"p3"], [b"p4"]]
    assert held.tokens == len(held) == 0
    assert taken(held) == []


def test_it_waits_for_others_until_the_budget_is_full():
    clock = Clock()
    held = queue(clock, max_wait=0.005)
    held.put(jobs(group("p0", (40,))))
    assert taken(held) == []
    clock.now += 0.006
    assert len(taken(held)) == 1
    for i in range(3):
        held.put(jobs(group(f"p{i}", (40,))))
    assert len(taken(held)) == 2  # full: no wait


def test_responses_to_one_prompt_share_it_whoever_asks():
    held = queue()
    held.put(jobs(group("other", (45,)), "b"))
    for i in range(8):
        held.put(jobs(group("same", (48,), prompt_size=40), f"client {i}"))
    # 45 and 48 leave 7: no tail of 8.
    assert [job.key for job in taken(held)] == [b"other", b"same"]
    # 48 + 6 * 8 = 96
    assert [job.key for job in taken(held)] == [b"same"] * 7


def test_without_sharing_each_pays_for_its_prompt():
    held = queue(shares_prompts=False)
    for i in range(8):
        held.put(jobs(group("same", (48,), prompt_size=40), f"client {i}"))
    assert len(taken(held)) == 2


def test_clients_take_turns():
    held = queue()
    held.put(jobs(group("big", (20,) * 30, prompt_size=0), "greedy"))
    held.put(jobs(group("small", (20,)), "modest"))
    first = [job.client for job in taken(held)]
    assert first == ["greedy", "modest", "greedy", "greedy", "greedy"]


def test_clients_with_many_jobs_wait_for_nobody_twice():
    held = queue()
    for i in range(12):
        held.put(jobs(group(f"{i}", (40,)), f"client {i % 3}"))
    turns = [job.client[-1] for _ in range(6) for job in taken(held)]
    assert turns == list("012") * 4


def test_a_batch_has_texts_of_about_one_length_and_the_one_that_waited_longest():
    held = queue(long_tokens=100)
    sizes = (20, 45, 22, 44, 18, 46, 21)
    for i, size in enumerate(sizes):
        held.put(jobs(group(f"{i}", (size,)), f"client {i}"))
    found = [sorted(job.cost for job in taken(held)) for _ in range(3)]
    assert found == [[18, 20, 21, 22], [44, 45], [46]]


def test_a_long_text_has_a_lane_of_its_own():
    held = queue()
    held.put(jobs(group("long", (300,))))
    held.put(jobs(group("short", (10,))))
    assert [job.key for job in taken(held, SHORT)] == [b"short"]
    assert [job.key for job in taken(held, LONG)] == [b"long"]  # above the budget, and alone


def test_what_the_long_lane_has_done_goes_to_the_other():
    held, made = queue(), group()
    held.finish([made])
    assert held.take(LONG, timeout=0.0) == ([], [])
    assert held.take(SHORT, timeout=0.0) == ([], [made])


class TestBounds:
    def test_a_full_queue_says_when_to_come_back(self):
        held = queue()
        held.measured(100, 1.0)
        held.put(jobs(group("p0", (45,) * 20)))
        with pytest.raises(QueueFull) as caught:
            held.put(jobs(group("p1", (45,) * 3)))
        assert caught.value.seconds == pytest.approx(9.0)

    def test_a_greedy_client_leaves_room_for_others(self):
        held = queue()
        held.put(jobs(group("p0", (45,) * 20), "greedy"))
        with pytest.raises(QueueFull):
            held.put(jobs(group("p1", (45,) * 3), "greedy"))
        held.put(jobs(group("p1", (45,) * 3), "modest"))
        assert held.tokens == 23 * 45

    def test_what_never_fits_is_said(self):
        with pytest.raises(TooLarge, match="--max_queue_tokens"):
            queue().put(jobs(group("p0", (45,) * 30)))

    def test_what_would_be_late_is_refused_at_once(self):
        clock = Clock()
        held = queue(clock)
        held.measured(100, 1.0)
        held.put(jobs(group("p0", (45,) * 10)))
        with pytest.raises(QueueFull):
            held.put(jobs(group("p1"), deadline=clock.now + 2))
        held.put(jobs(group("p1"), deadline=clock.now + 10))

    def test_the_batch_at_work_and_the_own_one_count_too(self):
        clock = Clock()
        held = queue(clock)
        held.measured(100, 1.0)  # a batch takes 1.1 s at most
        for i in range(4):
            held.put(jobs(group(f"p{i}", (45,))))
        assert len(taken(held)) == 2
        with pytest.raises(QueueFull):  # in the third batch
            held.put(jobs(group("late"), deadline=clock.now + 2.0))
        held.put(jobs(group("in time"), deadline=clock.now + 2.2))
        assert len(taken(held)) == 3

    def test_a_closed_queue_hands_out_what_it_has(self):
        held = queue(max_wait=10.0)
        held.put(jobs(group()))
        held.close()
        with pytest.raises(QueueFull):
            held.put(jobs(group()))
        assert len(taken(held)) == 1
        assert held.take(SHORT) == ([], [])


def test_dropped_work_is_gone():
    held, kept, gone = queue(), group("kept"), group("gone", (10, 20, 30))
    held.put(jobs(kept))
    held.put(jobs(gone, "b"))
    held.drop([gone])
    assert held.tokens == 10
    assert [job.group for job in taken(held)] == [kept]
    assert held.tokens == 0


def test_a_thread_is_woken():
    held, found = JobQueue(100, 0.0, 50, 1000), []
    thread = threading.Thread(target=lambda: found.extend(held.take(SHORT)[0]))
    thread.start()
    held.put(jobs(group()))
    thread.join(5)
    assert len(found) == 1


def test_any_order_of_puts_takes_and_drops_keeps_count():
    rng = np.random.default_rng(0)
    held, waiting = queue(max_tokens=10**6), []
    for step in range(400):
        action = rng.integers(4)
        if action < 2:
            made = group(f"p{rng.integers(6)}", tuple(rng.integers(1, 80, rng.integers(1, 6))))
            held.put(jobs(made, f"client {rng.integers(3)}"))
            waiting.append(made)
        elif action == 2 and waiting:
            held.drop([waiting.pop(rng.integers(len(waiting)))])
        else:
            taken(held, step % 2)
        left = [job for lane in held._lanes for part in lane.prompts.values() for job in part]
        assert held.tokens == sum(job.cost for job in left)
        assert held.tokens == sum(held._by_client.values())
        assert all(job.queued and not job.group.dropped for job in left)
    while held.tokens:
        assert taken(held) or taken(held, LONG)
    assert not held._by_client
