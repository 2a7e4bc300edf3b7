"""Read the settings of a run: a config and its overrides."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from os import PathLike
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from vrm_pyro.data.artefacts import load_yaml
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.models.settings.own_classes import find_own_classes
from vrm_pyro.models.settings.tables import TABLES
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.finetuning import TuningConfig, check_tuned, check_tuning
from vrm_pyro.training.run.config_files import ConfigFile, config_path, short_class_names
from vrm_pyro.training.run.messages import UsageError, check_texts, options_of, readable
from vrm_pyro.training.run.optimization import check_optimization
from vrm_pyro.training.run.settings import RunSettings, check_arguments

DEFAULT_CONFIG = "default"
GROUPS = ("model", "data", "tuning", "train")

# Settings that may be null, by group; in ``train`` transformers decides.
_MAY_BE_NULL = {
    "model": ("layer", "max_length", "recalibrate"),
    "data": ("train", "validation", "test", "schema", "columns", "date"),
    "tuning": (),
}


def read_settings(
    config: str | PathLike[str] | ModelConfig = DEFAULT_CONFIG,
    overrides: Mapping[str, Any] | None = None,
    parser: ArgumentParser | None = None,
) -> RunSettings:
    """Return checked settings from a config and its overrides.

    >>> settings = read_settings("ratings", {"model.latent_dim": 4, "data.train": "rows.jsonl"})
    >>> settings.model.latent_dim, settings.model.objective
    (4, 'integrated')

    Args:
        config: Name of a shipped config, path of a YAML file, or a ``ModelConfig``, which is
            combined with the other settings of ``default``.
        overrides: Values by dotted key, such as ``{"train.learning_rate": 3e-4}``.
        parser: From :func:`settings_parser`, to read many settings faster.

    Raises:
        InputError: If a setting does not exist or is wrong for any rows.
    """
    parser = parser or settings_parser()
    values = dict(overrides or {})
    if isinstance(config, ModelConfig):
        own = {f"model.{item.name}": getattr(config, item.name) for item in fields(config)}
        config, values = DEFAULT_CONFIG, {**own, **values}
    known = options_of(parser)
    for key in values:
        # Settings of a class, such as model.guide.init_args.weights, are not options.
        of_class = key.startswith(tuple(f"model.{name}.init_args." for name in TABLES))
        if f"--{key}" not in known and not of_class:
            raise UsageError(readable(f"unrecognized arguments: --{key}", known))
    options = [f"--{key}={_as_text(value)}" for key, value in values.items()]
    try:
        parsed = parser.parse_args([f"--config={config_path(str(config))}", *options])
        check_texts(parsed.as_dict())
    except InputError:
        raise
    except RecursionError as error:
        raise UsageError("a setting is nested too deeply.") from error
    except (ArgumentError, TypeError, ValueError, KeyError) as error:
        raise UsageError(readable(error, known)) from error
    return settings_of(parser, parsed)


def settings_parser() -> ArgumentParser:
    """Return a parser of the settings of a run, made once."""
    find_own_classes()
    return _settings_parser()


@cache
def _settings_parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False, allow_abbrev=False)
    parser.add_argument("--config", action=ConfigFile)
    add_settings(parser)
    return parser


def add_settings(parser: ArgumentParser, data: type[DataConfig] = DataConfig) -> None:
    """Add the groups ``model``, ``data``, ``tuning`` and ``train`` to a parser.

    Args:
        parser: The parser.
        data: Class of the data settings.
    """
    # Refuse, not warn about, what jsonargparse denies (os, subprocess, builtins, ...): a config
    # from somebody else must not run a program. Setting any entry has this effect.
    set_parsing_settings(import_path_denylist=["os"])
    parser.add_class_arguments(ModelConfig, "model")
    parser.add_class_arguments(data, "data")
    parser.add_class_arguments(TuningConfig, "tuning")
    # Built by hand below, because transformers' messages do not name the setting.
    parser.add_class_arguments(TrainArguments, "train", instantiate=False)


def settings_of(parser: ArgumentParser, parsed: Namespace) -> RunSettings:
    """Return checked settings from parsed options.

    Args:
        parser: A parser with the groups of :func:`add_settings`.
        parsed: Its result.

    Raises:
        InputError: If settings are wrong for any rows.
    """
    # Validated when it was parsed.
    dumped = parser.dump(parsed, skip_unset=False, skip_validation=True)
    text = load_yaml(short_class_names(dumped))
    values = {key: text[key] for key in GROUPS}
    _refuse_null(values)
    try:
        made = parser.instantiate(parsed)
    except InputError:
        raise
    except (ArgumentError, TypeError, ValueError, ImportError) as error:
        raise UsageError(readable(error, options_of(parser))) from error
    check_settings(made.model)
    check_tuning(made.tuning)
    if made.tuning.method != "frozen":
        check_tuned(made.model)
    arguments = _arguments(values["train"])
    check_arguments(arguments)
    if arguments.gradient_checkpointing and made.tuning.method == "frozen":
        raise InputError(
            "train.gradient_checkpointing is True, but heads keep no activations worth computing "
            "again; it is for a backbone that is trained (tuning.method lora or full)."
        )
    check_optimization(arguments)
    overwrite = bool(parsed.get("overwrite", False))
    return RunSettings(made.model, made.data, arguments, made.tuning, values, overwrite)


def _refuse_null(values: Mapping[str, Mapping[str, Any]]) -> None:
    for group, optional in _MAY_BE_NULL.items():
        for name, value in values[group].items():
            if value is None and name not in optional:
                raise InputError(
                    f"{group}.{name} is null. Give a value, or leave the line out for the default."
                )


def _arguments(values: dict[str, Any]) -> TrainArguments:
    if not values["output_dir"]:
        raise InputError("train.output_dir is empty; name the folder of the run.")
    try:
        arguments = TrainArguments(**values)
    except Exception as error:  # torch and transformers raise many kinds
        message = " ".join(str(error).split()).replace("--", "train.")
        name = _at_fault(values)
        where = f" (train.{name})" if name and f"train.{name}" not in message else ""
        raise InputError(f"settings of train{where}: {message}") from error
    # Absolute, because transformers stores paths of checkpoints and the working folder may change.
    arguments.output_dir = str(Path(arguments.output_dir or "").resolve())
    return arguments


def _at_fault(values: Mapping[str, Any]) -> str:
    """Return the setting without which arguments are taken; transformers does not always say."""
    usual = {item.name: item.default for item in fields(TrainArguments)}
    for name, value in values.items():
        if name != "output_dir" and value != usual.get(name):
            try:
                TrainArguments(**{key: held for key, held in values.items() if key != name})
            except Exception:  # noqa: BLE001 - the fault is another setting
                continue
            return name
    return ""


def _as_text(value: Any) -> str:
    """Return a value in the syntax of the command line."""
    if isinstance(value, str | PathLike):
        return str(value)
    if is_dataclass(value) and not isinstance(value, type):
        cls = type(value)
        known = any(cls in table.values() for table in TABLES.values())
        path = cls.__name__ if known else f"{cls.__module__}.{cls.__qualname__}"
        return json.dumps({"class_path": path, "init_args": asdict(value)})
    if isinstance(value, Sequence):
        return json.dumps([str(v) if isinstance(v, PathLike) else v for v in value])
    try:
        return json.dumps(value)
    except TypeError as error:
        raise UsageError(
            f"settings: {value!r} is a {type(value).__name__}; give a number, a text, a list of "
            "these, or a prior, guide or likelihood."
        ) from error
