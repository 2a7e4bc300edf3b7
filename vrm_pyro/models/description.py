"""The description of a saved model, as JSON values: its schema, and its settings read back."""

from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Annotated, Any, Final, get_type_hints

from pydantic import ConfigDict, Field, model_validator

import vrm_pyro
from vrm_pyro.data.artefacts import Names, Positive, Scalar, Schema, checked, short
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.models.settings.tables import TABLES

MODEL_TYPE: Final = "vrm_pyro"
FORMAT: Final = 2
"""What is written: 2 since ``rating_ranges``, which 1 may lack, is always there."""

RESTORE: Final = "Restore the file, or train again."
COMPARED: Final = (
    "pooling",
    "max_length",
    "template_hash",
    "tokenizer_hash",
    "weights_hash",
)


class BackboneFacts(Schema):
    """Facts of the backbone that a model was trained on; states in memory have none."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Scalar]

    name: str | None = None
    pooling: str | None = None
    max_length: Positive | None = None
    layer: Positive | None = None
    template_hash: str | None = None
    tokenizer_hash: str | None = None
    weights_hash: str | None = None
    file_sha256: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "BackboneFacts":
        """Refuse to know some facts and not others: what is absent would not be compared."""
        held = self.model_fields_set
        lacking = [name for name in COMPARED if name not in held]
        known = len(lacking) < len(COMPARED)
        if known and self.name is None:
            lacking.insert(0, "name")
        if known and lacking:
            raise ValueError(f"facts with {lacking[0]!r}, which is missing")
        return self


_Ends = Annotated[list[float], Field(min_length=2, max_length=2)]


class Description(Schema):
    """All of a saved model except its weights."""

    settings: dict[str, Any]
    objectives: Names
    rated: bool
    hidden_size: Annotated[int, Field(ge=1, le=1_000_000)]
    backbone: BackboneFacts
    rating_ranges: dict[str, _Ends] = {}
    version: str = ""


class _Described(Description):
    rating_ranges: dict[str, _Ends]


_BY_FORMAT: Final[dict[int, type[Description]]] = {1: Description, FORMAT: _Described}


def check_description(description: Any, path: str) -> None:
    """Raise InputError unless JSON values are a description of a model, in this format.

    Args:
        description: What was read.
        path: File name for messages.
    """
    if not isinstance(description, dict) or description.get("model_type") != MODEL_TYPE:
        raise InputError(
            f"{path}: model_type is not {MODEL_TYPE!r}: this is no model of vrm_pyro. Give a "
            "directory that `vrm-pyro train` wrote."
        )
    found = description.get("format")
    if type(found) is not int or found not in _BY_FORMAT:
        raise InputError(
            f"{path}: format {short(found)}, but this version reads "
            f"{' and '.join(map(str, _BY_FORMAT))}; update vrm-pyro."
        )
    checked(_BY_FORMAT[found], description, path, RESTORE)


def settings_from_json(
    values: Mapping[str, Any], where: str, classes: Sequence[type] = ()
) -> ModelConfig:
    """Return settings from JSON values, looking class names up in closed tables only.

    Args:
        values: What :func:`vrm_pyro.models.checkpoint.settings_to_json` returned.
        where: File name for messages.
        classes: A user's own classes, handed in by the caller, never imported from the file.

    Raises:
        InputError: For an unknown key or class, or arguments a class does not take.
    """
    # Files of version 0.1.0 lack these: states of the last layer, scales as trained.
    values = {"layer": None, "recalibrate": False, **values}
    kinds = get_type_hints(ModelConfig)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise InputError(
            f"{where}: unknown setting {unknown[0]!r}; was it written by a newer version than "
            f"{vrm_pyro.__version__}?"
        )
    own = {cls.__name__: cls for cls in classes}
    kwargs = dict(values)
    for key, value in values.items():
        if key in TABLES:
            kwargs[key] = _instance(value, {**TABLES[key], **own}, f"{where}: {key}")
        else:
            _check(kinds[key], key, value, f"{where}: setting")
    try:
        config = ModelConfig(**kwargs)
        check_settings(config)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    return config


def _check(kind: Any, name: str, value: Any, where: str) -> None:
    """Raise InputError unless a value has the type that a field is annotated with."""
    try:
        checked(kind, value, "", "")
    except InputError as error:
        allowed = str(error).partition("but must be ")[2].strip().rstrip(".")
        raise InputError(
            f"{where} {name!r} is {short(value)}, but must be {allowed}. {RESTORE}"
        ) from error


def _instance(entry: Any, table: Mapping[str, type], where: str) -> Any:
    if not isinstance(entry, dict) or set(entry) != {"class", "args"}:
        raise InputError(f'{where}: expected {{"class": name, "args": {{...}}}}, got {entry!r}.')
    name = entry["class"]
    if not isinstance(name, str) or name not in table:
        raise InputError(
            f"{where}: 'class': no class {name!r} in the table of {', '.join(sorted(table))}. A "
            "class of your own has to be handed in: load_model(dir, classes=[...]) or --classes."
        )
    _check(dict[str, Any], "args", entry["args"], f"{where}: {name}:")
    cls = table[name]
    if is_dataclass(cls):
        hints, known = get_type_hints(cls), {item.name for item in fields(cls)}
        for key, value in entry["args"].items():
            if key in known:  # what is unknown is named below
                _check(hints[key], key, value, f"{where}: {name}:")
    try:
        return cls(**entry["args"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {name} does not take these arguments: {error}") from error
