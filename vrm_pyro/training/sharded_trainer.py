"""Trainer for a backbone in shards, one per process; checkpoints hold whole weights."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from transformers.trainer import OPTIMIZER_NAME, SCHEDULER_NAME

from vrm_pyro.backbone.sharding import shard_optimizer, sharded_names, whole_optimizer, whole_state
from vrm_pyro.training.checkpoint_files import check_optimizer
from vrm_pyro.training.finetuning import frozen_names
from vrm_pyro.training.trainer import ModelTrainer


class ShardedTrainer(ModelTrainer):
    """Train a backbone in shards (FSDP2) with unsharded heads and adapters (DDP).

    Both average gradients over processes. Checkpoints hold whole weights, so a run can resume
    with or without shards, on any number of processes.
    """

    sharded = True

    def _wrap_model(self, model: nn.Module, training: bool = True, dataloader: Any = None) -> Any:
        """Wrap heads and adapters in DDP; accelerate refuses a mix of shards and whole weights."""
        if model is not self.model or not training:
            return model
        prepared: Any = self.accelerator.prepare_model(
            model, device_placement=False, evaluation_mode=True
        )
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(
            prepared, sharded_names(prepared)
        )
        handler = self.accelerator.ddp_handler
        return DistributedDataParallel(
            prepared, **({} if handler is None else handler.to_kwargs())
        )

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Gather the whole weights in the main process, which writes them."""
        assert self.model is not None
        left_out = frozen_names(self.model)
        state = self.model.state_dict()
        self._whole = whole_state({k: v for k, v in state.items() if k not in left_out})
        super().save_model(output_dir, _internal_call)
        del self._whole

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        super()._save(output_dir, self._whole)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        state = whole_optimizer(self.optimizer)
        if self.args.should_save:
            torch.save(state, Path(output_dir) / OPTIMIZER_NAME)
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER_NAME)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            return
        assert self.optimizer is not None
        assert self.lr_scheduler is not None
        check_optimizer(Path(checkpoint), self.optimizer, self.lr_scheduler)
        # Mapped, so that no process reads more than it keeps.
        options: dict[str, Any] = {"map_location": "cpu", "weights_only": True}
        state = torch.load(Path(checkpoint) / OPTIMIZER_NAME, mmap=True, **options)
        self.optimizer.load_state_dict(shard_optimizer(state, self.optimizer))
        self.lr_scheduler.load_state_dict(torch.load(Path(checkpoint) / SCHEDULER_NAME, **options))
