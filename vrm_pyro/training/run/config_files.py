"""Config files of a run: shipped ones by name, a user's own by path."""

import re
from importlib.resources import files
from pathlib import Path
from typing import Any

from jsonargparse import ActionConfigFile, ArgumentError

from vrm_pyro.training.run.messages import UsageError, options_of, readable

CONFIGS = Path(str(files("vrm_pyro"))) / "configs"


class ConfigFile(ActionConfigFile):
    """``--config``: a file, or the name of a shipped one; messages say which file is wrong."""

    def __call__(
        self, parser: Any, cfg: Any, values: Any, option_string: str | None = None
    ) -> None:
        """Read the file into the settings."""
        path = config_path(str(values))
        try:
            text = path.read_text(encoding="utf-8")
            moved = short_class_names(text)
            source = str(path) if moved == text else moved
            super().__call__(parser, cfg, source, option_string)
        except (ArgumentError, TypeError, ValueError, KeyError, AttributeError) as error:
            raise UsageError(f"{path}: {readable(error, options_of(parser))}") from error


def config_path(name: str) -> Path:
    """Return the path of a config: a file as given, else a shipped one of this name.

    >>> config_path("ratings").name
    'ratings.yaml'

    Raises:
        UsageError: If there is neither.
    """
    given = Path(name).expanduser()
    if given.is_file():
        return given
    shipped = sorted(path.name for path in CONFIGS.glob("*.yaml"))
    # "configs/paper.yaml" is how the documents name them; it works outside the repository too.
    if given.parent.name in ("", "configs") and len(given.parts) <= 2:
        for candidate in (given.name, f"{given.name}.yaml"):
            if candidate in shipped:
                return CONFIGS / candidate
    raise UsageError(
        f"--config {name}: no such file. Give a YAML file, or a shipped one: "
        f"{', '.join(n.removesuffix('.yaml') for n in shipped)}."
    )


def short_class_names(text: str) -> str:
    """Return YAML with classes of this package by their name alone, wherever they stood before.

    Files written by an earlier version hold the full path of a class, which may have moved.

    >>> short_class_names("guide: {class_path: vrm_pyro.guides.FlowGuide}")
    'guide: {class_path: FlowGuide}'
    """
    return re.sub(r"(class_path: *)vrm_pyro\.(?:\w+\.)*(\w+)", r"\1\2", text)
