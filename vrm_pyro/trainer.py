"""transformers' Trainer with this model's logs and learning rates."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.utils.data import DataLoader, Dataset, Sampler
from transformers import (
    EvalPrediction,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
    set_seed,
)
from transformers.trainer_utils import EvalLoopOutput, rotate_checkpoints

from vrm_pyro.batch import IDLE
from vrm_pyro.errors import InputError
from vrm_pyro.manifest import MANIFEST, StepShape, read_step, write_manifest
from vrm_pyro.processes import gather, is_main, rank, wait, world_size
from vrm_pyro.resume import load_weights, saving
from vrm_pyro.shares import EpochLoader, PromptShares, in_turn
from vrm_pyro.stopping import StopRequest
from vrm_pyro.training_module import TrainingModule
from vrm_pyro.tuning import TextModule, frozen_names

# Adam moves a parameter by about the learning rate a step, whatever its gradient. A few hundred
# steps of .001 take the logit of 2 eps from -2.2 (eps = .05) to -2.0, and eps = .3 is at .4.
LIKELIHOOD_STEP: Final = 20.0
_LIKELIHOOD: Final = "model.likelihood."


class Progress(TrainerCallback):
    """Tell the module how far training is; restored by a resume through the step count."""

    def __init__(self, module: TrainingModule | TextModule) -> None:
        self.module = module

    def on_step_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Set the share of the steps done."""
        self.module.progress = state.global_step / max(state.max_steps, 1)


class OwnNoise(TrainerCallback):
    """Give each process its own random draws, after all have built the same model.

    With the same ones, further processes would not make a gradient less noisy. The first process
    keeps the draws of one that is alone.
    """

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        """Seed this process; a resume puts the state of its checkpoint in place after that."""
        if rank() > 0:
            set_seed(args.seed + rank())


