"""Reward function of a trained model for RL trainers."""

import asyncio
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

import torch

from vrm_pyro.backbone.messages import Messages, conversation
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl.assessment import Assessment, Text, assess
from vrm_pyro.integrations.rl.remote import (
    RewardClient,
    assess_remotely,
    assess_remotely_async,
)
from vrm_pyro.integrations.rl.settings import RewardSettings, settings_from_environment
from vrm_pyro.prediction.scorer import Scorer


class VRMReward:
    """A reward function for TRL's GRPO, RLOO, OnlineDPO and AsyncGRPO trainers.

    ``GRPOTrainer(reward_funcs=VRMReward("runs/model"), ...)``. It reads text or messages with the
    reward model's tokenizer; the policy may use another. An instance holds only path and
    settings, and loads the model on its first call, so it can be pickled into other processes.
    It is thread-safe: calls run one at a time. It does not use the global random state, and
    training mode does not matter.

    Trainers subtract the mean of a group (and may divide by its spread), so a reward that all
    completions of a prompt share has no effect. ``lower_bound`` and ``quantile`` therefore use
    the reward relative to the group: r_i minus the mean over the completions of the same prompt
    *in this call*, under their joint distribution. The level of rewards, which preferences do
    not identify, cancels. Keep whole groups on one process (a per-device generation batch that
    ``num_generations`` divides); a single completion has no relative spread.

    ``thompson`` scores each step with one joint draw: parameters shared by all (with a Bayesian
    head), w shared by all completions of a prompt, z drawn for each text. The draw depends only
    on seed, step and texts, so all ranks agree on it, and equal completions get equal rewards.
    The step is ``trainer_state.global_step``; without it, the number of previous calls, which is
    not pickled.

    >>> reward = VRMReward("runs/model", aggregation="lower_bound", k=2.0)  # nothing is loaded yet
    >>> reward.settings.aggregation, reward.settings.k
    ('lower_bound', 2.0)

    ``VRMReward("http://host:8000", ...)`` is the same with a model that ``vrm-pyro serve`` serves:
    groups stay whole, connections are kept, and a request is repeated until the server answers or
    ``timeout`` is over. Calls of several threads then run at once.

    A completion without text gets ``empty_reward``. The default None means "not scored": GRPO
    and RLOO leave it out of the group's baseline and give it no advantage. OnlineDPO counts None
    as 0, so give a number there.

    Args:
        model_dir: Folder that ``vrm-pyro train`` wrote, or the address of a server.
        aggregation: ``mean``, ``lower_bound``, ``quantile`` or ``thompson``.
        k: Number of standard deviations that ``lower_bound`` subtracts.
        level: Level of ``quantile``.
        name: Name of this reward in logs.
        classes: A user's own prior, guide or likelihood classes.
        **settings: ``seed``, ``empty_reward``, ``token_budget``, ``device``, ``dtype``, and for a
            server ``api_key`` and ``timeout``, as :class:`RewardSettings` describes them.

    Raises:
        InputError: If a setting is out of range.
    """

    def __init__(
        self,
        model_dir: str | os.PathLike[str],
        aggregation: str = "mean",
        k: float = 1.0,
        level: float = 0.1,
        *,
        name: str = "vrm_reward",
        classes: Sequence[type] = (),
        **settings: Any,
    ) -> None:
        self.settings = RewardSettings(os.fspath(model_dir), aggregation, k, level, **settings)
        self.classes = tuple(classes)
        if self.classes and self.settings.is_remote:
            raise InputError("classes are those of the server; give them to vrm-pyro serve.")
        self.__name__ = name
        self._begin()

    def _begin(self) -> None:
        self._scorer: Scorer | None = None
        self._client: RewardClient | None = None
        self._lock = threading.RLock()
        self._calls = 0

    def __getstate__(self) -> dict[str, Any]:
        """Return path and settings; the model is not pickled."""
        return {name: self.__dict__[name] for name in ("settings", "classes", "__name__")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore path and settings; the model is loaded at the first call."""
        self.__dict__.update(state)
        self._begin()

    def __call__(
        self,
        *,
        prompts: Sequence[Text],
        completions: Sequence[Text],
        completion_ids: Any = None,
        trainer_state: Any = None,
        log_extra: Callable[[str, list[Any]], None] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        environments: Any = None,
        tools: Sequence[Any] | None = None,
        chat_template_kwargs: Sequence[Any] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        """Return a reward for each completion, None for one that is not scored.

        Logs the metrics of :meth:`Assessment.metrics`, and for each completion ``reward_sd`` and
        ``top_objective``.

        Args:
            prompts: A prompt for each completion, text or messages.
            completions: Texts, or lists of messages.
            completion_ids: Ignored: the reward model has its own tokenizer.
            trainer_state: Its ``global_step`` is the step of ``thompson``.
            log_extra: Called with a name and a value for each completion.
            log_metric: Called with a name and a number.
            environments: Ignored.
            tools: Tools of each prompt for the reward model's chat template, from a column of
                that name.
            chat_template_kwargs: Further variables of that template for each prompt, likewise.
            **columns: Columns of the data set; ignored.

        Raises:
            InputError: If the model is not usable, the numbers of prompts and completions
                differ, or a message is no text.

        Warns:
            UserWarning: If a prompt has a single completion and the aggregation needs a group.
        """
        if tools is not None or chat_template_kwargs is not None:
            prompts = _with_columns(prompts, tools, chat_template_kwargs)
        found = self.assess(prompts, completions, getattr(trainer_state, "global_step", None))
        if log_metric is not None:
            for name, value in found.metrics().items():
                log_metric(name, value)
        if log_extra is not None:
            log_extra("reward_sd", found.reward_sd)
            log_extra("top_objective", found.top_objectives())
        return found.rewards

    def assess(
        self, prompts: Sequence[Text], completions: Sequence[Text], step: int | None = None
    ) -> Assessment:
        """Return rewards with weights and spreads.

        Args:
            prompts: A prompt for each completion.
            completions: Texts, or lists of messages.
            step: Step of ``thompson``; the number of previous calls when omitted.

        Raises:
            InputError: As :meth:`__call__`.
        """
        with self._lock:
            step = self._step(step)
            if not self.settings.is_remote:
                return assess(self.scorer, self.settings, prompts, completions, step)
        return assess_remotely(self.client, self.settings, prompts, completions, step)

    async def assess_async(
        self, prompts: Sequence[Text], completions: Sequence[Text], step: int | None = None
    ) -> Assessment:
        """Return what :meth:`assess` does without holding up the event loop.

        Args:
            prompts: A prompt for each completion.
            completions: Texts, or lists of messages.
            step: Step of ``thompson``; the number of previous calls when omitted.

        Raises:
            InputError: As :meth:`__call__`.
            ConnectionError: If a server does not answer in time.
        """
        if not self.settings.is_remote:
            return await asyncio.to_thread(self.assess, prompts, completions, step)
        step = self._step(step)
        return await assess_remotely_async(self.client, self.settings, prompts, completions, step)

    def _step(self, step: int | None) -> int:
        with self._lock:
            step = self._calls if step is None else step
            self._calls += 1
            return step

    @property
    def client(self) -> RewardClient:
        """The connections to the server, made on first access."""
        with self._lock:
            if self._client is None:
                held = self.settings
                self._client = RewardClient(held.model_dir, held.api_key, held.timeout)
            return self._client

    @property
    def scorer(self) -> Scorer:
        """The model with its backbone, loaded on first access.

        Raises:
            InputError: If model or backbone is missing, damaged, or they do not fit.
        """
        with self._lock:
            if self._scorer is None:
                self._scorer = self._load()
            return self._scorer

    def _load(self) -> Scorer:
        held = self.settings
        if held.is_remote:
            raise InputError(f"{held.model_dir}: the model is on the server, none is loaded here.")
        # New modules draw initial values; the policy's random state must not change.
        with torch.random.fork_rng(devices=[]):
            scorer = Scorer.from_pretrained(
                held.model_dir, device=held.device, dtype=held.dtype, classes=self.classes
            )
        if held.token_budget is not None:
            scorer.backbone.token_budget = held.token_budget
        return scorer


def _with_columns(
    prompts: Sequence[Text], tools: Sequence[Any] | None, variables: Sequence[Any] | None
) -> list[Messages]:
    """Return prompts with the tools and variables that their chat template gets."""
    none = [None] * len(prompts)
    for name, values in (("tools", tools), ("chat_template_kwargs", variables)):
        if values is not None and len(values) != len(prompts):
            raise InputError(f"{name} has {len(values)} entries for {len(prompts)} prompts.")
    rows = zip(prompts, none if tools is None else tools, variables or none, strict=True)
    return [conversation(p, tools=t, chat_template_kwargs=v) for p, t, v in rows]


def reward(**arguments: Any) -> list[float | None]:
    """Return rewards of the model in the environment variable VRM_PYRO_REWARD_MODEL.

    For trainers that take the dotted path of a function:
    ``trl grpo --reward_funcs vrm_pyro.integrations.rl.reward.reward``. Further settings come from
    ``VRM_PYRO_REWARD_AGGREGATION``, ``VRM_PYRO_REWARD_K`` and so on, see
    :func:`vrm_pyro.integrations.rl.settings.settings_from_environment`.

    Args:
        **arguments: As :meth:`VRMReward.__call__`.

    Raises:
        InputError: If the variable is not set or a setting does not fit, and as
            :meth:`VRMReward.__call__`.
    """
    return environment_reward()(**arguments)


def environment_reward() -> VRMReward:
    """Return the reward described by environment variables; cached by their values.

    Raises:
        InputError: If ``VRM_PYRO_REWARD_MODEL`` is not set, or a setting does not fit.
    """
    return _reward_of(settings_from_environment(os.environ))


@lru_cache(maxsize=4)
def _reward_of(settings: RewardSettings) -> VRMReward:
    return VRMReward(**asdict(settings))
