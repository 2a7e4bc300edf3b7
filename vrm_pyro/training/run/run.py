"""Train a model from rows or states into a run folder."""

import logging
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from transformers import set_seed

from vrm_pyro.backbone import Backbone
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.diagnostics.evaluation import rating_words
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.reading import log_date, read_backbone, store_reading
from vrm_pyro.features.sharing import TOKENIZER
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import LoadedModel, load_model
from vrm_pyro.models.settings.row_checks import count_ignored_margins
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.processes import from_main, is_main
from vrm_pyro.training.data_config import check_data_settings
from vrm_pyro.training.finetuning import Tuner
from vrm_pyro.training.run.artefacts import read_log, read_metrics
from vrm_pyro.training.run.backbone import backbone_of
from vrm_pyro.training.run.directory import RunDirectory
from vrm_pyro.training.run.inputs import TrainingRows, adopt_reading, adopt_store
from vrm_pyro.training.run.results import Save, write_results
from vrm_pyro.training.run.settings import RunSettings
from vrm_pyro.training.train import train_checked

log = logging.getLogger(__name__)

RATES = {"accuracy": "accuracy", "log_loss": "log loss", "ece": "ECE"}


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its folder and validation metrics.

    It is an ``os.PathLike`` of its folder, so it can be passed to every function that takes a
    model.

    >>> rates = {"accuracy": 0.75, "accuracy_se": 0.01, "log_loss": 0.5, "log_loss_se": 0.02}
    >>> counts = {"ece": 0.04, "ece_se": None, "n_pairs": 1200, "n_prompts": 300}
    >>> print(Run(Path("runs/rated"), rates | counts).summary())
    accuracy 0.750 +- 0.010, log loss 0.500 +- 0.020, ECE 0.040 (1200 pairs of 300 prompts)

    Args:
        path: Folder of the run.
        metrics: Metrics on the validation rows, as in ``metrics.json``.
        trained: Whether this call trained it; False if it was already finished.
    """

    path: Path
    metrics: dict[str, Any]
    trained: bool = True

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r}: {self.summary()})"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><th>{words}</th><td>{value}</td></tr>" for words, value in self._rates().items()
        )
        if not self.metrics["n_pairs"]:
            return f"<p>Run <code>{escape(str(self.path))}</code>: {escape(self.summary())}</p>"
        pairs = f"{self.metrics['n_pairs']:,} pairs of {self.metrics['n_prompts']:,} prompts"
        caption = f"Run <code>{escape(str(self.path))}</code>, validation on {pairs}"
        return f"<table><caption>{caption}</caption>{rows}</table>"

    def summary(self) -> str:
        """Return the validation metrics in one line."""
        if not self.metrics["n_pairs"]:
            return rating_words(self.metrics["ratings"])
        rates = ", ".join(f"{words} {value}" for words, value in self._rates().items())
        counts = f"{self.metrics['n_pairs']} pairs of {self.metrics['n_prompts']} prompts"
        return f"{rates} ({counts})"

    def load(self, classes: Sequence[type] = ()) -> LoadedModel:
        """Return the trained model.

        Args:
            classes: Prior, guide or likelihood classes of your own.
        """
        return load_model(self.path, classes)

    @property
    def log_history(self) -> list[dict[str, Any]]:
        """The training log, one entry per logging step and validation."""
        return read_log(self.path)

    def scorer(self, **options: Any) -> Scorer:
        """Return the model with its backbone, ready to score text.

        Args:
            **options: Options of :meth:`vrm_pyro.Scorer.from_pretrained`.
        """
        return Scorer.from_pretrained(self.path, **options)

    def _rates(self) -> dict[str, str]:
        found = {}
        for name, words in RATES.items():
            error = self.metrics[f"{name}_se"]
            spread = "" if error is None else f" +- {error:.3f}"
            found[words] = f"{self.metrics[name]:.3f}{spread}"
        return found


def run(settings: RunSettings) -> Run:
    """Train with the given settings, or resume a stopped run, in ``train.output_dir``.

    With several processes, the main one writes the results and all return the run.

    Raises:
        InputError: If settings, rows and folder do not fit each other.
    """
    data, arguments = settings.data, settings.arguments
    check_data_settings(data)
    resume = arguments.resume_from_checkpoint not in (None, False, "false", "False", "")
    directory = from_main(
        lambda: RunDirectory(
            str(arguments.output_dir), overwrite=settings.overwrite, resume=resume
        )
    )
    specs = ((data.train, settings.train_rows), (data.validation, settings.validation_rows))
    if not resume:  # then nothing is replaced, and the states in the folder are the rows
        read = [spec for spec, rows in specs if rows is None]
        out = arguments.output_dir
        refuse_input_as_output(out, [*read, settings.model.backbone], "--train.output_dir")
    if directory.finished and resume:
        directory.check_same(settings.values)
        return Run(directory.path, read_metrics(directory.path), trained=False)
    rows = TrainingRows.read(data, settings.train_rows, settings.validation_rows)
    adopt_store(settings.model, rows.stores)
    adopt_reading(data, rows.stores)
    if resume and data.date is None:
        data.date = directory.held("data", "date")
    for name in ("backbone", "pooling", "layer", "max_length"):
        settings.values["model"][name] = getattr(settings.model, name)
    rows.check_learnable(settings.model)
    if told := rows.identified(settings.model):
        log.warning(told)
    tuned = settings.tuning.method != "frozen"
    backbone = backbone_of(settings) if rows.needs_backbone or tuned else None
    if backbone is not None:
        for store in rows.stores:
            store.check_key(backbone.key())
        if data.skip_invalid:
            rows = rows.without_refused(backbone)
        data.date = backbone.settings.date
        log_date(backbone, "this run, with its checkpoint and its exports,")
    for name in ("reasoning", "date"):
        settings.values["data"][name] = getattr(data, name)
    savers = [_tokenizer(backbone, rows.stores)]
    settings.values["train"]["resume_from_checkpoint"] = None
    from_main(lambda: directory.claim(settings.values, settings.yaml()))
    if tuned:
        assert backbone is not None
        set_seed(arguments.seed)  # adapters start at random
        tuner = Tuner(settings.tuning, backbone)
        states = rows.texts(tuner.backbone)
        result = train_checked(
            settings.model, arguments, states.train, states.validation.source, tuner=tuner
        )
        tuner.gather()
        savers.append(tuner.save)
    else:
        shown = not arguments.disable_tqdm
        states = rows.encoded(backbone, directory.path, progress=shown)
        validation = states.validation
        result = train_checked(
            settings.model, arguments, states.train, validation.source, states.backbone
        )
    if tuned and (is_main() or tuner.shards):  # shards compute together
        assert backbone is not None
        table = states.validation.table
        validation = Inputs.of(encode_table(table, backbone, progress=is_main()))
    facts = {
        "train_prompts": int(states.train.prompts.shape[0]),
        "train_pairs": len(states.train.pair_first),
        "rows": count_ignored_margins(settings.model, rows.train.table.report).as_dict(),
        "labels_are_function_of_ratings": rows.check.is_function,
        "labels_are_sign_of": rows.check.objective,
    }
    # One process writes the results.
    metrics = from_main(lambda: write_results(directory.path, result, validation, savers, facts))
    return Run(directory.path, metrics)


def _tokenizer(backbone: Backbone | None, stores: list[FeatureStore]) -> Save:
    """Return a function that writes the tokenizer of the backbone into a folder."""
    held = None if backbone is not None else stores[0].path / TOKENIZER
    if held is not None and not held.is_dir():
        meta = stores[0].meta
        if "class" in meta["backbone"]:
            return lambda folder: None  # a backbone of the user's own, without a tokenizer
        backbone = read_backbone(
            meta["backbone"]["name"],
            store_reading(stores[0].path),
            pooling=meta["key"]["pooling"],
            layer=meta["key"].get("layer"),
            max_length=meta["key"]["max_length"],
        )
        stores[0].check_key(backbone.key())

    def save(folder: Path) -> None:
        if backbone is not None:
            backbone.save_tokenizer(folder)
        elif held is not None:
            shutil.copytree(held, folder, dirs_exist_ok=True)

    return save