class ModelTrainer(Trainer):
    """transformers' Trainer for modules that return a loss per prompt.

    Several processes take the steps of one: the same prompts in a step, each of them once, and
    the loss a mean over all of them; evaluation gives the same numbers.

    Args:
        learning_rates: Learning rate of the parameters whose names begin so; the rest have
            ``learning_rate``.
        batches: Batches of an epoch, for this process; ``per_device_train_batch_size`` prompts
            in random order when omitted.
        stop: Asks training to stop.
        **kwargs: What transformers' Trainer takes.
    """

    def __init__(
        self,
        learning_rates: Mapping[str, float] | None = None,
        batches: Sampler[list[int]] | None = None,
        stop: StopRequest | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.learning_rates, self.batches = dict(learning_rates or {}), batches
        self.stop = stop or StopRequest()
        self.add_callback(self.stop)
        self.add_callback(OwnNoise())
        if batches is None and world_size() > 1:
            self.batches = self._shares()
        # The loss is a mean over prompts, here over those of all accumulated batches and all
        # processes: the number of prompts in a batch may differ.
        self.loss_is_scaled_for_ga = True

    def create_optimizer(self, *args: Any, **kwargs: Any) -> Optimizer:
        """Return the optimizer with the learning rates of the parts.

        Parameters of the likelihood step further and do not decay. They are a few scalars on a
        log or logit scale with priors of their own: weight decay would be a second prior, and one
        towards an arbitrary place.
        """
        assert self.model is not None
        fresh = self.optimizer is None
        optimizer: Optimizer = super().create_optimizer(*args, **kwargs)
        if not fresh:
            return optimizer
        names = {id(value): name for name, value in self.model.named_parameters()}
        for group in list(optimizer.param_groups):
            parts: dict[tuple[float, float], list[Any]] = {}
            for parameter in group["params"]:
                rate, decay = self.args.learning_rate, group["weight_decay"]
                name = names[id(parameter)]
                if _LIKELIHOOD in name:
                    rate, decay = LIKELIHOOD_STEP * rate, 0.0
                for prefix, own in self.learning_rates.items():
                    rate = own if name.startswith(prefix) else rate
                parts.setdefault((rate, decay), []).append(parameter)
            group["params"] = []
            for (rate, decay), parameters in parts.items():
                own_group = {"params": parameters, "lr": rate, "weight_decay": decay}
                if not group["params"]:
                    group.update(own_group)
                else:
                    optimizer.add_param_group(own_group)
        return optimizer

    def _shares(self) -> PromptShares:
        args, data = self.args, cast(Any, self.train_dataset)
        if args.train_sampling_strategy != "random":
            raise InputError(
                f"train.train_sampling_strategy is {args.train_sampling_strategy!r}, but several "
                "processes take prompts in random order: set it to random, or bound the tokens "
                "of a batch with tuning.max_batch_tokens."
            )
        seed = args.seed if args.data_seed is None else args.data_seed
        return PromptShares(
            len(data), args.train_batch_size, seed, rank(), world_size(), args.dataloader_drop_last
        )

    def get_train_dataloader(self) -> DataLoader[Any]:
        """Return the training batches, those of the sampler where there is one."""
        if self.batches is None:
            return super().get_train_dataloader()
        return self._loader(self.train_dataset, self.batches)

    def get_eval_dataloader(self, eval_dataset: Any = None) -> DataLoader[Any]:
        """Return this process's batches of those that one process goes through."""
        data: Any = self.eval_dataset if eval_dataset is None else eval_dataset
        batches = in_turn(len(data), self.args.eval_batch_size)
        return self._loader(data, batches[rank() :: world_size()])

    def _loader(self, data: Any, batches: Any) -> DataLoader[Any]:
        # Not prepared by accelerate: each process has its own share already.
        return EpochLoader(
            cast(Dataset[Any], data),
            batch_sampler=batches,
            collate_fn=self.data_collator,
            num_workers=self.args.dataloader_num_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _get_num_items_in_batch(self, batch_samples: list[Any], device: Any) -> Tensor:
        count = torch.tensor(
            [sum(_num_prompts(batch) for batch in batch_samples), self.stop.number], device=device
        )
        if self.args.world_size > 1:
            both = self.accelerator.gather(count[None])
            count = torch.stack([both[:, 0].sum(), both[:, 1].max()])
            self.stop.agreed = int(count[1])
        return count[0]

    def compute_loss(
        self,
        model: nn.Module,
        inputs: dict[str, Tensor],
        return_outputs: bool = False,
        num_items_in_batch: Tensor | int | None = None,
    ) -> Any:
        """Return the loss; in training its share of the mean over all prompts of a step."""
        count = _num_prompts(inputs)
        outputs = model(**{name: value for name, value in inputs.items() if name != IDLE})
        loss = outputs["loss"]
        if num_items_in_batch is not None:
            # Processes average their gradients; what is wanted is the sum of their shares.
            loss = loss * (count * self.accelerator.num_processes / num_items_in_batch)
        return (loss, outputs) if return_outputs else loss

    def evaluation_loop(
        self,
        dataloader: DataLoader[Any],
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """Evaluate the batches of this process, and put those of all together in order.

        So the numbers are those of one process, whatever the number of prompts: transformers fills
        up batches with items from the beginning.
        """
        module: Any = self.model
        if not self.accelerator._models:  # called without training before
            module = self.accelerator.prepare_model(module, evaluation_mode=True)
        # Not what wraps it for several processes: they may have different numbers of batches.
        module = self.accelerator.unwrap_model(module)
        module.eval()
        self.callback_handler.eval_dataloader = dataloader
        own: list[tuple[float, Any]] = []
        for batch in dataloader:
            # Not prediction_step: it counts over all processes, which may have other batches.
            with torch.no_grad(), self.compute_loss_context_manager():
                found = module(**self._prepare_inputs(batch))
            own.append((float(found["loss"]), found["sums"].float().cpu().numpy()))
            self.control = self.callback_handler.on_prediction_step(
                self.args, self.state, self.control
            )
        shares = gather(own)
        count = sum(map(len, shares))
        in_order = [shares[i % len(shares)][i // len(shares)] for i in range(count)]
        sums = np.concatenate([sums for _, sums in in_order])
        assert self.compute_metrics is not None
        metrics = self.compute_metrics(EvalPrediction(sums, cast(Any, None)))
        sizes = [len(sums) for _, sums in in_order]
        metrics["loss"] = float(np.average([loss for loss, _ in in_order], weights=sizes))
        named = {f"{metric_key_prefix}_{name}": value for name, value in metrics.items()}
        return EvalLoopOutput(sums, None, named, len(sums))

    def _save(
        self, output_dir: str | None = None, state_dict: dict[str, Tensor] | None = None
    ) -> None:
        """Write what is trained: not the weights of a frozen backbone."""
        assert self.model is not None
        left_out = frozen_names(self.accelerator.unwrap_model(self.model))
        state = self.model.state_dict() if state_dict is None else state_dict
        super()._save(output_dir, {k: v for k, v in state.items() if k not in left_out})

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint, then say what it consists of, and only then remove older ones."""
        run = Path(str(self.args.output_dir))
        folder = run / f"checkpoint-{self.state.global_step}"
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            with saving(folder):
                if is_main():
                    (folder / MANIFEST).unlink(missing_ok=True)  # of an earlier try of this step
                super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        wait()  # each process has written its random state
        if is_main():
            args = self.args
            step = StepShape(world_size(), args.train_batch_size, args.gradient_accumulation_steps)
            with saving(folder):
                write_manifest(folder, step)
            rotate_checkpoints(str(run), limit, self.state.best_model_checkpoint, use_mtime=True)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Put back the random state of this process, or begin another stream.

        With another number of processes no stored state is that of this one, and the seed alone
        would repeat the draws from the beginning of training.
        """
        if checkpoint is None:
            return
        if read_step(Path(checkpoint)).processes == world_size():
            super()._load_rng_state(checkpoint)
            return
        words = np.random.SeedSequence([self.args.seed, self.state.global_step, rank()])
        set_seed(int(words.generate_state(1)[0]))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        load_weights(
            self.accelerator.unwrap_model(model or self.model), Path(resume_from_checkpoint)
        )

    def _load_best_model(self) -> None:
        """Leave it to the caller, who finds the checkpoint by its number."""

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Add the parts of the objective since the last entry, a mean over all processes.

        Raises:
            InputError: If one of them is not finite.
        """
        if "loss" in logs:
            module: Any = self.accelerator.unwrap_model(self.model)
            shares = gather(module.take_log())
            parts = {name: sum(s[name] for s in shares) / len(shares) for name in shares[0]}
            if not all(map(math.isfinite, parts.values())):
                raise diverged(self.args)
            logs = {**logs, **parts}
        super().log(logs, start_time)


def _num_prompts(batch: Mapping[str, Tensor]) -> int:
    """Return the number of prompts in a batch that count, by its first entry."""
    return 0 if IDLE in batch else len(next(iter(batch.values())))


def diverged(arguments: TrainingArguments) -> InputError:
    """Return the error for numbers that are no longer finite."""
    return InputError(
        "Training diverged: its numbers are no longer finite. Lower train.learning_rate (it is "
        f"{arguments.learning_rate:g}) or train.max_grad_norm (it is {arguments.max_grad_norm:g})."
    )
