"""``vrm-pyro train``: rows or states in, a run folder out."""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import config_files, new_parser
from vrm_pyro.cli.settings import add_help_all, read_settings, run_parser, short_help
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.errors import InputError
from vrm_pyro.processes import is_main, part

if TYPE_CHECKING:
    from vrm_pyro.training.run.run import Run
    from vrm_pyro.training.run.settings import RunSettings


ABOUT: dict[str, Any] = {
    "description": "Train a reward model on rows of preferences (and ratings), or on states that "
    "features wrote. Into train.output_dir go the model, metrics.json, posterior.nc and "
    "config.yaml.",
    "examples": (
        "vrm-pyro train --data.train rows.jsonl --train.output_dir runs/first",
        "vrm-pyro train --config ratings --data.train rows.jsonl --train.output_dir runs/two",
        "vrm-pyro train --train.output_dir runs/first --train.resume_from_checkpoint true",
        "vrm-pyro train --config paper --print_config > my.yaml   # then edit and --config it",
    ),
    "more": "The default of --config is default. Shipped configs: default (preferences; ratings "
    "where rows have them), ratings (ratings on the scores of named objectives), paper "
    "(fixed priors, a guide that sees only the text), bradley_terry (one reward, no "
    "distribution: the baseline).\n\n"
    "First to try: model.backbone, data.validation, train.learning_rate, "
    "train.per_device_train_batch_size (prompts, not pairs). Settings under --train are those of "
    "transformers' TrainingArguments, some with other defaults. tuning.method lora or full trains "
    "the backbone. Settings of a class: --model.guide.help OutcomeAwareGuide. "
    "--help_all shows all settings.",
}


@cache
def build_parser() -> ArgumentParser:
    """Return the options of ``train``."""
    return _with_options(run_parser("train", **ABOUT))


def _with_options(parser: ArgumentParser) -> ArgumentParser:
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="Replace an existing run in train.output_dir, with all its files.",
    )
    add_help_all(parser)
    return parser


def run(argv: Sequence[str]) -> None:
    """Train, or resume a stopped run; alone or as one of several processes."""
    if "-h" in argv or "--help" in argv:
        print(short_help(_with_options(new_parser("train", **ABOUT))))
        return
    from vrm_pyro.training.run import run as training

    settings = _read(argv)
    assert settings.arguments.device is not None  # reading it joins the process group
    if not is_main():
        settings.arguments.disable_tqdm = True
    done = training.run(settings)
    if is_main():
        print(summary(done))
    part()  # not after a failure: processes must still agree on which one reports it


def summary(done: "Run") -> str:
    """Return the closing message: metrics, location and next step."""
    if not done.trained:
        return f"{done.path}: the run is finished; there is nothing to resume."
    return "\n".join(
        [
            f"validation: {done.summary()}",
            f"model, metrics and draws: {done.path}",
            f"next: vrm-pyro evaluate --model {done.path} --data TEST_ROWS --out metrics.json",
        ]
    )


def _read(argv: Sequence[str]) -> "RunSettings":
    from vrm_pyro.models.checkpoint import SETTINGS_FILE

    parser = build_parser()
    settings = read_settings(parser, argv)
    out = Path(str(settings.arguments.output_dir))
    # Its own settings are written there again.
    given = [name for name in config_files(argv) if Path(name).resolve() != out / SETTINGS_FILE]
    refuse_input_as_output(out, given, "--train.output_dir")
    named = any(item == "--config" or item.startswith("--config=") for item in argv)
    held = out / SETTINGS_FILE
    if settings.arguments.resume_from_checkpoint and not named and held.is_file():
        # To resume, the folder is enough: it holds the settings of the run.
        from vrm_pyro.models.settings.run_file import read_run_file, refuse_imports

        refuse_imports(read_run_file(held), held, argv)
        try:
            return read_settings(parser, ["--config", str(held), *argv])
        except InputError as error:
            known = str(error).startswith(str(held))
            raise error if known else InputError(f"{held}: {error}") from error
    return settings
