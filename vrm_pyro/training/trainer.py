"""transformers' Trainer with this model's loss scaling, learning rates, logs and checkpoints."""

import logging
import math
import shutil
from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from safetensors import SafetensorError
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from vrm_pyro.data.dataset import IDLE
from vrm_pyro.errors import InputError
from vrm_pyro.processes import from_all, is_main, wait_for_all
from vrm_pyro.training.checkpoint_files import check_optimizer, check_random, check_scaler
from vrm_pyro.training.distributed.global_batches import GlobalBatches, OrderOfEpochs
from vrm_pyro.training.distributed.validation import OwnShare, Totals
from vrm_pyro.training.finetuning import TextModule, TokenBatches, frozen_names
from vrm_pyro.training.finetuning.module import BACKBONE
from vrm_pyro.training.manifest import MANIFEST, StepShape, write_manifest
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.resume import disk_problem, load_weights

# Adam moves a parameter by about the learning rate a step, whatever its gradient. A few hundred
# steps of .001 take the logit of 2 eps from -2.2 (eps = .05) to -2.0, and eps = .3 is at .4. The
# log of beta moves by a third, and beta may have to grow fourfold.
LIKELIHOOD_STEP: Final = 20.0
_LIKELIHOOD: Final = (".likelihood.", ".ratings.", ".reward.log_scale")

log = logging.getLogger(__name__)


