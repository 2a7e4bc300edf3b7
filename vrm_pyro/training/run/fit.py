"""Train from rows to a run folder in one call, like ``vrm-pyro train``."""

from collections.abc import Mapping, Sequence
from os import PathLike, fspath
from pathlib import Path
from typing import Any

from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows.readers import Spec
from vrm_pyro.features.reading import DataLike
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import SETTINGS_FILE, STATES_FOLDER
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.run.read_settings import DEFAULT_CONFIG, read_settings
from vrm_pyro.training.run.run import Run, run

IN_MEMORY = "rows given in Python"


def fit(
    data: DataLike | None = None,
    validation: DataLike | None = None,
    *,
    config: str | PathLike[str] | ModelConfig | None = None,
    output_dir: str | PathLike[str] | None = None,
    settings: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    overwrite: bool = False,
    resume: bool = False,
) -> Run:
    """Train a reward model on rows and write a run folder.

    The folder is that of ``vrm-pyro train``: model, ``metrics.json``, ``posterior.nc`` and
    ``config.yaml``. Every verb reads it::

        run = vrm_pyro.fit("rows.jsonl", config="ratings", output_dir="runs/rated")
        run = vrm_pyro.fit(
            rows, output_dir="runs/small", settings={"model.latent_dim": 4, "train.seed": 1}
        )

    Args:
        data: Training rows in any form, see :data:`vrm_pyro.features.reading.DataLike`; those of
            ``data.train`` in config or settings when omitted.
        validation: Rows for early stopping and ``metrics.json``, in any form. If omitted, some
            training prompts are held out (``data.validation_fraction``).
        config: Name of a shipped config (``default``, ``ratings``, ``paper``, ...), path of a
            YAML file, or a ``ModelConfig``, which is trained with the settings of ``default``.
            When omitted: ``default``, or for a resumed run its own config.
        output_dir: Folder of the run; ``train.output_dir`` of the config when omitted.
        settings: Other settings by dotted key, as on the command line without the dashes:
            ``{"model.latent_dim": 4, "train.num_train_epochs": 3}``.
        backbone: A loaded backbone, possibly of a class of your own, that replaces
            ``model.backbone``.
        overwrite: Replace a run in the folder, with all its files.
        resume: Resume a stopped run in the folder from its last checkpoint.

    Returns:
        The finished run.

    Raises:
        InputError: If rows or settings are not usable, or the folder holds another run. The
            message is that of the command line.
    """
    given = dict(settings or {})
    if output_dir is not None:
        given["train.output_dir"] = Path(output_dir)
    if backbone is not None:
        given |= settings_of(backbone)
    if resume:
        given["train.resume_from_checkpoint"] = "true"
    specs = {"train": spec_of(data), "validation": spec_of(validation)}
    given |= {f"data.{name}": spec for name, spec in specs.items() if spec is not None}
    if config is None:
        folder = Path(given.get("train.output_dir", "")).expanduser()
        held = folder / SETTINGS_FILE
        config = held if resume and folder.name and held.is_file() else DEFAULT_CONFIG
    read = read_settings(config, given)
    read.overwrite, read.backbone = overwrite, backbone
    for name, rows in (("train", data), ("validation", validation)):
        if rows is None or specs[name] is not None:
            continue
        # A resumed run and `certify` find states by the texts stored in the folder.
        kept = Path(str(read.arguments.output_dir)) / STATES_FOLDER / name
        known = str(kept) if read.tuning.method == "frozen" else IN_MEMORY
        setattr(read.data, name, known)
        read.values["data"][name] = known
        setattr(read, f"{name}_rows", rows)
    return run(read)


def settings_of(backbone: Backbone) -> dict[str, Any]:
    """Return the settings by which a backbone at hand is named."""
    return {
        "model.backbone": backbone.name,
        "model.pooling": backbone.pooling,
        "model.layer": getattr(backbone, "layer", None),
        "model.max_length": backbone.max_length,
    }


def spec_of(data: DataLike | None) -> Spec | None:
    """Return the value of ``data.train`` for rows: paths or names; None for rows in memory."""
    if isinstance(data, FeatureStore):
        return str(data.path)
    if isinstance(data, str | PathLike):
        return fspath(data)
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = [item for item in data if isinstance(item, str | PathLike)]
        return [fspath(name) for name in names] if len(names) == len(data) else None
    return None
