"""Train a reward model with transformers.Trainer: early stopping, resume, logs."""

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyro
from transformers import (
    PrinterCallback,
    ProgressCallback,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from vrm_pyro.data.dataset import PromptDataset, collate
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.gate import GateModel
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.compatibility import check_program
from vrm_pyro.models.settings.config import (
    ModelConfig,
    check_data,
    check_settings,
    num_named,
    objective_names,
    uses_ratings,
)
from vrm_pyro.models.settings.row_checks import (
    check_rankings,
    warn_ignored_margins,
    warn_rankings_as_pairs,
)
from vrm_pyro.processes import from_main, is_main, wait_for_all
from vrm_pyro.training.align_members import align_members
from vrm_pyro.training.callbacks import StepBar, ValidateFirstSteps
from vrm_pyro.training.distributed.global_batches import OwnNoise
from vrm_pyro.training.distributed.step_shares import find_start
from vrm_pyro.training.finetuning import TextModule, Tuner, check_tuned
from vrm_pyro.training.finetuning.tuner import SCALER_TEXTS
from vrm_pyro.training.gate_scores import fit_gate_scores
from vrm_pyro.training.laplace_fit import fit_laplace
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.preparation import (
    check_validation,
    data_facts,
    fit_scalers,
    has_pairs,
    rating_ranges,
    rating_unit,
    stop_by_ratings,
    useful_prompts,
)
from vrm_pyro.training.recalibration import recalibrate
from vrm_pyro.training.resume import EarlyStopping, is_over, is_whole, load_weights, read_state
from vrm_pyro.training.sharded_trainer import ShardedTrainer
from vrm_pyro.training.stopping import StopOnSignal
from vrm_pyro.training.trainer import ModelTrainer, Progress, diverged, use_one_device


@dataclass
class TrainResult:
    """The result of training.

    Args:
        loaded: The best model with its settings.
        metrics: Validation metrics of the best model, its step, steps taken and seconds.
        log_history: transformers' log entries.
    """

    loaded: LoadedModel
    metrics: dict[str, Any]
    log_history: list[dict[str, Any]]


def train(
    config: ModelConfig,
    arguments: TrainingArguments,
    train_source: FeatureSource | Inputs,
    validation_source: FeatureSource | Inputs,
    backbone: dict[str, Any] | None = None,
    callbacks: list[TrainerCallback] | None = None,
    tuner: Tuner | None = None,
) -> TrainResult:
    """Train a reward model on backbone states; :func:`vrm_pyro.fit` starts from rows.

    Args:
        config: Settings of the model.
        arguments: Settings of the run. ``resume_from_checkpoint`` resumes an interrupted run,
            with the numbers of an uninterrupted one.
        train_source: States, pairs and ratings to train on, such as ``encode_table`` returns.
        validation_source: States and pairs for early stopping; ratings alone, where no pair is
            trained on.
        backbone: Facts of the backbone, kept in the checkpoint.
        callbacks: Further Trainer callbacks.
        tuner: Trains the backbone as well. Sources must then come from
            :func:`~vrm_pyro.training.finetuning.read_texts`; ``backbone`` is ignored.

    Raises:
        InputError: If settings and data do not fit.
    """
    known, other = (
        rows.source if isinstance(rows, Inputs) else rows
        for rows in (train_source, validation_source)
    )
    check_settings(config)
    if tuner is not None:
        check_tuned(config)
    check_rankings(config, known)
    check_data(config, data_facts(known))
    check_validation(config, data_facts(known), other)
    return train_checked(config, arguments, known, other, backbone, callbacks, tuner)


def train_checked(
    config: ModelConfig,
    arguments: TrainingArguments,
    train_source: FeatureSource,
    validation_source: FeatureSource,
    backbone: dict[str, Any] | None = None,
    callbacks: list[TrainerCallback] | None = None,
    tuner: Tuner | None = None,
) -> TrainResult:
    """Train as :func:`train` does, on settings and rows that were checked before."""
    facts = data_facts(train_source)
    warn_ignored_margins(config, train_source)
    warn_rankings_as_pairs(config, train_source)
    objectives = objective_names(config, facts)
    rated = uses_ratings(config, facts)
    view = with_objectives(train_source, objectives if rated else ())
    loc, scale = rating_unit(view, type(config.rating_likelihood))
    use_one_device(arguments)
    set_seed(arguments.seed)
    hidden_size = train_source.responses.shape[1]
    if tuner is not None:
        tuner.place(arguments)
    model = build_model(config, hidden_size, len(objectives), rated)
    for notice in check_program(model, config.objective):
        warnings.warn(notice, stacklevel=2)
    items = useful_prompts(view, rated)
    fit_scalers(model, view, SCALER_TEXTS if tuner else None)
    if rated:
        model.set_rating_unit(loc, scale)
    if isinstance(model, GateModel):
        fit_gate_scores(model, view)
    heads = TrainingModule(model, config, len(items))
    module = heads if tuner is None else tuner.wrap(heads, arguments)
    dataset = PromptDataset if tuner is None else tuner.dataset
    train_data = dataset(view, loc, scale, items)
    validation_view = with_objectives(validation_source, objectives if rated else ())
    alone = not has_pairs(validation_view)
    validation_items = useful_prompts(validation_view, rated=alone)
    validation_data = dataset(validation_view, loc, scale, validation_items)
    arguments.label_names = ["pair_weight"]  # tells the Trainer that forward returns a loss
    if alone:
        stop_by_ratings(arguments)
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
        on_states = PromptDataset(view, loc, scale, items)
        show = is_main() and not arguments.disable_tqdm
        fit_laplace(model, on_states, progress=show)
        align_members(model, on_states, num_named(config, facts))
        scales = {}
        if config.can_recalibrate and tuner is None:
            found = [
                recalibrate(member, validation_view, arguments.seed, show)
                for member in latent_members(model)
            ]
            scales = {"scales": found[0] if len(found) == 1 else found}
        evaluation = trainer.evaluate()
    metrics: dict[str, Any] = {
        **evaluation,
        "best_step": trainer.state.best_global_step,
        "steps": trainer.state.global_step,
        "train_runtime": runtime,
        **scales,
    }
    if not math.isfinite(metrics["eval_rating_log_score" if alone else "eval_log_loss"]):
        raise diverged(arguments)
    facts_now = dict(backbone or {}) if tuner is None else tuner.facts()
    # Ratings with a level of each prompt's own give scores no level to compare a range with.
    leveled = model.scores_are_ratings and config.rating_likelihood.levels_known
    ranges = rating_ranges(view) if leveled else {}
    loaded = LoadedModel(model, config, objectives, rated, facts_now, rating_ranges=ranges)
    return TrainResult(loaded, metrics, trainer.state.log_history)


def _run(
    trainer: ModelTrainer,
    module: TrainingModule | TextModule,
    arguments: TrainingArguments,
    patience: int,
    checkpoint: str | None,
) -> float:
    """Train, unless the checkpoint has finished training; return the seconds it took.

    Afterwards the module holds the weights of the best checkpoint, if there is one.
    """
    seconds = 0.0
    reached = None if checkpoint is None else read_state(Path(checkpoint))
    if reached is not None and is_over(arguments, reached, patience):
        # Interrupted between last step and end: the Trainer would take one more step.
        trainer.state = reached
        load_weights(module, Path(str(checkpoint)))
    else:
        try:
            outcome = trainer.train(resume_from_checkpoint=checkpoint)
        except ValueError as error:
            # States are finite, so parameters that a distribution rejects mean diverged weights.
            if not str(error).startswith("Expected parameter"):
                raise
            raise diverged(arguments) from error
        seconds = outcome.metrics["train_runtime"]
    wait_for_all()  # the main process writes the checkpoints
    if arguments.load_best_model_at_end and trainer.state.best_global_step:
        # By step: the path in the Trainer's state is wrong after a run was moved.
        name = f"checkpoint-{trainer.state.best_global_step}"
        best = Path(str(arguments.output_dir)) / name
        if not from_main(lambda: is_whole(best)):
            raise InputError(
                f"{best}: the checkpoint with the best validation log loss is gone or damaged. "
                "Train again with --overwrite."
            )
        load_weights(module, best)
    return seconds
