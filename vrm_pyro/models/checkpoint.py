"""Saved models: safetensors, and JSON with class names from closed tables; no code."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from safetensors.torch import save

import vrm_pyro
from vrm_pyro.data.artefacts import read_json
from vrm_pyro.errors import InputError
from vrm_pyro.models.description import (
    FORMAT,
    MODEL_TYPE,
    RESTORE,
    check_description,
    settings_from_json,
)
from vrm_pyro.models.ensemble import latent_members
from vrm_pyro.models.epistemic.laplace import LaplacePosterior
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.models.settings.tables import TABLES
from vrm_pyro.models.vrm import VRM
from vrm_pyro.models.weights import check_state, read_tensors

WEIGHTS_FILE: Final = "model.safetensors"
CONFIG_FILE: Final = "config.json"
# What training writes beside the model: its settings, and the states of its rows.
SETTINGS_FILE: Final = "config.yaml"
STATES_FOLDER: Final = "features"

# Optional in a description of format 1.
RANGES: Final = "rating_ranges"


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
        """``vrm``, ``bradley_terry`` or ``gate``."""
        return self.config.architecture

    @property
    def vrm(self) -> VRM | None:
        """The model where it is a single one with latent variables; else None."""
        return self.model if isinstance(self.model, VRM) else None

    @property
    def members(self) -> tuple[VRM, ...]:
        """The models with latent variables: one, or those of an ensemble, all of one shape.

        Empty for a baseline.
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
        RANGES: ranges,
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


def own_class_names(directory: str | Path) -> set[str]:
    """Return the names of the user's own classes that a saved model asks for.

    Raises:
        InputError: As :func:`load_model`; nothing is imported.
    """
    settings = _read_description(Path(directory))["settings"]
    names = {
        key: entry.get("class")
        for key, entry in settings.items()
        if key in TABLES and isinstance(entry, dict)
    }
    return {str(name) for key, name in names.items() if name not in TABLES[key]}


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
    values: Mapping[str, Sequence[float]], objectives: Sequence[str], where: str
) -> dict[str, tuple[float, float]]:
    """Return the ranges of a description; two numbers in rising order for each objective."""
    for name, ends in values.items():
        if name not in objectives or not ends[0] <= ends[1]:
            raise InputError(
                f"{where}: {RANGES!r} holds {name!r}: {ends!r}, but must give each objective its "
                f"least and greatest training rating. {RESTORE}"
            )
    return {name: (float(low), float(high)) for name, (low, high) in values.items()}


def _read_description(directory: Path) -> dict[str, Any]:
    path = directory / CONFIG_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; give one that `vrm-pyro train` wrote.")
    if not path.is_file():
        raise InputError(
            f"{directory}: holds no {CONFIG_FILE}, so it is no trained model. Was training "
            "stopped before its end? Resume it with --train.resume_from_checkpoint true."
        )
    description = read_json(path, RESTORE)
    check_description(description, str(path))
    return description


def _load_state(model: RewardModel, path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: missing; the settings are there but not the weights.")
    state = read_tensors(path)
    model.rename_state(state)
    check_state(state, model.state_dict(), str(path), f"the settings in {CONFIG_FILE}")
    model.load_state_dict(state)


ADAPTER_FOLDER = "adapter"
BACKBONE_FOLDER = "backbone"
