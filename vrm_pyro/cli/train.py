"""``vrm-pyro train``: rows or states in, a run folder out."""

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser
from transformers import set_seed

from vrm_pyro.backbone import Backbone, choose_precision
from vrm_pyro.batch import FeatureSource
from vrm_pyro.cli.inputs import read_backbone
from vrm_pyro.cli.results import Save, write_results
from vrm_pyro.cli.run_directory import SETTINGS_FILE, RunDirectory
from vrm_pyro.cli.settings import RunSettings, read_settings, run_parser
from vrm_pyro.cli.training_inputs import TrainingRows, adopt_store
from vrm_pyro.config import check_data, check_data_settings
from vrm_pyro.features import FeatureStore, encode_table
from vrm_pyro.pair_checks import check_rankings, count_ignored_margins
from vrm_pyro.processes import from_main, is_main, num_processes, part
from vrm_pyro.sources import Inputs
from vrm_pyro.train import train
from vrm_pyro.tuning import Tuner

log = logging.getLogger(__name__)

TOKENIZER = "tokenizer"


def build_parser() -> ArgumentParser:
    """Return the options of ``train``."""
    parser = run_parser(
        "train",
        "Train a reward model on rows of preferences (and ratings), or on states that features "
        "wrote. Into train.output_dir go the model, metrics.json, posterior.nc and config.yaml.",
        examples=(
            "vrm-pyro train --data.train rows.jsonl --train.output_dir runs/first",
            "vrm-pyro train --config ratings --data.train rows.jsonl --train.output_dir runs/two",
            "vrm-pyro train --train.output_dir runs/first --train.resume_from_checkpoint true",
            "vrm-pyro train --config paper --print_config > my.yaml   # then edit and --config it",
        ),
        more="Without --config it is default. Shipped configs: default (preferences; ratings "
        "where rows have them), ratings (ratings on the scores of named objectives), paper "
        "(fixed priors, a guide that sees the text alone), bradley_terry (one reward, no "
        "distribution: the baseline).\n\n"
        "First to try: data.validation, train.learning_rate, train.num_train_epochs, "
        "train.per_device_train_batch_size (prompts, not pairs), model.latent_dim, "
        "model.backbone. Settings under --train are those of transformers' TrainingArguments, "
        "with other defaults for some. tuning.method lora or full trains the backbone, too. "
        "Settings of a class: --model.guide.help OutcomeAwareGuide.",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace a run that lies in train.output_dir, with all its files.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Train, or go on with a run that was stopped; alone or as one of several processes."""
    settings = _read(argv)
    assert settings.arguments.device is not None  # asked for, it makes the processes meet
    if not is_main():
        settings.arguments.disable_tqdm = True
    _run(settings)
    part()  # not after a failure: processes still have to agree on who says what happened


def _run(settings: RunSettings) -> None:
    data, arguments = settings.data, settings.arguments
    check_data_settings(data)
    resume = arguments.resume_from_checkpoint not in (None, False, "false", "False", "")
    directory = from_main(
        lambda: RunDirectory(
            str(arguments.output_dir), overwrite=settings.given.overwrite, resume=resume
        )
    )
    directory.protect([data.train, data.validation])
    if directory.finished and resume:
        directory.check_same(settings.values)
        if is_main():
            print(f"{directory.path}: the run is finished; there is nothing to resume.")
        return
    rows = TrainingRows.read(data)
    adopt_store(settings.model, rows.stores)
    for name in ("backbone", "pooling", "max_length"):
        settings.values["model"][name] = getattr(settings.model, name)
    check_rankings(settings.model, cast(FeatureSource, rows.train.table))
    check_data(settings.model, rows.facts())
    tuned = settings.tuning.method != "frozen"
    backbone = _backbone(settings) if rows.needs_backbone or tuned else None
    if backbone is not None:
        for store in rows.stores:
            store.check_key(backbone.key())
    savers = [_tokenizer(backbone, rows.stores)]
    settings.values["train"]["resume_from_checkpoint"] = None
    from_main(lambda: directory.claim(settings.values, settings.yaml()))
    if tuned:
        assert backbone is not None
        set_seed(arguments.seed)  # adapters start at random
        tuner = Tuner(settings.tuning, backbone)
        states = rows.texts(backbone)
        result = train(
            settings.model, arguments, states.train, states.validation.source, tuner=tuner
        )
        tuner.gather()
        savers.append(tuner.save)
    else:
        states = rows.encoded(backbone, directory.path)
        validation = states.validation
        result = train(settings.model, arguments, states.train, validation.source, states.backbone)
    if tuned and (is_main() or tuner.shards):  # shards compute together
        assert backbone is not None
        table = states.validation.table
        validation = Inputs.of(encode_table(table, backbone, progress=is_main()))
    if not is_main():
        return  # one process writes the results
    facts = {
        "train_prompts": int(states.train.prompts.shape[0]),
        "train_pairs": len(states.train.pair_first),
        "rows": count_ignored_margins(settings.model, rows.train.table.report).as_dict(),
        "labels_are_function_of_ratings": rows.check.is_function,
    }
    metrics = write_results(directory.path, result, validation, savers, facts)
    print(summary(directory.path, metrics))


def summary(directory: Path, metrics: dict[str, Any]) -> str:
    """Return what the user reads at the end: how good, where, and what next."""
    rates = ", ".join(
        f"{words} {metrics[name]:.3f}" + ("" if se is None else f" +- {se:.3f}")
        for name, words in (("accuracy", "accuracy"), ("log_loss", "log loss"), ("ece", "ECE"))
        for se in [metrics[f"{name}_se"]]
    )
    return "\n".join(
        [
            f"validation: {rates} ({metrics['n_pairs']} pairs of {metrics['n_prompts']} prompts)",
            f"model, metrics and draws: {directory}",
            f"next: vrm-pyro evaluate --model {directory} --data TEST_ROWS --out metrics.json",
        ]
    )


def _read(argv: Sequence[str]) -> RunSettings:
    parser = build_parser()
    settings = read_settings(parser, argv)
    named = any(item == "--config" or item.startswith("--config=") for item in argv)
    held = Path(str(settings.arguments.output_dir)) / SETTINGS_FILE
    if settings.arguments.resume_from_checkpoint and not named and held.is_file():
        # To resume, the folder is enough: it knows what it was started with.
        return read_settings(parser, ["--config", str(held), *argv])
    return settings


def _backbone(settings: RunSettings) -> Backbone:
    device = "cpu" if settings.arguments.use_cpu else "auto"
    dtype: str = settings.model.dtype
    if settings.tuning.shard and num_processes() > 1:
        # Whole, it may fit no device. What computes it decides the precision all the same.
        device, dtype = "cpu", choose_precision(dtype, settings.arguments.device)
    return read_backbone(
        settings.model.backbone,
        pooling=settings.model.pooling,
        max_length=settings.model.max_length,
        dtype=dtype,
        device=device,
    )


def _tokenizer(backbone: Backbone | None, stores: list[FeatureStore]) -> Save:
    """Return what writes the tokenizer that the model's texts were read with."""
    held = None if backbone is not None else stores[0].path / TOKENIZER
    if held is not None and not held.is_dir():
        meta = stores[0].meta
        backbone = read_backbone(
            meta["backbone"]["name"],
            pooling=meta["key"]["pooling"],
            max_length=meta["key"]["max_length"],
        )
        stores[0].check_key(backbone.key())

    def save(folder: Path) -> None:
        if backbone is not None:
            backbone.tokenizer.save_pretrained(folder)
        elif held is not None:
            shutil.copytree(held, folder, dirs_exist_ok=True)

    return save
