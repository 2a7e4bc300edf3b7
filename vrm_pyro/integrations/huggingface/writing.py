"""Write a trained model as a transformers model."""

import copy
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import torch

from vrm_pyro.backbone import Backbone, TransformerBackbone, peft_calls
from vrm_pyro.backbone.messages import Messages
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.adapter import adapter_settings
from vrm_pyro.integrations.huggingface.boundary import (
    ANSWERS,
    PROMPTS,
    answered,
    reading_of,
    render_ids,
)
from vrm_pyro.integrations.huggingface.configuration import VRMConfig
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.integrations.huggingface.modeling import VRMForSequenceClassification
from vrm_pyro.integrations.huggingface.reading import WITHOUT_BOUNDARY
from vrm_pyro.integrations.huggingface.self_check import SelfTest
from vrm_pyro.models.checkpoint import CONFIG_FILE, LoadedModel, describe, settings_to_json
from vrm_pyro.models.settings.tables import TABLES
from vrm_pyro.prediction.scorer import Scorer

EXACT: Final = 1e-3
"""Tolerance for rewards in float32 against those of the run, as a share of their range."""

ADAPTERS: Final = ("merge", "beside")
DTYPES: Final = ("float32", "bfloat16", "float16")


@dataclass(frozen=True)
class ExportSettings:
    """Settings of an export.

    Args:
        adapter: What to do with a low-rank adapter: ``merge`` it into the weights, or keep it
            ``beside`` them (loading then needs peft).
        dtype: Precision of the backbone's weights; the heads stay in float32.
        without_boundary: What the model does if no answer begins in a row: ``raise`` or
            ``whole_text``.
        max_shard_size: Largest file of weights, such as ``5GB``.
        empty_reward: Reward of a row whose response is empty; NaN if None.

    Raises:
        InputError: If a value is none of these.
    """

    adapter: str = "merge"
    dtype: str = "float32"
    without_boundary: str = "raise"
    max_shard_size: str = "5GB"
    empty_reward: float | None = None

    def __post_init__(self) -> None:
        for name, allowed in (
            ("adapter", ADAPTERS),
            ("dtype", DTYPES),
            ("without_boundary", WITHOUT_BOUNDARY),
        ):
            if getattr(self, name) not in allowed:
                raise InputError(
                    f"{name} is {getattr(self, name)!r}, but must be one of {', '.join(allowed)}."
                )
        if self.empty_reward is not None and not math.isfinite(self.empty_reward):
            raise InputError(
                f"empty_reward is {self.empty_reward}, but must be a finite number, or None."
            )
        size = re.fullmatch(r"(\d+(?:\.\d+)?) *(?:[KMGT]i?B)?", self.max_shard_size, re.I)
        if size is None or float(size[1]) == 0:
            raise InputError(
                f"max_shard_size is {self.max_shard_size!r}, but must be a positive number with a "
                "unit, such as 5GB or 500MB."
            )


def write_export(scorer: Scorer, folder: Path, settings: ExportSettings) -> None:
    """Write ``config.json``, weights and tokenizer into an empty folder, and check them.

    The self-test holds the rewards of ``scorer``; the folder is loaded once to run it.

    Args:
        scorer: The trained model with its backbone in float32. An adapter is merged in place.
        folder: Folder to write.
        settings: Settings of the export.

    Raises:
        InputError: If the backbone's template does not mark the beginning of an answer, or the
            exported model does not give the rewards of ``scorer``.
    """
    loaded, backbone = scorer.loaded, require_transformer(scorer.backbone)
    if backbone.precision != "float32":
        raise InputError(
            f"the backbone computes in {backbone.precision}; load it in float32 to export it."
        )
    refuse_own_classes(settings_to_json(loaded.config))
    tokenizer = exported_tokenizer(backbone.chat)
    reading = reading_of(backbone, tokenizer, settings.without_boundary)
    test = _self_test(scorer, tokenizer)
    module, adapter = take_backbone(backbone, settings.adapter)
    text_config = copy.deepcopy(module.config)
    text_config.dtype, text_config._name_or_path = settings.dtype, ""
    config = VRMConfig(
        text_config=text_config.to_dict(),
        head=_portable(loaded),
        reading=reading.to_json(),
        adapter=adapter,
        without_boundary=settings.without_boundary,
        empty_reward=settings.empty_reward,
    )
    with torch.device("meta"):
        model = VRMForSequenceClassification(config)
    model.backbone = module.to(getattr(torch, settings.dtype))
    model.head = scorer.model
    model.save_pretrained(folder, max_shard_size=settings.max_shard_size)
    for path in folder.glob("*.safetensors"):  # safetensors gives their owner alone access
        path.chmod((folder / CONFIG_FILE).stat().st_mode)
    # Set after saving: save_pretrained would replace the rewards by those of these weights.
    config.self_test = test.to_json()
    config.architectures = [type(model).__name__]
    config.dtype = settings.dtype
    config.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    del model, module, scorer
    written = VRMForSequenceClassification.from_pretrained(folder)
    if settings.dtype == "float32":
        test.verify(written, EXACT)


