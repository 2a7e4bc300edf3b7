"""Whether rows that should certify a model had a part in its training."""

import glob
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable, load_table, prompt_key
from vrm_pyro.data.rows.readers import Spec
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import is_store, read_store
from vrm_pyro.models.checkpoint import SETTINGS_FILE, STATES_FOLDER
from vrm_pyro.models.settings.run_file import read_run_file


@dataclass(frozen=True)
class Overlap:
    """Which prompts of some rows a run trained on, or decided by when to stop.

    Args:
        shared: Whether a prompt is among them, shape (P,).
        compared: What the prompts were compared with, by name.
        not_compared: What could not be looked at, and why.
        shared_with: Those of ``compared`` that share a prompt with the rows.
    """

    shared: NDArray[np.bool_]
    compared: tuple[str, ...]
    not_compared: tuple[str, ...]
    shared_with: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of prompts that are training or validation prompts too."""
        return int(self.shared.sum())

    def check(self, name: str) -> None:
        """Raise InputError if a prompt is a training or validation prompt of the model.

        Args:
            name: What the message calls the rows.
        """
        if not self.count:
            return
        raise InputError(
            f"{name}: {self.count:,} of its "
            f"{len(self.shared):,} prompts are in {' and '.join(self.shared_with)} of the run. "
            "The model was trained on their labels, or its training was stopped by them, so no "
            "bound holds. Give rows of other prompts, or pass --leave_out_training_prompts to use "
            "only those that the model has not seen."
        )


def training_overlap(model: str | Path | None, table: PreferenceTable) -> Overlap:
    """Compare the prompts of a table with the training and validation prompts of a run.

    The run's own feature stores are looked at first: they hold what it was trained on. Without
    them, the rows that its ``config.yaml`` names, as far as they lie on this machine; nothing is
    downloaded.

    Args:
        model: Folder of the run; None for a model that was not loaded from one.
        table: Rows to certify on.

    Raises:
        InputError: If ``config.yaml`` cannot be read.
    """
    if model is None:
        return _nothing(table, "the model was not loaded from a run's folder")
    folder = Path(model).expanduser()
    if not (folder / SETTINGS_FILE).is_file():
        return _nothing(table, f"there is no {folder / SETTINGS_FILE}")
    settings = {"skip_invalid": False, **read_run_file(folder / SETTINGS_FILE).get("data", {})}
    prompts = [prompt_key(prompt) for prompt in table.prompts]
    shared = np.zeros(len(prompts), dtype=bool)
    compared, not_compared, shared_with = [], [], []
    for part in ("train", "validation"):
        spec = settings.get(part)
        if not spec:
            continue  # validation prompts were then held out of the training rows
        try:
            known, name = _read(folder / STATES_FOLDER / part, spec, settings)
        except (InputError, OSError) as error:
            not_compared.append(f"data.{part} ({str(error).splitlines()[0]})")
            continue
        compared.append(f"data.{part} ({name})")
        keys = {prompt_key(prompt) for prompt in known.prompts}
        among = np.array([prompt in keys for prompt in prompts], dtype=bool)
        if among.any():
            shared_with.append(compared[-1])
        shared |= among
    return Overlap(shared, tuple(compared), tuple(not_compared), tuple(shared_with))


def _nothing(table: PreferenceTable, why: str) -> Overlap:
    """Return that nothing could be compared."""
    return Overlap(np.zeros(table.num_prompts, dtype=bool), (), (f"the training rows ({why})",))


def _read(kept: Path, spec: Spec, settings: dict[str, Any]) -> tuple[PreferenceTable, str]:
    """Return the rows of a part of the run, and where they were found."""
    if is_store(str(kept)):
        return read_store(str(kept)).table(), str(kept)
    if is_store(spec):
        return read_store(spec).table(), str(spec)
    names = [spec] if isinstance(spec, str) else list(spec)
    for name in names:
        path = Path(name).expanduser()
        if not path.exists() and not glob.glob(str(path), recursive=True):
            raise InputError(f"{name} is not on this machine")
    with warnings.catch_warnings():
        # What is wrong with rows was said when the model was trained.
        warnings.simplefilter("ignore")
        table = load_table(
            spec,
            skip_invalid=bool(settings["skip_invalid"]),
            schema=settings.get("schema"),
            columns=settings.get("columns"),
        )
        return table, ", ".join(names)
