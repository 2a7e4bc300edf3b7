"""Settings of the backbone's part in training."""

import math
from dataclasses import dataclass
from typing import Final, Literal

from vrm_pyro.errors import InputError

# What these methods are usually trained with; the heads have train.learning_rate.
LEARNING_RATES: Final = {"lora": 1e-4, "full": 1e-5}


@dataclass
class TuningConfig:
    """Whether and how the backbone is trained, too.

    Args:
        method: ``frozen``: states are computed once and kept; ``lora``: low-rank adapters of its
            linear layers are trained (needs peft); ``full``: all its weights.
        learning_rate: Of the backbone. 0 is 1e-4 for lora and 1e-5 for full; the heads have
            train.learning_rate.
        frozen_fraction: Share of the steps at the start that train the heads alone: a random head
            sends noise into a backbone.
        rank: Rank r of an adapter.
        alpha: An adapter's update counts alpha / rank.
        dropout: Dropout before an adapter.
        target_modules: Layers that get adapters: ``all-linear``, or a regular expression over
            module names such as ``.*(q_proj|v_proj)``.
        share_prompts: Whether responses to a prompt share its computation where the backbone can
            (causal attention over the whole sequence). The numbers are the same up to rounding.
        max_batch_tokens: Most tokens in a forward pass of a step, padding included; prompts of
            like length then stand together, fewer of them where they are long. 0: no limit, and
            train.per_device_train_batch_size prompts at random.
        compile: Compile the backbone with torch.compile; the first steps take minutes.
        shard: Leave to each process of several its share of the backbone's weights (FSDP2), for
            backbones that do not fit one device. Heads and adapters stay whole.
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
        """The learning rate of the backbone."""
        return self.learning_rate or LEARNING_RATES[self.method]


def check_tuning(tuning: TuningConfig) -> None:
    """Raise InputError naming key, value and what is allowed."""
    for key, holds, allowed in (
        ("learning_rate", 0 <= tuning.learning_rate < math.inf, "0 (the usual one) or positive"),
        ("frozen_fraction", 0 <= tuning.frozen_fraction < 1, "in [0, 1)"),
        ("rank", tuning.rank >= 1, "at least 1"),
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
