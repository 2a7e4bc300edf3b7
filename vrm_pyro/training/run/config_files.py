"""Find config files of a run: shipped ones by name, others by path."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError

from vrm_pyro.data.artefacts import parse_yaml, short
from vrm_pyro.errors import InputError
from vrm_pyro.training.run.messages import UsageError, options_of, readable

CONFIGS = Path(str(files("vrm_pyro"))) / "configs"


class ConfigFile(ActionConfigFile):
    """Action of ``--config``: read a file or a shipped config; name the file in messages."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Merge the settings of the file."""
        path = config_path(str(values))
        try:
            text = path.read_text(encoding="utf-8")
            # Or jsonargparse may take forever over it.
            content = parse_yaml(text, str(path), "Mend it.")
            for group in ("model", "data", "tuning", "train"):
                # evaluate has a model that is a path
                holds = any(o.startswith(f"--{group}.") for o in options_of(parser))
                if holds and not isinstance(content.get(group, {}), dict):
                    raise UsageError(
                        f"{path}: {group} is {short(content[group])}, but must hold settings, one "
                        "a line, below it."
                    )
            moved = short_class_names(text)
            source = str(path) if moved == text else moved
            super().__call__(parser, cfg, source, option_string)
        except InputError:
            raise
        except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{path}: {readable(error, options_of(parser))}") from error


def config_path(name: str, option: str = "--config", folder: Path = CONFIGS) -> Path:
    """Return the path of a config: an existing file, else the shipped config of this name.

    >>> config_path("ratings").name
    'ratings.yaml'

    Args:
        name: Path or name.
        option: Option that names it, for the message.
        folder: Folder of the shipped ones.

    Raises:
        UsageError: If there is neither.
    """
    try:
        given = Path(name).expanduser()
    except RuntimeError as error:  # ~nobody
        raise UsageError(f"{option} {name}: {error}") from error
    if given.is_file():
        return given
    shipped = sorted(path.name for path in folder.glob("*.yaml"))
    # The documentation writes "configs/paper.yaml"; accept it outside the repository too.
    written = Path("configs") / folder.relative_to(CONFIGS)
    if given.parent in (Path(), written):
        for candidate in (given.name, f"{given.name}.yaml"):
            if candidate in shipped:
                return folder / candidate
    raise UsageError(
        f"{option} {name}: no such file. Give a YAML file, or a shipped one: "
        f"{', '.join(n.removesuffix('.yaml') for n in shipped)}."
    )


def short_class_names(text: str) -> str:
    """Return YAML with the bare name of each class of this package, without its module path.

    Files written by an earlier version hold the full path of a class, which may have changed.

    >>> short_class_names("guide: {class_path: vrm_pyro.guides.FlowGuide}")
    'guide: {class_path: FlowGuide}'
    """
    return re.sub(r"(class_path: *)vrm_pyro\.(?:\w+\.)*(\w+)", r"\1\2", text)
