"""Training by transformers.Trainer: early stopping, resume, logs."""

import math
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyro
import torch
from numpy.typing import NDArray
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from vrm_pyro.batch import FeatureSource, PromptDataset, collate, replace_parts
from vrm_pyro.build import build_model
from vrm_pyro.callbacks import StepBar, ValidateFirstSteps
from vrm_pyro.checkpoint import LoadedModel
from vrm_pyro.compatibility import check_program
from vrm_pyro.config import (
    DataFacts,
    ModelConfig,
    check_data,
    check_settings,
    objective_names,
    uses_ratings,
)
from vrm_pyro.errors import InputError
from vrm_pyro.global_batches import OwnNoise
from vrm_pyro.head_information import fit_laplace
from vrm_pyro.model import VRM
from vrm_pyro.networks import Standardize
from vrm_pyro.pair_checks import check_rankings, warn_ignored_margins, warn_rankings_as_pairs
from vrm_pyro.priors.base import FittedPrior
from vrm_pyro.processes import from_main, is_main, wait_for_all
from vrm_pyro.ratings import GaussianRatings, RatingLikelihood
from vrm_pyro.resume import (
    EarlyStopping,
    is_over,
    is_whole,
    load_weights,
    read_state,
)
from vrm_pyro.sharded_trainer import ShardedTrainer
from vrm_pyro.step_shares import find_start
from vrm_pyro.stopping import StopOnSignal
from vrm_pyro.trainer import ModelTrainer, Progress, diverged, use_one_device
from vrm_pyro.training_module import TrainingModule
from vrm_pyro.tuning import TextModule, Tuner
from vrm_pyro.tuning.tuner import SCALER_TEXTS


@dataclass
class TrainArguments(TrainingArguments):
    """transformers' TrainingArguments with defaults for small heads on frozen features.

    A batch is a number of *prompts*, each with all its responses and pairs.

    Args:
        early_stopping_patience: Evaluations without a better validation log loss before training
            stops; 0 never stops early.
    """

    output_dir: str | None = field(
        default="runs/model", metadata={"help": "Where checkpoints and the model are written."}
    )
    num_train_epochs: float = field(default=60.0, metadata={"help": "Most epochs to train."})
    per_device_train_batch_size: int = field(default=64, metadata={"help": "Prompts a step."})
    per_device_eval_batch_size: int = field(
        default=512, metadata={"help": "Prompts a batch in evaluation."}
    )
    learning_rate: float = field(default=1e-3, metadata={"help": "Initial learning rate."})
    weight_decay: float = field(default=0.1, metadata={"help": "AdamW weight decay."})
    max_grad_norm: float = field(default=5.0, metadata={"help": "Gradient clipping norm."})
    lr_scheduler_type: str = field(  # type: ignore[assignment]
        default="constant", metadata={"help": "Schedule; early stopping needs no decay."}
    )
    eval_strategy: str = field(default="epoch", metadata={"help": "When to evaluate."})
    save_strategy: str = field(default="epoch", metadata={"help": "When to save a checkpoint."})
    save_total_limit: int | None = field(
        default=2, metadata={"help": "Checkpoints kept, the best among them."}
    )
    logging_steps: float = field(default=10, metadata={"help": "Steps between log entries."})
    logging_first_step: bool = field(
        default=True, metadata={"help": "Log the first step too: short runs have a log then."}
    )
    load_best_model_at_end: bool = field(
        default=True, metadata={"help": "End with the best validation log loss."}
    )
    metric_for_best_model: str | None = field(
        default="log_loss", metadata={"help": "Which validation metric is best."}
    )
    greater_is_better: bool | None = field(
        default=False, metadata={"help": "Whether a larger metric is better."}
    )
    report_to: None | str | list[str] = field(
        default="none", metadata={"help": "Loggers, such as tensorboard or wandb."}
    )
    dataloader_pin_memory: bool = field(
        default=False, metadata={"help": "Pin memory; it warns where there is no GPU."}
    )
    ddp_timeout: int = field(
        default=10_800,
        metadata={"help": "Most seconds that processes wait for one that saves or reads alone."},
    )
    early_stopping_patience: int = field(
        default=5, metadata={"help": "Evaluations without improvement; 0 never stops early."}
    )


@dataclass
class TrainResult:
    """What training returns.

    Args:
        loaded: The best model with its settings.
        metrics: Validation metrics of the best model, and how training went.
        log_history: transformers' log entries.
    """

    loaded: LoadedModel
    metrics: dict[str, Any]
    log_history: list[dict[str, Any]]


