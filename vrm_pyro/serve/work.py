"""Work of the server: a prompt with the responses of one request, divided into jobs."""

import itertools
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone.messages import Messages

_numbers = itertools.count()


@dataclass(frozen=True)
class Ask:
    """What is wanted of a group of responses.

    Args:
        fields: Names of :data:`vrm_pyro.serve.schemas.Wanted`.
        k: Standard deviations that a lower bound subtracts.
        level: Level of the aggregation ``quantile``.
        levels: Levels of the quantiles of the reward.
        aggregation: How ``reward`` is made of the distribution, see
            :class:`vrm_pyro.integrations.rl.RewardSettings`.
        seed: Seed of ``thompson``, and of an explanation.
        step: Step of ``thompson``.
        num_draws: Draws behind an explanation.
        interval: Probability that an explanation's intervals cover.
    """

    fields: frozenset[str] = frozenset({"mean", "sd"})
    k: float = 1.0
    level: float = 0.1
    levels: tuple[float, ...] = ()
    aggregation: str = "mean"
    seed: int = 0
    step: int = 0
    num_draws: int = 1000
    interval: float = 0.9


@dataclass(eq=False)
class Group:
    """A prompt with the responses of one request, and where its answer goes.

    Args:
        prompt: The prompt as the backbone reads it.
        responses: Its different responses, likewise.
        place: Index into ``responses`` of each response asked for; -1 for one without text.
        ask: What is wanted.
        messages: The prompt as messages; None where it came as token ids.
        texts: The different responses as texts; empty where they came as token ids.
        result: Gets the answer.
        dropped: Whether nobody waits for the answer any more.
    """

    prompt: Any
    responses: Sequence[Any]
    place: NDArray[np.int64]
    ask: Ask
    messages: Messages | None = None
    texts: Sequence[str] = ()
    result: "Future[dict[str, Any]]" = field(default_factory=Future)
    dropped: bool = False

    def __post_init__(self) -> None:
        self.number = next(_numbers)
        self.prompt_state: NDArray[np.float32] | None = None
        self.states: list[NDArray[np.float32] | None] = [None] * len(self.responses)
        self.missing = len(self.responses)
        self.made: list[Job] = []

    @property
    def counts(self) -> NDArray[np.int64]:
        """How often each different response is asked for."""
        return np.bincount(self.place[self.place >= 0], minlength=len(self.responses))

    @property
    def tokens(self) -> int:
        """Tokens of all sequences of prompt and response."""
        return sum(len(response) for response in self.responses)

    @property
    def truncated(self) -> list[bool]:
        """Whether each different response, or its prompt, was cut."""
        return [r.prompt_truncated or r.response_truncated for r in self.responses]

    def known_states(self) -> list[NDArray[np.float32]]:
        """Return the states of the prompt and of its responses, all computed."""
        found = [self.prompt_state, *self.states]
        assert all(state is not None for state in found)
        return [state for state in found if state is not None]

    def jobs(self, client: str, deadline: float) -> "list[Job]":
        """Return a job for each different response.

        Args:
            client: Who asked.
            deadline: Time after which no answer is needed, of ``time.monotonic``.
        """
        self.made = [Job(self, i, client, deadline) for i in range(len(self.responses))]
        return self.made


@dataclass(eq=False)
class Job:
    """One response of a group, which waits for its state.

    Args:
        group: The group.
        index: Which of its responses.
        client: Who asked.
        deadline: Time after which no answer is needed, of ``time.monotonic``.
    """

    group: Group
    index: int
    client: str
    deadline: float

    def __post_init__(self) -> None:
        self.prompt, self.response = self.group.prompt, self.group.responses[self.index]
        self.cost = len(self.response)
        self.key: bytes = self.prompt.digest
        self.queued = False
        self.arrival = 0.0

    @property
    def tail(self) -> int:
        """Tokens that the response adds to a batch that has its prompt already."""
        return max(1, self.cost - len(self.prompt))
