"""The space of a search: which settings of which config are tried, read from YAML."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrm_pyro.data.artefacts import check_size, read_yaml, short
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.models.settings.run_file import is_own
from vrm_pyro.models.settings.tables import TABLES
from vrm_pyro.training.run.config_files import CONFIGS, config_path
from vrm_pyro.training.run.messages import UsageError
from vrm_pyro.training.search.dimension import (
    RANGE_KEYS,
    Dimension,
    label,
    read_dimension,
)

if TYPE_CHECKING:
    from optuna.trial import Trial as OptunaTrial

SPACES = CONFIGS / "search"
SHARED = ("model", "train")
"""Groups of settings that can be searched; at the top of a file they are for all configs."""

SET_BY_SEARCH = ("train.output_dir", "train.seed", "train.resume_from_checkpoint")
"""Settings that differ by trial or seed anyway."""

SpaceLike = str | PathLike[str] | Mapping[str, Any]
Check = Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True)
class Space:
    """What is tried for one config.

    Args:
        dimensions: The settings, a class before the settings of the class.
        takes: For a setting of a class that is searched too: labels of the classes that have it.
    """

    dimensions: tuple[Dimension, ...]
    takes: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def suggest(self, trial: "OptunaTrial") -> dict[str, Any]:
        """Return the settings that a trial uses, by dotted key."""
        values: dict[str, Any] = {}
        for dimension in self.dimensions:
            if self._applies(dimension.key, values):
                values[dimension.key] = dimension.suggest(trial)
        return values

    def stored(self, settings: Mapping[str, Any]) -> dict[str, Any]:
        """Return the given settings that lie in the space, as Optuna stores them."""
        found = {d.key: d.stored(settings[d.key]) for d in self.dimensions if d.key in settings}
        return {key: value for key, value in found.items() if value is not None}

    def to_json(self) -> dict[str, Any]:
        """Return the space as JSON values, by dotted key."""
        return {dimension.key: dimension.to_json() for dimension in self.dimensions}

    def checked(self, check: Check, where: str) -> "Space":
        """Return the space with ``takes``, after a check of every setting and the type of values.

        Args:
            check: Reads settings by dotted key; raises UsageError where one does not exist or has
                a value of another type. An InputError of another class is a combination that
                does not fit, which a trial reports.
            where: Begins messages: file and section.

        Raises:
            UsageError: What ``check`` raised, with file, key and value.
        """
        by_key = {dimension.key: dimension for dimension in self.dimensions}
        owners = {key: by_key.get(key.partition(".init_args.")[0]) for key in by_key}
        free = [by_key[key] for key, owner in owners.items() if owner in (None, by_key[key])]
        _check_together(free, check, where)
        takes = {
            key: _owners(owner, by_key[key], check, where)
            for key, owner in owners.items()
            if owner is not None and owner is not by_key[key]
        }
        return Space(self.dimensions, takes)

    def _applies(self, key: str, values: Mapping[str, Any]) -> bool:
        owner = key.partition(".init_args.")[0]
        return key not in self.takes or label(values[owner]) in self.takes[key]


def read_spaces(space: SpaceLike, configs: Sequence[str]) -> dict[str, Space]:
    """Return the space of each config.

    Settings under ``model`` and ``train`` are for all configs, those under the name of a config
    for that one alone; there they replace shared ones. Keys may be nested, dotted, or both.

    >>> shared = {"train.learning_rate": {"low": 1e-4, "high": 1e-2, "log": True}}
    >>> own = {"ratings": {"model": {"latent_dim": [4, 8]}}}
    >>> spaces = read_spaces(shared | own, ["ratings", "bradley_terry"])
    >>> [len(spaces[name].dimensions) for name in spaces]
    [2, 1]

    Args:
        space: Path of a YAML file, name of a shipped one, or its content.
        configs: Names of the configs.

    Raises:
        InputError: If there is no such file, or something in it is no list and no range.
    """
    where, content = _read(space)
    shared: dict[str, Any] = {}
    own: dict[str, dict[str, Any]] = {name: {} for name in configs}
    for name, given in content.items():
        group = str(name).partition(".")[0]
        if group in SHARED:
            shared |= _flat(str(name), given, where)
            continue
        if name not in own and not _shipped(str(name)):
            allowed = [*SHARED, *configs]
            raise InputError(
                f"{where}: {name!r} is no group of settings that can be searched, and no config "
                f"of this search{did_you_mean(str(name), allowed)} Allowed are "
                f"{', '.join(allowed)}."
            )
        if not isinstance(given, Mapping):
            raise InputError(f"{where}: {name} must hold settings, one a line, below it.")
        section = own.setdefault(str(name), {})
        for key, value in given.items():
            section |= _flat(str(key), value, f"{where}: {name}")
    spaces = {}
    for name in configs:
        settings = shared | own[name]
        if not settings:
            raise InputError(
                f"{where}: holds no setting to search for config {name}. Put some under "
                f"{' or '.join(SHARED)} for all configs, or under {name}."
            )
        if not isinstance(space, Mapping):
            _refuse_imports(settings, where)
        found = [
            read_dimension(key, given, f"{where}: {name}" if key in own[name] else where)
            for key, given in sorted(settings.items(), key=lambda item: item[0].count("."))
        ]
        spaces[name] = Space(tuple(found))
    return spaces


def space_name(space: SpaceLike) -> str:
    """Return the name of a space in messages."""
    return "space" if isinstance(space, Mapping) else str(space)


def _read(space: SpaceLike) -> tuple[str, Mapping[str, Any]]:
    where = space_name(space)
    if isinstance(space, Mapping):
        content: Any = space
    else:
        path = config_path(str(space), "--space", SPACES)
        content = read_yaml(path, "Mend it.")
    check_size(content, where)
    if not isinstance(content, Mapping) or not content:
        raise InputError(
            f"{where}: is empty, or no mapping of settings such as 'train:' with indented lines "
            "below it."
        )
    return where, content


def _refuse_imports(settings: Mapping[str, Any], where: str) -> None:
    """Raise InputError if a file names a class that would be imported."""
    for key, given in settings.items():
        of_class = key.removeprefix("model.") in TABLES
        for value in given if of_class and isinstance(given, list) else ():
            path = value.get("class_path") if isinstance(value, dict) else value
            if not isinstance(path, str) or not is_own(path):
                raise InputError(
                    f"{where}: {key} names {short(path)}, which is not imported from a space. "
                    "Choose from the classes of vrm_pyro; for one of your own, give the space "
                    "from Python, or the class with --config."
                )


def _flat(key: str, given: Any, where: str) -> dict[str, Any]:
    """Return nested settings by dotted key."""
    if key.partition(".")[0] not in SHARED:
        raise InputError(
            f"{where}: {key} cannot be searched; settings under {' and '.join(SHARED)} can."
        )
    if key in SET_BY_SEARCH:
        raise InputError(f"{where}: {key} is set by the search itself; leave it out.")
    nested = isinstance(given, Mapping) and not set(given) & set(RANGE_KEYS)
    if not nested:
        if key in SHARED:
            raise InputError(f"{where}: {key} must hold settings, one a line, below it.")
        return {key: given}
    if not given:
        raise InputError(
            f"{where}: {key} is empty. Give a list of values, or a range with low and high."
        )
    found: dict[str, Any] = {}
    for name, value in given.items():
        found |= _flat(f"{key}.{name}", value, where)
    return found


def _check_together(dimensions: Sequence[Dimension], check: Check, where: str) -> None:
    """Check all values, several settings at a time; on an error one by one, to name it."""
    examples = {dimension.key: dimension.examples() for dimension in dimensions}
    for turn in range(max(map(len, examples.values()), default=0)):
        values = {key: held[turn % len(held)] for key, held in examples.items()}
        try:
            _refused(values, check)
        except UsageError:
            for key, value in values.items():
                _check_one({}, key, value, check, where)


def _owners(owner: Dimension, dimension: Dimension, check: Check, where: str) -> tuple[str, ...]:
    """Return the labels of the classes, among those searched, that have a setting."""
    having, refused = [], None
    for kind in owner.examples():
        try:
            for value in dimension.examples():
                _check_one({owner.key: kind}, dimension.key, value, check, where)
            having.append(label(kind))
        except UsageError as error:
            refused = error
    if not having and refused is not None:
        raise refused
    return tuple(having)


def _check_one(others: Mapping[str, Any], key: str, value: Any, check: Check, where: str) -> None:
    try:
        _refused({**others, key: value}, check)
    except UsageError as error:
        raise UsageError(f"{where}: {key}: {value!r}: {error}") from error


def _refused(settings: Mapping[str, Any], check: Check) -> None:
    try:
        check(settings)
    except UsageError:
        raise
    except InputError:  # a combination that does not fit; another may
        return


def _shipped(name: str) -> bool:
    return Path(CONFIGS / f"{name}.yaml").is_file()
