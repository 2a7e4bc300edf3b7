"""Manage a run folder: may it be written, and may a resumed run change these settings."""

import logging
from pathlib import Path
from typing import Any

import yaml

from vrm_pyro.atomic import claim_directory, write_file
from vrm_pyro.data.artefacts import load_yaml
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import CONFIG_FILE, SETTINGS_FILE
from vrm_pyro.models.settings.run_file import read_run_file
from vrm_pyro.training.run.config_files import short_class_names

log = logging.getLogger(__name__)

# Settings that change neither the model nor the order of its steps.
FREE_ON_RESUME = {
    "disable_tqdm",
    "early_stopping_patience",
    "log_level",
    "logging_dir",
    "logging_first_step",
    "logging_steps",
    "logging_strategy",
    "max_steps",
    "num_train_epochs",
    "output_dir",
    "per_device_eval_batch_size",
    "report_to",
    "resume_from_checkpoint",
    "run_name",
    "save_total_limit",
    "dataloader_num_workers",
    "dataloader_pin_memory",
    "dataloader_persistent_workers",
    "dataloader_prefetch_factor",
}


class RunDirectory:
    """The output folder of one run.

    Args:
        path: ``train.output_dir``.
        overwrite: Whether to replace a run in the folder.
        resume: Whether to resume a stopped run in the folder.

    Raises:
        InputError: If the folder holds a run, and neither option allows to write there.
    """

    def __init__(self, path: str, *, overwrite: bool, resume: bool) -> None:
        self.path, self.overwrite, self.resume = Path(path), overwrite, resume
        if overwrite and resume:
            raise InputError(
                "--overwrite and --train.resume_from_checkpoint exclude each other: start over, "
                "or resume."
            )
        #: Whether the folder holds a trained model.
        self.finished = (self.path / CONFIG_FILE).is_file()
        #: Whether the folder holds an unfinished run.
        self.stopped = (self.path / SETTINGS_FILE).is_file() and not self.finished
        if self.finished and not overwrite and not resume:
            raise InputError(
                f"{path}: holds a finished run. Choose another --train.output_dir, or pass "
                "--overwrite to replace it."
            )
        if self.stopped and not overwrite and not resume:
            raise InputError(
                f"{path}: holds a run that was stopped before its end. Pass "
                "--train.resume_from_checkpoint true to resume it, --overwrite to start "
                "over, or choose another --train.output_dir."
            )

    def claim(self, values: dict[str, Any], text: str) -> None:
        """Create the folder and write ``config.yaml``, so that the run can be resumed.

        Args:
            values: All settings.
            text: The same settings as text for ``config.yaml``.

        Raises:
            InputError: If a resumed run was started with other settings.
        """
        if self.stopped and self.resume:
            self.check_same(values)
            with write_file(self.path / SETTINGS_FILE) as partial:
                partial.write_text(text, encoding="utf-8")
            log.info("%s: resuming the run there", self.path)
            return
        claim_directory(self.path, marker=SETTINGS_FILE, content=text, overwrite=self.overwrite)

    def held(self, group: str, key: str) -> Any:
        """Return a setting of the run in the folder, None where it has none."""
        path = self.path / SETTINGS_FILE
        if not path.is_file():
            return None
        values = self._settings().get(group)
        return values.get(key) if isinstance(values, dict) else None

    def check_same(self, values: dict[str, Any]) -> None:
        """Raise InputError if a setting differs from those the run was started with."""
        held = self._settings()
        for group, settings in values.items():
            before = held.get(group, {})
            for key, value in settings.items():
                if key not in before or key in FREE_ON_RESUME:
                    continue
                if before[key] != value:
                    raise InputError(
                        f"{self.path}: this run was started with {group}.{key} "
                        f"{_short(before[key])}, now it is {_short(value)}. Resume with the "
                        "settings it was started with, or start over with --overwrite."
                    )

    def _settings(self) -> dict[str, Any]:
        remedy = "The run cannot be resumed; start over with --overwrite."
        held = read_run_file(self.path / SETTINGS_FILE, remedy)
        found: dict[str, Any] = load_yaml(short_class_names(yaml.safe_dump(held)))
        return found


def _short(value: Any) -> str:
    if isinstance(value, dict) and "class_path" in value:
        name = str(value["class_path"]).rpartition(".")[2]
        inner = ", ".join(f"{k}={v}" for k, v in (value.get("init_args") or {}).items())
        return f"{name}({inner})"
    return str(value)