class Progress(TrainerCallback):
    """Tell the module the share of steps done; a resume restores it through the step count."""

    def __init__(self, module: TrainingModule | TextModule) -> None:
        self.module = module

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the share of the steps done."""
        self.module.progress = state.global_step / max(state.max_steps, 1)


class ModelTrainer(Trainer):
    """transformers' Trainer for modules that return a loss per prompt.

    Args:
        learning_rates: Learning rates by prefix of parameter names. Other parameters use
            ``train.learning_rate``.
        batches: Batches of an epoch for this process. Default: transformers' own, or
            :class:`GlobalBatches` on several processes.
        **kwargs: Arguments of transformers' Trainer.
    """

    #: Whether weights are sharded. All processes must then run the same forward passes.
    sharded = False

    def __init__(
        self,
        learning_rates: Mapping[str, float] | None = None,
        batches: TokenBatches | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.learning_rates = dict(learning_rates or {})
        self.batches: TokenBatches | GlobalBatches | None = batches
        if batches is None and self.args.world_size > 1:
            # transformers' own repeats prompts to make the last batch of an epoch full.
            self.batches = GlobalBatches(
                len(cast(Sized, self.train_dataset)),
                self.args.per_device_train_batch_size,
                self.args.seed if self.args.data_seed is None else self.args.data_seed,
                self.args.process_index,
                self.args.world_size,
                self.args.dataloader_drop_last,
            )
        if self.batches is not None:
            self.add_callback(OrderOfEpochs(self.batches))
        # compute_loss scales by the number of prompts in the whole step: the mean is over all
        # accumulated batches and processes, whose numbers of prompts may differ.
        self.loss_is_scaled_for_ga = True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Return the optimizer with one learning rate per part of the model.

        Parameters of the likelihood have a larger rate and no weight decay. They are a few
        scalars on a log or logit scale with their own priors. Weight decay would be a second
        prior, with an arbitrary mean.
        """
        assert self.model is not None
        fresh = self.optimizer is None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)
        if not fresh:
            return optimizer
        given = {id(value): g for g in optimizer.param_groups for value in g["params"]}
        # Use a fixed parameter order: transformers' order changes with sharding, and optimizer
        # state is matched by position.
        parts: dict[tuple[float, float, bool], dict[str, Any]] = {}
        for name, value in self.model.named_parameters():
            if id(value) not in given:
                continue
            rate, decay = self.args.learning_rate, given[id(value)]["weight_decay"]
            if any(part in name for part in _LIKELIHOOD):
                rate, decay = LIKELIHOOD_STEP * rate, 0.0
            for prefix, own in self.learning_rates.items():
                rate = own if name.startswith(prefix) else rate
            # The optimizer fuses a group, and cannot fuse shards with whole tensors.
            part = (rate, decay, name.startswith(BACKBONE))
            fresh_part = {**given[id(value)], "params": [], "lr": rate, "weight_decay": decay}
            parts.setdefault(part, fresh_part)["params"].append(value)
        optimizer.param_groups[:] = parts.values()
        return optimizer

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, from ``batches`` where given."""
        if self.batches is None:
            return super().get_train_dataloader()
        return self._loader(self.train_dataset, self.batches)

    def _loader(self, dataset: Any, batches: Sampler[list[int]]) -> DataLoader[Any]:
        # Not prepared by accelerate: the sampler already gives each process its own share.
        return DataLoader(
            cast(Dataset[Any], dataset),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor:
        count = torch.tensor(sum(_num_prompts(batch) for batch in batch_samples), device=device)
        if self.args.world_size > 1:
            count = self.accelerator.gather(count).sum()
        return count

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss; in training, this batch's part of the mean over a step's prompts."""
        count = _num_prompts(inputs)
        outputs = model(**{name: value for name, value in inputs.items() if name != IDLE})
        loss = outputs["loss"]
        if num_items_in_batch is not None:
            # Processes average their gradients, but the parts must be summed.
            loss = loss * (count * self.accelerator.num_processes / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return the validation batches of this process."""
        dataset: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        share = OwnShare(
            len(dataset),
            self.args.eval_batch_size,
            self.args.process_index,
            self.args.world_size,
            together=self.sharded,
        )
        return self._loader(dataset, share)

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Return the metrics over all prompts; only sums are kept, no value per pair or prompt."""
        model = cast(nn.Module, self.model)
        if not self.accelerator._models:  # called without training before
            model = self.accelerator.prepare_model(model, evaluation_mode=True)
        model.eval()
        totals = Totals(self.args.device)
        for inputs in dataloader:
            counts = inputs.pop(IDLE, None) is None
            # Not prediction_step: it gathers from all processes, and would wait forever for those
            # with fewer batches.
            with torch.no_grad(), self.compute_loss_context_manager():
                sums = model(**self._prepare_inputs(inputs))["sums"]
            if counts:
                totals.add(sums)
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        metrics, count = totals.metrics(self.args.world_size)
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(np.zeros(0), None, named, count)

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint, write its manifest, then remove older checkpoints.

        Raises:
            InputError: If the disk refuses the checkpoint; earlier ones stay.
        """
        run = Path(str(self.args.output_dir))
        folder = run / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            if is_main():
                (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier attempt
            super()._save_checkpoint(*args, **kwargs)
            wait_for_all()  # each process has written its random state
            if is_main():
                write_manifest(folder, self._step_shape())
                rotate_checkpoints(
                    str(run), limit, self.state.best_model_checkpoint, use_mtime=_has_ages(run)
                )
        except (OSError, RuntimeError, SafetensorError) as error:
            problem = disk_problem(folder, error)
            if problem is None:
                raise
            shutil.rmtree(folder, ignore_errors=True)
            raise problem from error
        finally:
            self.args.save_total_limit = limit

    def _step_shape(self) -> StepShape:
        args = self.args
        return StepShape(
            args.world_size, args.per_device_train_batch_size, args.gradient_accumulation_steps
        )

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write the trained weights, not those of a frozen backbone."""
        assert self.model is not None
        left_out = frozen_names(self.accelerator.unwrap_model(self.model))
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {k: v for k, v in state.items() if k not in left_out})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(
            self.accelerator.unwrap_model(model or self.model), Path(resume_from_checkpoint)
        )

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            check_optimizer(Path(checkpoint), self.optimizer, self.lr_scheduler)
        super()._load_optimizer_and_scheduler(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            check_scaler(Path(checkpoint), self.accelerator.scaler)
        super()._load_scaler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if checkpoint is not None:
            several = self.args.world_size > 1
            name = f"rng_state_{self.args.process_index}.pth" if several else "rng_state.pth"
            check_random(Path(checkpoint), name)
        super()._load_rng_state(checkpoint)

    def _load_best_model(self) -> None:
        """Do nothing: ``train`` finds the best checkpoint by its step."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the objective: means over steps since the last entry and processes.

        Raises:
            InputError: If a part is not finite.
        """
        if "loss" in logs:
            module: Any = self.accelerator.unwrap_model(self.model)
            shares = from_all(module.take_log())
            parts = {name: sum(s[name] for s in shares) / len(shares) for name in shares[0]}
            if not all(map(math.isfinite, parts.values())):
                raise diverged(self.args)
            logs = {**logs, **parts}
        super().log(logs, start_time)


def _has_ages(run: Path) -> bool:
    """Return whether checkpoints can be ordered by age; transformers warns if they cannot.

    Age is the better order: after a resume from an earlier checkpoint, a higher step may be
    older.
    """
    ages = [path.stat().st_mtime for path in run.glob("checkpoint-*")]
    return max(ages) - min(ages) >= 1.0


def _num_prompts(batch: Mapping[str, Tensor]) -> int:
    """Return the number of prompts in a batch, by its first entry; 0 for a dummy batch."""
    return 0 if IDLE in batch else len(next(iter(batch.values())))


def diverged(arguments: TrainingArguments) -> InputError:
    """Return the error for a loss that is not finite."""
    return InputError(
        "Training diverged: the loss is no longer finite. Lower train.learning_rate (it is "
        f"{arguments.learning_rate:g}) or train.max_grad_norm (it is {arguments.max_grad_norm:g})."
    )


def use_one_device(arguments: TrainingArguments) -> None:
    """Restrict a single process to one GPU.

    transformers would replicate the model over all GPUs within the process (DataParallel), which
    a Pyro program does not support.
    """
    if arguments.n_gpu > 1:
        log.warning(
            "There are %d GPUs; a single process uses one. To use all: torchrun "
            "--nproc_per_node %d scripts/train_svi.py, with the same options.",
            arguments.n_gpu,
            arguments.n_gpu,
        )
        arguments._n_gpu = 1