def train(
    config: ModelConfig,
    arguments: TrainingArguments,
    train_source: FeatureSource,
    validation_source: FeatureSource,
    backbone: dict[str, Any] | None = None,
    callbacks: list[TrainerCallback] | None = None,
    tuner: Tuner | None = None,
) -> TrainResult:
    """Train a reward model on backbone states.

    Args:
        config: Settings of the model.
        arguments: Settings of the run; ``resume_from_checkpoint`` continues a stopped one with
            the same numbers as an uninterrupted run.
        train_source: States, pairs and ratings to train on.
        validation_source: States and pairs for early stopping.
        backbone: Facts of the backbone, kept in the checkpoint.
        callbacks: Further Trainer callbacks.
        tuner: Trains the backbone, too. The sources are then texts, see
            :func:`~vrm_pyro.tuning.read_texts`, and the facts are the tuner's.

    Raises:
        InputError: When settings and data do not fit.
    """
    check_settings(config)
    facts = data_facts(train_source)
    check_rankings(config, train_source)
    check_data(config, facts)
    if len(validation_source.pair_first) == 0:
        raise InputError("The validation rows hold no pair; early stopping needs preferences.")
    warn_ignored_margins(config, train_source)
    warn_rankings_as_pairs(config, train_source)
    objectives = objective_names(config, facts)
    rated = uses_ratings(config, facts)
    view = select_objectives(train_source, objectives if rated else ())
    loc, scale = rating_unit(view, type(config.rating_likelihood))
    use_one_device(arguments)
    set_seed(arguments.seed)
    hidden_size = train_source.responses.shape[1]
    if tuner is not None:
        tuner.place(arguments)
    model = build_model(config, hidden_size, len(objectives), rated)
    if isinstance(model, VRM):
        for notice in check_program(model, config.objective):
            warnings.warn(notice, stacklevel=2)
    items = useful_prompts(view, rated)
    fit_scalers(model, view, SCALER_TEXTS if tuner else None)
    if rated and isinstance(model, VRM):
        model.rating_loc.fill_(loc)
        model.rating_scale.fill_(scale)
    heads = TrainingModule(model, config, len(items))
    module = heads if tuner is None else tuner.wrap(heads, arguments)
    dataset = PromptDataset if tuner is None else tuner.dataset
    train_data = dataset(view, loc, scale, items)
    validation_view = select_objectives(validation_source, objectives if rated else ())
    validation_items = useful_prompts(validation_view, False)
    validation_data = dataset(validation_view, loc, scale, validation_items)
    arguments.label_names = ["pair_weight"]  # tells the Trainer that forward returns a loss
    patience = getattr(arguments, "early_stopping_patience", 0)
    checkpoint = find_start(arguments, bool(tuner and tuner.config.max_batch_tokens))
    stop = StopOnSignal()
    own_callbacks = [Progress(module), EarlyStopping(patience), ValidateFirstSteps()]
    own_callbacks += [OwnNoise(), stop]
    kind = ShardedTrainer if tuner is not None and tuner.shards else ModelTrainer
    trainer = kind(
        model=module,
        args=arguments,
        train_dataset=train_data,
        eval_dataset=validation_data,
        data_collator=collate,
        callbacks=[*own_callbacks, *(callbacks or [])],
        learning_rates=None if tuner is None else tuner.learning_rates,
        batches=None if tuner is None else tuner.batches(train_data, arguments),
    )
    trainer.remove_callback(PrinterCallback)
    if trainer.pop_callback(ProgressCallback) is not None:
        trainer.add_callback(StepBar())
    with pyro.validation_enabled(True):  # until the callback switches it off; restored after
        with stop.listening():
            runtime = _run(trainer, module, arguments, patience, checkpoint)
        module.eval()
        if isinstance(model, VRM):
            on_states = PromptDataset(view, loc, scale, items)
            fit_laplace(model, on_states, progress=is_main() and not arguments.disable_tqdm)
        evaluation = trainer.evaluate()
    metrics: dict[str, Any] = {
        **evaluation,
        "best_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "train_runtime": runtime,
    }
    if not math.isfinite(metrics["eval_log_loss"]):
        raise diverged(arguments)
    facts_now = dict(backbone or {}) if tuner is None else tuner.facts()
    loaded = LoadedModel(model, config, objectives, rated, facts_now)
    return TrainResult(loaded, metrics, trainer.state.log_history)


def data_facts(source: FeatureSource) -> DataFacts:
    """Return what the settings have to fit."""
    pairs = len(source.pair_first)
    busiest = 0
    if pairs:
        uses = np.bincount(np.asarray(source.pair_first), minlength=len(source.response_prompt))
        uses = uses + np.bincount(np.asarray(source.pair_second), minlength=len(uses))
        busiest = int(uses.max())
    observed = [
        bool((~np.isnan(source.ratings[:, k])).any()) for k in range(len(source.objectives))
    ]
    rated = tuple(name for name, seen in zip(source.objectives, observed, strict=True) if seen)
    return DataFacts(rated, busiest, pairs)


