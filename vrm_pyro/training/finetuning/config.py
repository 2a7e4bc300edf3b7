"""Settings for training the backbone."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig

# Usual learning rates of these methods; the heads use train.learning_rate.
LEARNING_RATES: Final = {"lora": 1e-4, "full": 1e-5}


@dataclass
class TuningConfig:
    """Whether and how to train the backbone.

    Args:
        method: ``frozen``: compute states once and keep them; ``lora``: train low-rank adapters
            of the linear layers (needs peft); ``full``: train all weights.
        learning_rate: Learning rate of the backbone. 0 means 1e-4 for lora and 1e-5 for full. The
            heads use train.learning_rate.
        frozen_fraction: Share of the steps, at the start, that train the heads alone. Gradients
            of a random head are noise to the backbone.
        rank: Rank r of an adapter.
        alpha: Scale of an adapter: its update is multiplied by alpha / rank.
        dropout: Dropout before an adapter.
        target_modules: Layers that get adapters: ``all-linear``, or a regular expression over
            module names such as ``.*(q_proj|v_proj)``.
        share_prompts: Whether the responses to a prompt share its computation, where the backbone
            allows it (causal attention over the whole sequence). Numbers change by rounding only.
        max_batch_tokens: Largest number of tokens in a forward pass of a step, padding included.
            A batch then holds prompts of similar length, fewer of them where they are long.
            0: no limit, and train.per_device_train_batch_size random prompts.
        compile: Compile the backbone with torch.compile; the first steps take minutes.
        shard: Split the backbone's weights over the processes (FSDP2), for backbones that do not
            fit on one device. Heads and adapters stay whole.

    Examples:
        >>> TuningConfig("lora").backbone_rate
        0.0001
        >>> TuningConfig("full", learning_rate=2e-5).backbone_rate
        2e-05
    """

    method: Literal["frozen", "lora", "full"] = "frozen"
    learning_rate: float = 0.0
    frozen_fraction: float = 0.0
    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    target_modules: str = "all-linear"
    share_prompts: bool = True
    max_batch_tokens: int = 0
    compile: bool = False
    shard: bool = False

    @property
    def backbone_rate(self) -> float:
        """The learning rate of the backbone, with the default filled in."""
        return self.learning_rate or LEARNING_RATES[self.method]


def check_tuning(tuning: TuningConfig) -> None:
    """Check the settings.

    Raises:
        InputError: With key, value and the allowed range.

    Examples:
        >>> check_tuning(TuningConfig("lora", rank=0))
        Traceback (most recent call last):
        vrm_pyro.errors.InputError: tuning.rank is 0, but must be at least 1.
    """
    for key, holds, allowed in (
        ("learning_rate", 0 <= tuning.learning_rate < math.inf, "0 (the default) or positive"),
        ("frozen_fraction", 0 <= tuning.frozen_fraction < 1, "in [0, 1)"),
        ("rank", 1 <= tuning.rank <= 100_000, "at least 1"),
        ("alpha", tuning.alpha >= 1, "at least 1"),
        ("dropout", 0 <= tuning.dropout < 1, "in [0, 1)"),
        ("max_batch_tokens", tuning.max_batch_tokens >= 0, "0 (no limit) or positive"),
        ("target_modules", bool(tuning.target_modules.strip()), "all-linear or an expression"),
    ):
        if not holds:
            raise InputError(f"tuning.{key} is {getattr(tuning, key)}, but must be {allowed}.")
    if tuning.shard and tuning.method == "frozen":
        raise InputError(
            "tuning.shard is true, but tuning.method is frozen: states are then computed once, by "
            "a whole backbone in each process. Set tuning.method lora or full, or shard false."
        )
    if tuning.shard and tuning.compile:
        raise InputError(
            "tuning.shard and tuning.compile are both true; a backbone in shards is not compiled. "
            "Set one of them false."
        )


def check_tuned(model: ModelConfig) -> None:
    """Check the settings of a model whose backbone is trained along.

    Raises:
        InputError: If they need states that stay as they are.
    """
    if model.architecture == "gate":
        raise InputError(
            "model.architecture is gate, whose scores are fitted to states before training; they "
            "would be stale once the backbone is trained along. Set tuning.method to frozen."
        )
    if model.recalibrate:
        raise InputError(
            "model.recalibrate is true, but the backbone is trained along (tuning.method lora or "
            "full), so the validation rows have no stored states to set scales by. Set it to "
            "false, or tuning.method to frozen."
        )
