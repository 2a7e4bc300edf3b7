"""Low-rank adapter of an exported model, stored separately from the backbone's weights."""

from collections.abc import Mapping
from typing import Any

from torch import nn

from vrm_pyro.backbone import peft_calls
from vrm_pyro.errors import InputError

#: Settings that define an adapter's layers; the others concern its training.
KEPT = ("r", "lora_alpha", "lora_dropout", "target_modules", "use_rslora", "use_dora", "bias")


def adapter_settings(model: Any) -> dict[str, Any]:
    """Return the settings of a peft model's adapter as JSON values."""
    held = model.peft_config[model.active_adapter]
    values = {name: getattr(held, name) for name in KEPT}
    targets = values["target_modules"]
    if not isinstance(targets, str):
        values["target_modules"] = sorted(targets)
    return values


def add_adapter(model: nn.Module, settings: Mapping[str, Any]) -> None:
    """Add low-rank layers to a transformers model, in place; the weights file has their values.

    Raises:
        InputError: If peft is not installed, or the settings do not fit the model.
    """
    try:
        from peft import LoraConfig, TaskType, inject_adapter_in_model
    except ImportError as error:
        raise InputError(
            "the model was exported with its adapter beside it, which needs peft: pip install "
            '"vrm-pyro[lora]"; or export it with --adapter merge.'
        ) from error
    unknown = sorted(set(settings) - set(KEPT))
    if unknown:
        raise InputError(f"config.json: 'adapter' has an unknown setting {unknown[0]!r}.")
    try:
        with peft_calls():
            config = LoraConfig(task_type=TaskType.FEATURE_EXTRACTION, **settings)
            inject_adapter_in_model(config, model)
    except (ValueError, TypeError) as error:
        raise InputError(
            f"config.json: 'adapter' does not fit the backbone: {' '.join(str(error).split())}"
        ) from error
