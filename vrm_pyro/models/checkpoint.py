"""Saved models: safetensors, and JSON with class names from closed tables; no code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import UnionType
from typing import Any, Final, Literal, Union, get_args, get_origin, get_type_hints

from safetensors import SafetensorError
from safetensors.torch import load_file, save

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig, check_settings
from vrm_pyro.models.settings.tables import TABLES
from vrm_pyro.models.vrm import VRM

MODEL_TYPE: Final = "vrm_pyro"
FORMAT: Final = 1
WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
# What training writes beside the model: its settings, and the states of its rows.
SETTINGS_FILE: Final = "config.yaml"
STATES_FOLDER: Final = "features"

# Optional in a description: earlier versions did not write it.
RANGES: Final = "rating_ranges"
# What a description holds, and of which kind.
KINDS: Final[dict[str, Any]] = {
    "settings": dict,
    "objectives": list[str],
    "rated": bool,
    "hidden_size": int,
    "backbone": dict,
}


@dataclass(repr=False)
class LoadedModel:
    """A model with its settings and everything else needed to use it on new text (spec 2.9).

    Args:
        model: The module, float32, in evaluation mode.
        config: Its settings.
        objectives: Names of the objectives, K of them.
        rated: Whether ratings entered training; scores then have a rating unit.
        backbone: Facts of the backbone the states came from: name, pooling, max_length, hashes,
            and with ``tuned`` how it was trained, too (``lora`` or ``full``).
        directory: Where it was loaded from; what was trained of the backbone lies there.
        rating_ranges: Least and greatest training rating of each rated objective, raw units.
            Empty where scores are no ratings of a known level, and for a run of an earlier
            version.
    """

    model: RewardModel
    config: ModelConfig
    objectives: tuple[str, ...]
    rated: bool
    backbone: dict[str, Any]
    directory: Path | None = None
    rating_ranges: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def __repr__(self) -> str:
        where = "" if self.directory is None else f"{str(self.directory)!r}: "
        backbone = self.backbone.get("name", "states of an unnamed backbone")
        objectives = f", objectives {', '.join(self.objectives)}" if self.objectives else ""
        return f"LoadedModel({where}{self.architecture} on {backbone}{objectives})"

    @property
    def architecture(self) -> str:
        """``vrm`` or ``bradley_terry``."""
        return self.config.architecture

    @property
    def vrm(self) -> VRM | None:
        """The model where it is a single one with latent variables; else None."""
        return self.model if isinstance(self.model, VRM) else None

    @property
    def members(self) -> tuple[VRM, ...]:
        """The models with latent variables: one, or those of an ensemble, all of one shape.

        Empty for a Bradley-Terry model.
        """
        return latent_members(self.model)

    @property
    def mode(self) -> str:
        """``conditional`` or ``vib``."""
        return self.config.mode

    @property
    def hidden_size(self) -> int:
        """Size of the backbone states the model takes."""
        return self.model.response_scaler.loc.shape[0]

    @property
    def rating_loc(self) -> float:
        """Location of the rating unit: raw = standardised * rating_scale + rating_loc."""
        return self.model.rating_unit[0]

    @property
    def rating_scale(self) -> float:
        """Scale of the rating unit."""
        return self.model.rating_unit[1]


def settings_to_json(config: ModelConfig) -> dict[str, Any]:
    """Return settings as JSON values; a class is ``{"class": name, "args": {...}}``."""
    values: dict[str, Any] = {}
    for item in fields(config):
        value = getattr(config, item.name)
        if item.name in TABLES:
            value = {"class": type(value).__name__, "args": asdict(value)}
        values[item.name] = value
    return values


def settings_from_json(
    values: Mapping[str, Any], where: str, classes: Sequence[type] = ()
) -> ModelConfig:
    """Return settings from JSON values, looking class names up in closed tables only.

    Args:
        values: What :func:`settings_to_json` returned.
        where: File name for messages.
        classes: A user's own classes, handed in by the caller, never imported from the file.

    Raises:
        InputError: For an unknown key or class, or arguments a class does not take.
    """
    values = {"layer": None, **values}  # files of version 0.1.0 lack it: states of the last layer
    kinds = get_type_hints(ModelConfig)
    unknown = sorted(set(values) - set(kinds))
    if unknown:
        raise InputError(
            f"{where}: unknown setting {unknown[0]!r}; was it written by a newer version than "
            f"{vrm_pyro.__version__}?"
        )
    for key, value in values.items():
        if key not in TABLES:
            _check_kind(value, kinds[key], f"{where}: setting {key!r}")
    own = {cls.__name__: cls for cls in classes}
    kwargs = dict(values)
    for key, table in TABLES.items():
        if key in kwargs:
            kwargs[key] = _instance(kwargs[key], {**table, **own}, f"{where}: {key}")
    try:
        config = ModelConfig(**kwargs)
        check_settings(config)
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {error}") from error
    return config


def _check_kind(value: Any, kind: Any, what: str) -> None:
    """Raise InputError unless a JSON value is of the kind that a type hint asks for."""
    if not _fits(value, kind):
        raise InputError(f"{what} is {value!r}, which does not fit; train again or restore it.")


def _fits(value: Any, kind: Any) -> bool:
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, each) for each in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_origin(kind) is list:
        return isinstance(value, list) and all(isinstance(item, str) for item in value)
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def _instance(entry: Any, table: Mapping[str, type], where: str) -> Any:
    if not isinstance(entry, dict) or set(entry) != {"class", "args"}:
        raise InputError(f'{where}: expected {{"class": name, "args": {{...}}}}, got {entry!r}.')
    name = entry["class"]
    if not isinstance(name, str) or name not in table:
        raise InputError(
            f"{where}: no class {name!r} in the table of {', '.join(sorted(table))}. A class of "
            "your own has to be handed in: load_model(dir, classes=[...]) or --classes."
        )
    try:
        return table[name](**entry["args"])
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {name} does not take these arguments: {error}") from error


def save_model(loaded: LoadedModel, directory: str | Path) -> None:
    """Write ``model.safetensors`` and ``config.json`` into a directory; it is made if missing."""
    directory = Path(directory)
    directory.mkdir(parents=True, exist_ok=True)
    state = {k: v.detach().contiguous().cpu() for k, v in loaded.model.state_dict().items()}
    # Not save_file: it makes a file that only its owner can read, whatever the umask.
    (directory / WEIGHTS_FILE).write_bytes(save(state, metadata={"format": "pt"}))
    text = json.dumps(describe(loaded), indent=2)
    (directory / CONFIG_FILE).write_text(text + "\n", "utf-8")


def describe(loaded: LoadedModel) -> dict[str, Any]:
    """Return all of a model except its weights, as JSON that :func:`build_described` reads."""
    ranges = {name: list(ends) for name, ends in loaded.rating_ranges.items()}
    return {
        "model_type": MODEL_TYPE,
        "format": FORMAT,
        "version": vrm_pyro.__version__,
        "settings": settings_to_json(loaded.config),
        "objectives": list(loaded.objectives),
        "rated": loaded.rated,
        "hidden_size": loaded.hidden_size,
        "backbone": loaded.backbone,
        **({RANGES: ranges} if ranges else {}),
    }


def load_model(directory: str | Path, classes: Sequence[type] = ()) -> LoadedModel:
    """Return the model saved in a directory, in evaluation mode.

    Args:
        directory: A directory that ``train`` wrote.
        classes: A user's own prior, guide or likelihood classes.

    Raises:
        InputError: When a file is missing, truncated or does not fit the settings.
    """
    directory = Path(directory)
    description = _read_description(directory)
    where = str(directory / CONFIG_FILE)
    loaded = build_described(description, where, classes)
    _load_state(loaded.model, directory / WEIGHTS_FILE)
    loaded.directory = directory
    return loaded


def build_described(
    description: Mapping[str, Any], where: str, classes: Sequence[type] = ()
) -> LoadedModel:
    """Return a model with start values from what :func:`describe` returned.

    Args:
        description: JSON values.
        where: File name for messages.
        classes: A user's own prior, guide or likelihood classes.

    Raises:
        InputError: When a value is missing or does not fit.
    """
    check_description(description, where)
    config = settings_from_json(description["settings"], where, classes)
    objectives = tuple(description["objectives"])
    rated, facts = bool(description["rated"]), dict(description["backbone"])
    model = build_model(config, description["hidden_size"], len(objectives), rated)
    for member in model.members:
        if isinstance(member.parameter_posterior, LaplacePosterior):
            member.parameter_posterior.reserve()
    model.eval()
    ranges = _read_ranges(description.get(RANGES, {}), objectives, where)
    return LoadedModel(model, config, objectives, rated, facts, rating_ranges=ranges)


def _read_ranges(
    values: Any, objectives: Sequence[str], where: str
) -> dict[str, tuple[float, float]]:
    """Return the ranges of a description; two numbers in rising order for each objective."""
    found = {}
    for name, ends in values.items() if isinstance(values, dict) else [(None, values)]:
        fits = name in objectives and isinstance(ends, list) and len(ends) == 2
        for end in ends if fits else ():
            _check_kind(end, float, f"{where}: {RANGES!r} of {name!r}")
        if not fits or not ends[0] <= ends[1]:
            raise InputError(
                f"{where}: {RANGES!r} holds {name!r}: {ends!r}, but must give each objective its "
                "least and greatest training rating; train again or restore it."
            )
        found[str(name)] = (float(ends[0]), float(ends[1]))
    return found


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give one that `vrm-pyro train` wrote.")
    if not path.is_file():
        raise InputError(
            f"{directory}: holds no {CONFIG_FILE}, so it is no trained model. Was training "
            "stopped before its end? Resume it with --train.resume_from_checkpoint true."
        )
    try:
        description = json.loads(path.read_text("utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: not valid JSON ({error}); train again or restore it."
        ) from error
    check_description(description, str(path))
    return description


def check_description(description: Any, path: str) -> None:
    """Raise InputError unless JSON values are what :func:`describe` returns, in this format.

    Args:
        description: What was read.
        path: File name for messages.
    """
    if not isinstance(description, dict) or description.get("model_type") != MODEL_TYPE:
        raise InputError(
            f"{path}: model_type is not {MODEL_TYPE!r}: this is no model of vrm_pyro. Give a "
            "directory that `vrm-pyro train` wrote."
        )
    if description.get("format") != FORMAT:
        raise InputError(
            f"{path}: format {description.get('format')!r}, but this version reads {FORMAT}; "
            "update vrm-pyro."
        )
    for key, kind in KINDS.items():
        if key not in description:
            raise InputError(f"{path}: key {key!r} is missing; train again or restore it.")
        _check_kind(description[key], kind, f"{path}: {key!r}")
    if description["hidden_size"] < 1:
        raise InputError(f"{path}: 'hidden_size' is {description['hidden_size']}; restore it.")


def _load_state(model: RewardModel, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing; the settings are there but not the weights.")
    try:
        state = load_file(path)
    except SafetensorError as error:
        raise InputError(f"{path}: truncated or not safetensors ({error}).") from error
    model.rename_state(state)
    expected = model.state_dict()
    for problem, names in (
        ("lacks", expected.keys() - state.keys()),
        ("has an unexpected", state.keys() - expected.keys()),
    ):
        if names:
            raise InputError(
                f"{path}: {problem} tensor {sorted(names)[0]!r} for the settings in "
                f"{CONFIG_FILE}; the two files do not belong together."
            )
    for name, tensor in expected.items():
        if tensor.shape != state[name].shape:
            raise InputError(
                f"{path}: tensor {name!r} has shape {tuple(state[name].shape)}, the settings in "
                f"{CONFIG_FILE} need {tuple(tensor.shape)}; the two files do not belong together."
            )
    model.load_state_dict(state)


ADAPTER_FOLDER = "adapter"
BACKBONE_FOLDER = "backbone"
