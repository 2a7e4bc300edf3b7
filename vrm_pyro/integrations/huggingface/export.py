"""Export a trained model as a folder that transformers reads."""

import copy
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import quiet_transformers
from vrm_pyro.data.artefacts import read_json
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.diagnostics.evaluation import Evaluation
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, data_name
from vrm_pyro.integrations.huggingface.card import (
    FIGURE,
    CardMetrics,
    Origin,
    model_card,
    origin_of,
)
from vrm_pyro.integrations.huggingface.writing import (
    ExportSettings,
    refuse_own_classes,
    require_transformer,
    write_export,
)
from vrm_pyro.models.checkpoint import (
    CONFIG_FILE,
    SETTINGS_FILE,
    LoadedModel,
    load_model,
    settings_to_json,
)
from vrm_pyro.models.description import RESTORE, check_description
from vrm_pyro.models.settings.run_file import read_run_file
from vrm_pyro.prediction.opening import ModelLike, as_scorer, read_inputs
from vrm_pyro.prediction.scorer import Scorer, score_source
from vrm_pyro.report.plots import reliability
from vrm_pyro.training.run.artefacts import METRICS_FILE, read_metrics


@dataclass(frozen=True, repr=False)
class Export:
    """An exported model: an ``os.PathLike`` of its folder, which ``from_pretrained`` takes.

    >>> from pathlib import Path
    >>> Export(Path("exports/a"))
    Export('exports/a')

    Args:
        path: The folder.
        evaluation: Metrics on the rows given for the model card; None without rows.
    """

    path: Path
    evaluation: Evaluation | None = None

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        measured = "" if self.evaluation is None else f": {self.evaluation!r}"
        return f"Export({str(self.path)!r}{measured})"


def export_model(
    model: ModelLike,
    out: str | os.PathLike[str],
    data: DataLike | None = None,
    *,
    adapter: str = "merge",
    dtype: str = "float32",
    without_boundary: str = "raise",
    max_shard_size: str = "5GB",
    empty_reward: float | None = None,
    backbone: str | None = None,
    device: str | torch.device = "auto",
    skip_invalid: bool = False,
    split: str = "train",
    overwrite: bool = False,
    cache: bool = True,
    progress: bool = False,
) -> Export:
    """Write a trained model with its backbone, tokenizer and model card into one folder.

    The folder is loaded once and its rewards are compared with those of the model::

        export_model("runs/rated", "exports/rated", "test.jsonl")
        AutoModelForSequenceClassification.from_pretrained("exports/rated", num_labels=1)

    The backbone is loaded anew in float32; a scorer or loaded model that is passed stays as it is.

    Args:
        model: The folder of a run, a run, a loaded model or a scorer.
        out: The folder to write, outside that of the run.
        data: Rows that the model has not seen, in any form: the model card then has metrics on
            them and a reliability diagram.
        adapter: See :class:`~vrm_pyro.integrations.huggingface.writing.ExportSettings`, also for
            the next three.
        dtype: Precision of the backbone's weights in the folder.
        without_boundary: What the exported model does with a row in which no answer begins:
            ``raise`` or ``whole_text``.
        max_shard_size: Largest file of weights.
        empty_reward: Reward of a row whose response is empty; NaN, "not scored", if None.
        backbone: Where the model's backbone is now, if it was moved.
        device: Where the backbone runs.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        overwrite: Whether to replace a folder that holds files.
        cache: Whether to use the disk cache of states for ``data``.
        progress: Whether to show a progress bar while texts are encoded.

    Raises:
        InputError: If an option is unknown, the model has classes or a backbone of the user's own,
            model or rows cannot be read, ``out`` cannot be written, or the written folder does
            not give the model's rewards.
    """
    settings = ExportSettings(adapter, dtype, without_boundary, max_shard_size, empty_reward)
    loaded, folder = _open(model, out)
    refuse_input_as_output(out, [data, loaded.backbone.get("name"), backbone])
    scorer = as_scorer(loaded, backbone=backbone, device=device, dtype="float32")
    measured = None
    with write_directory(out, overwrite=overwrite) as partial:
        if data is not None:  # before an adapter is merged in place
            inputs = read_inputs(
                scorer,
                data,
                needs_pairs=True,
                skip_invalid=skip_invalid,
                split=split,
                cache=cache,
                progress=progress,
            )
            measured = evaluate(scorer, inputs)
            rows, scores = inputs.table, score_source(scorer.model, inputs.source)
            figure = reliability(
                {"this model": scores.p_first}, rows.preference, rows.pair_weight, rows.pair_prompt
            )
            figure.savefig(partial / FIGURE, format="png")
        with quiet_transformers():
            write_export(scorer, partial, settings)
        shown = None if measured is None else CardMetrics(_words(data), measured, FIGURE)
        card = model_card(
            Path(out).resolve().name, scorer.loaded, _origin(folder), settings, shown
        )
        (partial / "README.md").write_text(card, encoding="utf-8")
    return Export(Path(out), measured)


def _open(model: ModelLike, out: str | os.PathLike[str]) -> tuple[LoadedModel, Path | None]:
    """Return a model that may be exported to ``out``, and the folder of its run, if any."""
    if isinstance(model, Scorer):
        require_transformer(model.backbone)
        model = model.loaded
    if isinstance(model, LoadedModel):
        if model.directory is not None:
            _protect(model.directory, out)
        refuse_own_classes(settings_to_json(model.config))
        # a copy: the export moves the heads to its device
        return replace(model, model=copy.deepcopy(model.model)), model.directory
    folder = Path(model)
    _protect(folder, out)
    if (folder / CONFIG_FILE).is_file():
        described = read_json(folder / CONFIG_FILE, RESTORE)
        check_description(described, str(folder / CONFIG_FILE))
        # before loading, which would ask for these classes
        refuse_own_classes(described["settings"])
    return load_model(folder), folder


def _protect(run: Path, out: str | os.PathLike[str]) -> None:
    """Raise InputError if writing ``out`` would replace or change the run."""
    target, run = Path(out).resolve(), run.resolve()
    if target in (run, *run.parents) or run in target.parents:
        raise InputError(
            f"--out {os.fspath(out)}: lies in the folder of the run, or is it. Choose another one."
        )


def _origin(folder: Path | None) -> Origin:
    if folder is None:
        return origin_of(None, None)
    settings = folder / SETTINGS_FILE
    return origin_of(
        read_metrics(folder) if (folder / METRICS_FILE).is_file() else None,
        read_run_file(settings) if settings.is_file() else None,
    )


def _words(data: Any) -> str:
    """Return what the card calls the rows: names of files without their folders."""
    names = data_name(data)
    if names == "the rows":
        return "rows given for this card"
    shown = ", ".join(f"`{Path(name).name}`" for name in names.split(", "))
    return f"{shown}, given for this card"