def require_transformer(backbone: Backbone) -> TransformerBackbone:
    """Return a backbone if it is a model of transformers.

    Raises:
        InputError: If it is a backbone of the user's own.
    """
    if not isinstance(backbone, TransformerBackbone):
        raise InputError(
            f"backbone {backbone.name} is no model of transformers, so it cannot be exported as "
            "one. Use the run with vrm_pyro.Scorer."
        )
    return backbone


def refuse_own_classes(settings: Mapping[str, Any]) -> None:
    """Raise InputError if a model uses classes from outside this package.

    Args:
        settings: Result of :func:`vrm_pyro.models.checkpoint.settings_to_json`.
    """
    for key, table in TABLES.items():
        entry = settings.get(key)
        name = entry.get("class") if isinstance(entry, Mapping) else None
        if isinstance(name, str) and name not in table:
            raise InputError(
                f"the model's {key} is {name}, a class of your own. An exported model is loaded "
                "without running anybody's code, so it can only have classes of vrm_pyro. Use the "
                "folder of the run, which takes them (Scorer, vrm_pyro.VRMReward, --classes)."
            )


def _self_test(scorer: Scorer, tokenizer: Any) -> SelfTest:
    """Return token ids of the probes with a scorer's rewards."""
    rows: list[tuple[int, ...]] = []
    rewards: list[float] = []
    pairs: list[tuple[Messages, str]] = [(p, a) for p in PROMPTS for a in ANSWERS[:2]]
    for prompt, answer in pairs:
        ids = render_ids(tokenizer, answered(prompt, answer), False)
        if ids is not None:
            rows.append(tuple(ids))
            rewards.append(float(scorer([prompt], [answer])[0]["reward_mean"]))
    return SelfTest(tuple(rows), tuple(rewards), "float32")


def take_backbone(
    backbone: TransformerBackbone, adapter: str
) -> tuple[Any, dict[str, Any] | None]:
    """Return a backbone's transformers module, and the settings of its adapter.

    Args:
        backbone: The backbone.
        adapter: Whether to ``merge`` a low-rank adapter, in place, or keep it ``beside``.
    """
    model: Any = backbone.model
    if not hasattr(model, "peft_config"):
        return model, None
    if adapter == "merge":
        with peft_calls():
            return model.merge_and_unload(), None
    return backbone.module_under_adapters, adapter_settings(model)


def _portable(loaded: LoadedModel) -> dict[str, Any]:
    """Return the description of the heads without local paths."""
    described = describe(loaded)
    facts = dict(described["backbone"])
    facts["name"] = backbone_id(facts["name"])
    held = {**described["settings"], "backbone": backbone_id(described["settings"]["backbone"])}
    return {**described, "backbone": facts, "settings": held}


def backbone_id(name: str) -> str:
    """Return the id of a backbone; for a local folder, the last part of its path."""
    local = Path(name).expanduser()
    return local.name if local.is_absolute() or local.is_dir() else name
