"""From rows to a run folder, in one call: what ``vrm-pyro train`` does."""

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
    """Train a reward model on rows and write it, with everything about it, into a folder.

    The folder is the one that ``vrm-pyro train`` writes: model, ``metrics.json``,
    ``posterior.nc`` and ``config.yaml``, and every verb reads it::

        run = vrm_pyro.fit("rows.jsonl", config="ratings", output_dir="runs/rated")
        run = vrm_pyro.fit(
            rows, output_dir="runs/small", settings={"model.latent_dim": 4, "train.seed": 1}
        )

    Args:
        data: Training rows in any form, see :data:`vrm_pyro.features.reading.DataLike`. Omitted:
            those that ``data.train`` in the config or the settings names.
        validation: Rows for early stopping and ``metrics.json``, likewise. Omitted: a part of the
            training prompts is held out (``data.validation_fraction``).
        config: Name of a shipped config (``default``, ``ratings``, ``paper``, ...), path of a
            YAML file, or settings of a model; those of the training are then the ones of
            ``default``. Omitted: ``default``, or for a resumed run what it was started with.
        output_dir: Folder of the run; ``train.output_dir`` of the config when omitted.
        settings: Further settings by dotted key, as on the command line without the dashes:
            ``{"model.latent_dim": 4, "train.num_train_epochs": 3}``.
        backbone: What reads the texts, in place of the one that ``model.backbone`` names: one of
            the user's own, or one that is loaded already.
        overwrite: Replace a run that lies in the folder, with all its files.
        resume: Continue a stopped run in the folder from its last checkpoint.

    Returns:
        The finished run.

    Raises:
        InputError: For rows or settings that are not usable, or a folder that holds another run;
            the message is the one of the command line.
    """
    given = dict(settings or {})
    if output_dir is not None:
        given["train.output_dir"] = Path(output_dir)
    if backbone is not None:
        given |= {"model.backbone": backbone.name, "model.pooling": backbone.pooling}
        given["model.max_length"] = backbone.max_length
    if resume:
        given["train.resume_from_checkpoint"] = "true"
    specs = {"train": _spec(data), "validation": _spec(validation)}
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
        # What a resumed run and `certify` find again: the states with their texts in the folder.
        kept = Path(str(read.arguments.output_dir)) / STATES_FOLDER / name
        known = str(kept) if read.tuning.method == "frozen" else IN_MEMORY
        setattr(read.data, name, known)
        read.values["data"][name] = known
        setattr(read, f"{name}_rows", rows)
    return run(read)


def _spec(data: DataLike | None) -> Spec | None:
    """Return what ``data.train`` calls the rows: paths or names; None for rows in memory."""
    if isinstance(data, FeatureStore):
        return str(data.path)
    if isinstance(data, str | PathLike):
        return fspath(data)
    if isinstance(data, Sequence) and not isinstance(data, str):
        names = [item for item in data if isinstance(item, str | PathLike)]
        return [fspath(name) for name in names] if len(names) == len(data) else None
    return None