def select_objectives(source: FeatureSource, objectives: tuple[str, ...]) -> FeatureSource:
    """Return the source with just these objectives' ratings, in this order; none for ().

    An objective that the source does not rate becomes a column of missing ratings.
    """
    if tuple(source.objectives) == objectives:
        return source
    ratings = np.full((len(source.response_prompt), len(objectives)), np.nan)
    for column, name in enumerate(objectives):
        if name in source.objectives:
            ratings[:, column] = source.ratings[:, source.objectives.index(name)]
    return replace_parts(source, ratings=ratings, objectives=objectives)


def rating_unit(
    source: FeatureSource, likelihood: type[RatingLikelihood] = GaussianRatings
) -> tuple[float, float]:
    """Return location and scale of all ratings together: one unit per data set (spec 2.5)."""
    values = np.asarray(source.ratings)
    return likelihood.unit(values[~np.isnan(values)])


def useful_prompts(source: FeatureSource, rated: bool) -> NDArray[np.int64]:
    """Return the prompts that have a pair, or a rating where ratings count."""
    response_prompt = np.asarray(source.response_prompt)
    useful = np.zeros(source.prompts.shape[0], dtype=bool)
    useful[response_prompt[np.asarray(source.pair_first)]] = True
    if rated:
        has_rating = ~np.isnan(np.asarray(source.ratings)).all(axis=1)
        useful[response_prompt[has_rating]] = True
    return np.flatnonzero(useful)


def fit_scalers(
    model: torch.nn.Module, source: FeatureSource, num_texts: int | None = None
) -> None:
    """Set the input standardisation from the training states, read in slices.

    Args:
        model: The heads.
        source: Training states.
        num_texts: Use so many prompts and responses drawn at random; all when omitted.
    """
    for name, states in (("prompt_scaler", source.prompts), ("response_scaler", source.responses)):
        scaler = getattr(model, name, None)
        if isinstance(scaler, Standardize):
            mean, deviation = _streamed_moments(states, num_texts)
            scaler.set_statistics(mean, deviation)
    prior = getattr(model, "weight_prior", None)
    if isinstance(prior, FittedPrior):
        rows = torch.randperm(source.prompts.shape[0])[: prior.num_states].sort().values
        chosen = torch.from_numpy(np.asarray(source.prompts[rows.numpy()], dtype=np.float32))
        rated = torch.from_numpy(rated_objectives(source))[rows]
        prior.fit_states(model.get_submodule("prompt_scaler")(chosen), rated)


def rated_objectives(source: FeatureSource) -> NDArray[np.bool_]:
    """Return whether any response of a prompt is rated on an objective, shape (P, objectives)."""
    rated = np.zeros((source.prompts.shape[0], len(source.objectives)), dtype=bool)
    observed = ~np.isnan(np.asarray(source.ratings))
    np.logical_or.at(rated, np.asarray(source.response_prompt), observed)
    return rated


def _streamed_moments(
    states: Any, num_texts: int | None, rows: int = 8192
) -> tuple[torch.Tensor, torch.Tensor]:
    count, total, square = 0, 0.0, 0.0
    chosen = np.arange(states.shape[0])
    if num_texts is not None:
        chosen = torch.randperm(len(chosen))[:num_texts].sort().values.numpy()
    for start in range(0, len(chosen), rows):
        index = chosen[start : start + rows]
        block = np.asarray(states[index], dtype=np.float64)
        count, total, square = (
            count + len(block),
            total + block.sum(0),
            square + (block**2).sum(0),
        )
    mean = total / count
    variance = np.maximum(square / count - mean**2, 0.0)
    return torch.from_numpy(np.asarray(mean)), torch.from_numpy(np.sqrt(variance))


def _run(
    trainer: ModelTrainer,
    module: TrainingModule | TextModule,
    arguments: TrainingArguments,
    patience: int,
    checkpoint: str | None,
) -> float:
    """Train to the end or find that it was reached before; return the seconds it took.

    Leaves the best weights in the module, if there is a checkpoint of them.
    """
    seconds = 0.0
    reached = None if checkpoint is None else read_state(Path(checkpoint))
    if reached is not None and is_over(arguments, reached, patience):
        # Stopped after its last step but before its end: the Trainer would take one step more.
        trainer.state = reached
        load_weights(module, Path(str(checkpoint)))
    else:
        try:
            outcome = trainer.train(resume_from_checkpoint=checkpoint)
        except ValueError as error:
            # States are finite, so what a distribution refuses comes from the weights.
            if not str(error).startswith("Expected parameter"):
                raise
            raise diverged(arguments) from error
        seconds = outcome.metrics["train_runtime"]
    wait_for_all()  # the main process writes the checkpoints
    if arguments.load_best_model_at_end and trainer.state.best_global_step:
        # By number: the path that the Trainer notes is wrong once a run was moved.
        name = f"checkpoint-{trainer.state.best_global_step}"
        best = Path(str(arguments.output_dir)) / name
        if not from_main(lambda: is_whole(best)):
            raise InputError(
                f"{best}: the checkpoint with the best validation log loss is gone or damaged. "
                "Train again with --overwrite."
            )
        load_weights(module, best)
    return seconds
