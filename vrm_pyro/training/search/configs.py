"""The configs of a search: base settings, those of a trial, and the config of a choice."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from os import PathLike
from pathlib import Path
from typing import Any

import yaml
from jsonargparse import ArgumentParser

from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.data_config import DataConfig, check_data_settings
from vrm_pyro.training.run.fit import IN_MEMORY
from vrm_pyro.training.run.read_settings import read_settings, settings_parser
from vrm_pyro.training.run.settings import RunSettings
from vrm_pyro.training.search.space import Space, SpaceLike, read_spaces, space_name

ConfigLike = str | PathLike[str] | ModelConfig
ConfigsLike = ConfigLike | Sequence[ConfigLike] | Mapping[str, ConfigLike]


@dataclass(frozen=True)
class Candidate:
    """A config whose settings are searched.

    Args:
        name: Its name in tables and folders.
        config: Name, path or model settings.
        given: Settings that hold for all trials, by dotted key.
        base: Settings of a run with these, before any is searched.
        space: What is searched.
        parser: Reads settings.
    """

    name: str
    config: ConfigLike
    given: Mapping[str, Any]
    base: RunSettings
    space: Space
    parser: ArgumentParser

    def settings(self, values: Mapping[str, Any]) -> RunSettings:
        """Return the settings of a trial.

        Raises:
            InputError: If they do not fit each other.
        """
        found = read_settings(self.config, {**self.given, **values}, self.parser)
        found.train_rows, found.backbone = self.base.train_rows, self.base.backbone
        return found

    def searched(self, names: Iterable[str]) -> list[str]:
        """Return the keys that are searched among these settings of the model."""
        keys = [f"model.{name}" for name in names]
        return [dimension.key for dimension in self.space.dimensions if dimension.key in keys]

    def start(self) -> dict[str, Any]:
        """Return the settings of the config that lie in the space, as Optuna stores them."""
        known = {dimension.key for dimension in self.space.dimensions}
        held = {key: _held(self.base.values, key) for key in known}
        return self.space.stored({key: value for key, value in held.items() if value is not None})


def read_candidates(
    configs: ConfigsLike, space: SpaceLike, given: Mapping[str, Any]
) -> list[Candidate]:
    """Return the configs of a search, each with its space, checked without rows.

    Raises:
        InputError: If a config or the space cannot be used, or two configs do not go together.
    """
    named = _named(configs)
    spaces = read_spaces(space, list(named))
    parser, found = settings_parser(), []
    for name, config in named.items():
        base = read_settings(config, given, parser)

        def check(values: Mapping[str, Any], config: ConfigLike = config) -> object:
            return read_settings(config, {**given, **values}, parser)

        where = f"{space_name(space)}: {name}"
        checked = spaces[name].checked(check, where)
        found.append(Candidate(name, config, given, base, checked, parser))
    _check(found)
    return found


def config_text(settings: RunSettings, searched: Collection[str], comment: str) -> str:
    """Return a config file: all settings of the model, what was searched, and no defaults.

    Args:
        settings: The settings.
        searched: Dotted keys of the settings that were searched.
        comment: First lines, without ``#``.
    """
    data = _changed(settings.values["data"], DataConfig)
    if data.get("train") == IN_MEMORY:
        del data["train"]
    train = _changed(settings.values["train"], TrainArguments)
    own = settings.values["train"]
    train |= {name: own[name] for name in own if f"train.{name}" in searched}
    train.pop("output_dir", None)
    groups = {"model": settings.values["model"], "data": data, "train": train}
    content = {name: values for name, values in groups.items() if values}
    head = "".join(f"# {line}\n" for line in comment.splitlines())
    return head + yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def _named(configs: ConfigsLike) -> dict[str, ConfigLike]:
    found: dict[str, ConfigLike]
    if isinstance(configs, Mapping):
        found = dict(configs)
    else:
        found = {}
        listed = [configs] if isinstance(configs, str | PathLike | ModelConfig) else configs
        for config in listed:
            name = "model" if isinstance(config, ModelConfig) else Path(config).stem
            if name in found:
                raise InputError(
                    f"--config: two configs are called {name}, but their sections in the space, "
                    "their folders and their lines in the table need different names. Copy one "
                    "to a file with another name."
                )
            found[name] = config
    if not found:
        raise InputError("--config: name at least one config.")
    return found


def _check(candidates: Sequence[Candidate]) -> None:
    first = candidates[0]
    for item in candidates:
        method, data = item.base.tuning.method, item.base.data
        if method != "frozen":
            raise InputError(
                f"{item.name}: tuning.method is {method}, but a search trains models on states of "
                "a frozen backbone, computed once for all trials. Set tuning.method frozen."
            )
        if data.validation:
            raise InputError(
                f"{item.name}: data.validation is {data.validation}, but a search measures on "
                "folds of data.train, and stops each training by a part of its own rows. Leave "
                "data.validation out; rows for a last test go to --test."
            )
        check_data_settings(data)
        if item.base.values["data"] != first.base.values["data"]:
            raise InputError(
                f"{item.name} and {first.name} have different settings under data, but configs "
                "are compared on the same rows. Give them on the command line, for all: "
                "--data.train rows.jsonl."
            )


def _held(values: Mapping[str, Any], key: str) -> Any:
    found: Any = values
    for name in key.split("."):
        found = found.get(name) if isinstance(found, Mapping) else None
    return found


def _changed(values: Mapping[str, Any], cls: type) -> dict[str, Any]:
    """Return the values that differ from the defaults of a dataclass."""
    changed = {}
    for item in fields(cls):
        default = item.default
        if default is MISSING and item.default_factory is not MISSING:
            default = item.default_factory()
        if item.name in values and values[item.name] != default:
            changed[item.name] = values[item.name]
    return changed
