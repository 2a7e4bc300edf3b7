"""One training of a trial, with its result on disk, so that an interrupt loses no other."""

import errno
import hashlib
import json
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from safetensors import SafetensorError

import vrm_pyro
from vrm_pyro.atomic import write_json
from vrm_pyro.data.artefacts import Count, Schema, checked, read_json
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import settings_to_json
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.run.settings import RunSettings
from vrm_pyro.training.search.rows import Part
from vrm_pyro.training.train import train

#: Training arguments that do not change the result.
FREE = ("output_dir", "disable_tqdm", "report_to", "run_name", "logging_dir")
_DECIMALS = 7
_TIE = 0.5


class Cell(NamedTuple):
    """The result of one training.

    Attributes:
        p_first: Probability that the first response is preferred, of each held-out pair of the
            table, shape (M,); 1/2 where the backbone cannot tell the two apart.
        num_parameters: Trained parameters of the model.
        seconds: Time it took.
    """

    p_first: NDArray[np.float64]
    num_parameters: int
    seconds: float


class _Result(Schema):
    p_first: list[Annotated[float, Field(ge=0, le=1)]]
    num_parameters: Count
    seconds: Annotated[float, Field(ge=0)]


def settings_identity(settings: RunSettings) -> dict[str, Any]:
    """Return JSON values of the settings that decide the result of a training."""
    values = {key: value for key, value in settings.values["train"].items() if key not in FREE}
    return {"model": settings_to_json(settings.model), "train": values}


def run_cell(settings: RunSettings, part: Part, identity: dict[str, Any], folder: Path) -> Cell:
    """Train on a part and predict its held-out pairs, or read the result of doing so.

    Args:
        settings: Settings of the trial.
        part: The rows.
        identity: JSON values that identify all rows and folds.
        folder: Folder of the search.

    Raises:
        InputError: If settings and rows do not fit, or training diverges.
        OSError: If the disk is full.
    """
    name = cell_name(settings, part.name, identity)
    if (folder / "cells" / f"{name}.json").is_file():
        return read_cell(folder, name, len(part.pairs))
    given = settings.values["train"]
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="vrm_pyro_search_") as work:
        own = {
            "output_dir": work,
            "seed": given["seed"] + part.seed,
            "disable_tqdm": True,
            "report_to": "none",
            "save_only_model": True,  # an interrupted training starts again
            "resume_from_checkpoint": None,
        }
        arguments = TrainArguments(**(given | own))
        try:
            model = train(settings.model, arguments, part.train, part.validation).loaded.model
        except InputError as error:
            if isinstance(error.__cause__, OSError | RuntimeError | SafetensorError):
                # The disk refused a checkpoint: no fault of the settings.
                raise OSError(errno.ENOSPC, str(error)) from error
            raise
    p_first = np.full(len(part.pairs), _TIE)
    p_first[part.position] = predict(model, part.held_out).p_first
    count = sum(p.numel() for p in model.parameters() if p.requires_grad)
    values = {
        "p_first": np.round(p_first, _DECIMALS).tolist(),
        "num_parameters": count,
        "seconds": round(time.monotonic() - start, 2),
    }
    write_json(folder / "cells" / f"{name}.json", values, indent=0)
    return read_cell(folder, name)


def cell_name(settings: RunSettings, part: str, identity: dict[str, Any]) -> str:
    """Return the name of a result file: the same for the same settings, rows and version."""
    content = {
        "version": vrm_pyro.__version__,
        "rows": identity,
        "part": part,
        **settings_identity(settings),
    }
    text = json.dumps(content, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=12).hexdigest()


def read_cell(folder: Path, name: str, pairs: int | None = None) -> Cell:
    """Return a result that was written before.

    Args:
        folder: Folder of the search.
        name: Name of the result.
        pairs: Held-out pairs that it must predict; any number when omitted.

    Raises:
        InputError: If the file is gone, or holds something else.
    """
    path, remedy = folder / "cells" / f"{name}.json", "Remove it; it is then computed again."
    found = checked(_Result, read_json(path, remedy), str(path), remedy)
    if pairs is not None and len(found.p_first) != pairs:
        raise InputError(
            f"{path}: 'p_first' has {len(found.p_first)} values, but must have {pairs}. {remedy}"
        )
    return Cell(np.asarray(found.p_first), found.num_parameters, found.seconds)
