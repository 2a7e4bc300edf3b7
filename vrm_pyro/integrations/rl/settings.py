"""Settings of a reward for RL, from Python or from environment variables."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final

from vrm_pyro.errors import InputError

AGGREGATIONS: Final = ("mean", "lower_bound", "quantile", "thompson")
PREFIX: Final = "VRM_PYRO_REWARD_"


@dataclass(frozen=True)
class RewardSettings:
    """How a distribution over rewards becomes one number for each completion.

    Args:
        model_dir: Folder that ``vrm-pyro train`` wrote, or the address of a server of ``vrm-pyro
            serve``, such as ``http://host:8000``.
        aggregation: ``mean`` is E r. ``lower_bound`` is E r - k sd and ``quantile`` the quantile
            at ``level``, both of the reward relative to the group's mean (see
            :func:`vrm_pyro.prediction.group_rewards.group_rewards`), with E of the group's mean
            added back.
            ``thompson`` is a joint draw.
        k: Number of standard deviations that ``lower_bound`` subtracts; negative values add
            them (optimism).
        level: Level of ``quantile``, in (0, 1).
        seed: Seed of ``thompson``.
        empty_reward: Reward of a completion without text; None for "not scored".
        token_budget: Most tokens in a batch of the backbone, padding included; by device if None.
        device: Where to run; ``auto`` is the GPU of this process when there is one.
        dtype: Precision of the backbone: ``auto``, ``float32`` or ``bfloat16``.
        api_key: Key of the server; that of the variable ``VRM_PYRO_API_KEY`` if None.
        timeout: Seconds in which a server has to answer a call, retries included.

    Raises:
        InputError: If a value is out of range, or belongs to the server.
    """

    model_dir: str
    aggregation: str = "mean"
    k: float = 1.0
    level: float = 0.1
    seed: int = 0
    empty_reward: float | None = None
    token_budget: int | None = None
    device: str = "auto"
    dtype: str = "auto"
    api_key: str | None = field(default=None, repr=False)
    timeout: float = 180.0

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            raise InputError(
                f"aggregation is {self.aggregation!r}, but must be one of "
                f"{', '.join(AGGREGATIONS)}."
            )
        if not math.isfinite(self.k):
            raise InputError(f"k is {self.k}, but must be a finite number such as 1.0.")
        if not 0 < self.level < 1:
            raise InputError(f"level is {self.level}, but must be between 0 and 1, such as 0.1.")
        if self.empty_reward is not None and not math.isfinite(self.empty_reward):
            raise InputError(
                f"empty_reward is {self.empty_reward}, but must be a finite number, or None for "
                "completions that are not scored."
            )
        if self.token_budget is not None and self.token_budget < 1:
            raise InputError(f"token_budget is {self.token_budget}, but must be at least 1.")
        if not 0 < self.timeout < math.inf:
            raise InputError(f"timeout is {self.timeout}, but must be a number above 0.")
        if self.is_remote and (self.token_budget, self.device, self.dtype) != (
            None,
            "auto",
            "auto",
        ):
            raise InputError(
                "token_budget, device and dtype are settings of the server; leave them out beside "
                f"{self.model_dir}."
            )

    @property
    def is_remote(self) -> bool:
        """Whether the model is behind a server."""
        return self.model_dir.startswith(("http://", "https://"))

    @property
    def needs_group(self) -> bool:
        """Whether a reward depends on the other completions of its prompt."""
        return self.aggregation in ("lower_bound", "quantile")


def settings_from_environment(environment: Mapping[str, str]) -> RewardSettings:
    """Return settings from ``VRM_PYRO_REWARD_MODEL``, ``VRM_PYRO_REWARD_AGGREGATION``, ...

    The names are those of :class:`RewardSettings` in capitals, ``MODEL`` for ``model_dir``.

    >>> settings_from_environment({"VRM_PYRO_REWARD_MODEL": "runs/a", "VRM_PYRO_REWARD_K": "2"}).k
    2.0

    Raises:
        InputError: If the model is not named, a name is unknown, or a value does not fit.
    """
    if not environment.get(f"{PREFIX}MODEL"):
        raise InputError(
            f"{PREFIX}MODEL is not set. Export it before training starts, on every machine: "
            f"export {PREFIX}MODEL=/path/to/the/folder/that/vrm-pyro/train/wrote"
        )
    names = {"MODEL": "model_dir"}
    names |= {f.name.upper(): f.name for f in fields(RewardSettings) if f.name != "model_dir"}
    values: dict[str, Any] = {}
    for variable, text in environment.items():
        if not variable.startswith(PREFIX):
            continue
        short = variable.removeprefix(PREFIX)
        if short not in names:
            raise InputError(
                f"{variable}: there is no such setting. Settings are "
                f"{', '.join(PREFIX + name for name in names)}."
            )
        values[names[short]] = _value(variable, names[short], text)
    return RewardSettings(**values)


def _value(variable: str, name: str, text: str) -> Any:
    kinds = {
        "k": float,
        "level": float,
        "empty_reward": float,
        "timeout": float,
        "seed": int,
        "token_budget": int,
    }
    kind = kinds.get(name, str)
    try:
        return kind(text)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise InputError(f"{variable} is {text!r}, but must be {wanted}.") from None
