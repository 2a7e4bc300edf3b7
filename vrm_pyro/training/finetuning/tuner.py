"""Make a backbone trainable and connect it to the Trainer."""

import copy
import logging
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import TrainingArguments

from vrm_pyro.backbone import Backbone, TransformerBackbone, peft_calls
from vrm_pyro.backbone.sharding import find_blocks, shard_model, sharded_names, whole_state
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import ADAPTER_FOLDER, BACKBONE_FOLDER
from vrm_pyro.processes import num_processes
from vrm_pyro.training.finetuning.batches import TokenBatches
from vrm_pyro.training.finetuning.config import TuningConfig, check_tuning
from vrm_pyro.training.finetuning.module import BACKBONE, TextModule
from vrm_pyro.training.finetuning.texts import TextDataset
from vrm_pyro.training.module import TrainingModule

log = logging.getLogger(__name__)


SCALER_TEXTS = 1024
"""Number of texts whose states before training standardise the inputs of the heads."""


class Tuner:
    """Train a backbone together with the heads.

    Args:
        config: Settings; ``method`` is not ``frozen``.
        backbone: The backbone; its weights change in place.

    Raises:
        InputError: If the settings do not fit the backbone.
    """

    def __init__(self, config: TuningConfig, backbone: Backbone) -> None:
        check_tuning(config)
        if not isinstance(backbone, TransformerBackbone):
            raise InputError(
                f"tuning.method is {config.method}, but backbone {backbone.name} is no model of "
                "transformers, so nothing of it can be trained. Set tuning.method frozen."
            )
        self.config = config
        self.backbone = backbone
        if config.method == "lora":
            backbone.model = add_adapters(config, backbone)
        else:
            # A relative update of 1e-5 rounds to zero in bfloat16: keep float32 weights and use
            # mixed precision.
            backbone.model = backbone.model.float().requires_grad_(True)
        self.share = config.share_prompts and backbone.shares_prompts
        self._whole: dict[str, torch.Tensor] | None = None

    @property
    def shards(self) -> bool:
        """Whether weights are sharded over processes, once :meth:`place` was called."""
        return self.config.shard and num_processes() > 1

    @property
    def hidden_size(self) -> int:
        """Hidden size of the backbone."""
        return self.backbone.hidden_size

    @property
    def learning_rates(self) -> dict[str, float]:
        """Learning rate by prefix of parameter names."""
        return {BACKBONE: self.config.backbone_rate}

    def place(self, arguments: TrainingArguments) -> None:
        """Move the backbone to the run's device, in shards if ``config.shard`` is set.

        Raises:
            InputError: If it cannot be sharded: its layers are unknown or skipped at random, or
                the run is in float16.
        """
        backbone = self.backbone
        if self.config.shard and not self.shards:
            log.warning(
                "tuning.shard is true, but a single process trains: weights stay whole. For "
                "several: torchrun --nproc_per_node N scripts/train_svi.py, with the same options."
            )
        if self.shards and not sharded_names(backbone.model):
            if arguments.fp16:
                raise InputError(
                    "tuning.shard and train.fp16 are both true; shards are trained in float32 or "
                    "bfloat16. Set train.bf16 true instead of train.fp16."
                )
            blocks = find_blocks(backbone.model, backbone.module_under_adapters)
            low = arguments.bf16 or backbone.precision == "bfloat16"
            shard_model(backbone.model, blocks, arguments.device, low)
        elif not self.shards:
            backbone.model.to(arguments.device)
        backbone.device = arguments.device

    def wrap(self, module: TrainingModule, arguments: TrainingArguments) -> TextModule:
        """Return backbone and heads as one module; may change ``arguments`` and compile."""
        if self.config.frozen_fraction and arguments.ddp_find_unused_parameters is None:
            # Without it, DDP fails on parameters that have no gradient in the first steps.
            arguments.ddp_find_unused_parameters = True
        if self.config.compile:
            self.backbone.model.compile(dynamic=True)
        return TextModule(module, self.backbone, self.config.frozen_fraction)

    def dataset(
        self, source: FeatureSource, loc: float, scale: float, items: NDArray[np.int64]
    ) -> TextDataset:
        """Return the training data set of a source."""
        return TextDataset(source, self.backbone, self.share, loc, scale, items)

    def batches(self, dataset: PromptDataset, arguments: TrainingArguments) -> TokenBatches | None:
        """Return the batches of an epoch, or None for transformers' own."""
        if not self.config.max_batch_tokens or not isinstance(dataset, TextDataset):
            return None
        return TokenBatches(
            dataset.lengths(),
            arguments.train_batch_size,
            self.config.max_batch_tokens,
            arguments.seed,
            arguments.process_index,
            arguments.world_size,
        )

    def facts(self) -> dict[str, Any]:
        """Return the facts of the trained backbone that a checkpoint keeps."""
        now = copy.copy(self.backbone)
        vars(now).pop("weights_hash", None)  # of the weights before training
        optional = {"layer": now.layer, "file_sha256": now.file_sha256, **now.settings.key()}
        return {
            "name": self.backbone.name,
            **{key: value for key, value in optional.items() if value is not None},
            "tuned": self.config.method,
            "pooling": now.pooling,
            "max_length": now.max_length,
            "weights_hash": now.weights_hash,
            "tokenizer_hash": now.tokenizer_hash,
            "template_hash": now.template_hash,
        }

    def gather(self) -> None:
        """Gather sharded weights in the main process; all processes must call it before a save.

        Adapters are never sharded.
        """
        if self.shards and self.config.method == "full":
            self._whole = whole_state(self.backbone.model.state_dict())

    def save(self, folder: Path) -> None:
        """Write the adapter or the trained backbone into a run's folder."""
        model: Any = self.backbone.model
        if self.config.method == "lora":
            model.save_pretrained(folder / ADAPTER_FOLDER)
            return
        model.save_pretrained(folder / BACKBONE_FOLDER, state_dict=self._whole)
        self.backbone.save_tokenizer(folder / BACKBONE_FOLDER)


def add_adapters(config: TuningConfig, backbone: TransformerBackbone) -> torch.nn.Module:
    """Return the backbone's model with low-rank adapters and all other weights frozen.

    Raises:
        InputError: If peft is not installed, or if ``target_modules`` matches no layer.
    """
    try:
        from peft import LoraConfig, TaskType, get_peft_model
    except ImportError as error:
        raise InputError(
            'tuning.method is lora, which needs peft: pip install "vrm-pyro[lora]".'
        ) from error
    settings = LoraConfig(
        task_type=TaskType.FEATURE_EXTRACTION,
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=config.target_modules,
    )
    try:
        with peft_calls():
            return get_peft_model(backbone.model, settings)
    except ValueError as error:
        raise InputError(
            f"tuning.target_modules is {config.target_modules!r}: {' '.join(str(error).split())} "
            "Use all-linear, or an expression that matches names of the backbone's layers."
        ) from error
