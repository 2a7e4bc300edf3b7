"""Self-test of an exported model: rows of token ids with their expected rewards."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import torch
from torch import Tensor

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.schemas import SelfTestSchema, check_part

TOLERANCE: Final = {torch.float32: 1e-2, torch.float16: 2e-2, torch.bfloat16: 1.5e-1}
"""Tolerance by precision of the backbone, in units of the spread of the rewards.

For float32 it allows for matrix products in TF32 on other devices.
"""


@dataclass(frozen=True)
class SelfTest:
    """Rows of token ids with their expected rewards.

    Args:
        rows: Token ids of each row, without padding.
        rewards: Mean reward of each row.
        dtype: Precision of the backbone that computed them, such as ``float32``.
    """

    rows: tuple[tuple[int, ...], ...]
    rewards: tuple[float, ...]
    dtype: str

    def to_json(self) -> dict[str, Any]:
        """Return JSON values that :meth:`from_json` reads."""
        values = asdict(self)
        return {**values, "rows": [list(r) for r in self.rows], "rewards": list(self.rewards)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "SelfTest":
        """Return what :meth:`to_json` wrote.

        Raises:
            InputError: If a value is missing or does not fit.
        """
        check_part(SelfTestSchema, "'self_test' is not usable", values)
        rows = tuple(tuple(row) for row in values["rows"])
        rewards = tuple(map(float, values["rewards"]))
        if len(rows) != len(rewards):
            raise InputError(
                f"config.json: 'self_test' is not usable: 'rows' has {len(rows)} values, "
                f"'rewards' {len(rewards)}. Export the model again."
            )
        return cls(rows, rewards, values["dtype"])

    @property
    def spread(self) -> float:
        """Unit of differences: the range of the rewards, or a tenth of their size."""
        size = max(abs(r) for r in self.rewards)
        return max(max(self.rewards) - min(self.rewards), 0.1 * size, 1e-4)

    def renewed(self, model: Any) -> "SelfTest":
        """Return the same rows with the current rewards of a model."""
        found = self._rewards(model).tolist()
        return replace(self, rewards=tuple(found), dtype=_name(model.backbone.dtype))

    def verify(self, model: Any, share: float | None = None) -> None:
        """Raise InputError unless a model reproduces the rewards within tolerance.

        Args:
            model: A :class:`~vrm_pyro.integrations.huggingface.VRMForSequenceClassification`.
            share: Tolerance in units of the spread; by precision when omitted.
        """
        found = self._rewards(model)
        expected = torch.tensor(self.rewards)
        if share is None:
            share = max(TOLERANCE[_dtype(self.dtype)], TOLERANCE.get(model.backbone.dtype, 1.5e-1))
        limit = share * self.spread
        difference = (found - expected).abs()
        worst = int(difference.argmax())
        if not bool(difference[worst] <= limit):
            raise InputError(
                f"self-test: row {worst} of config.json should get the reward "
                f"{self.rewards[worst]:.6g}, but gets {found[worst].item():.6g}; the difference "
                f"of {difference[worst].item():.3g} is above {limit:.3g}, the tolerance of "
                f"{_name(model.backbone.dtype)}. Weights, configuration or the version of "
                "transformers are not those that the model was exported with; its rewards would "
                "mean something else. Export it again, or load it with dtype=torch.float32 if the "
                "precision is the reason."
            )

    def _rewards(self, model: Any) -> Tensor:
        largest, size = max(map(max, self.rows)), model._text_config.vocab_size
        if largest >= size:
            raise InputError(
                f"config.json: 'self_test' holds the token id {largest}, but the backbone has "
                f"{size} tokens. Export the model again."
            )
        device, width = model.device, max(len(row) for row in self.rows)
        ids = torch.zeros(len(self.rows), width, dtype=torch.long)
        mask = torch.zeros_like(ids)
        for i, row in enumerate(self.rows):
            ids[i, : len(row)] = torch.tensor(row)
            mask[i, : len(row)] = 1
        rewards: Tensor = model(ids.to(device), mask.to(device)).logits[:, 0].float().cpu()
        return rewards


def _dtype(name: str) -> torch.dtype:
    found: torch.dtype = getattr(torch, name)
    return found


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
