"""``vrm-pyro export``: a trained model as a folder that transformers reads."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import yaml
from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import quiet_transformers
from vrm_pyro.cli.options import add_device_option, add_reading_options, read_scorer
from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.reading import backbone_name, read_rows
from vrm_pyro.integrations.huggingface.card import FIGURE, Evaluation, model_card, origin_of
from vrm_pyro.integrations.huggingface.reading import WITHOUT_BOUNDARY
from vrm_pyro.integrations.huggingface.writing import (
    ADAPTERS,
    DTYPES,
    ExportSettings,
    refuse_own_classes,
    write_export,
)
from vrm_pyro.models.checkpoint import CONFIG_FILE, SETTINGS_FILE, load_model
from vrm_pyro.prediction.scorer import Scorer, score_source
from vrm_pyro.report.plots import reliability
from vrm_pyro.training.run.results import METRICS_FILE


def build_parser() -> ArgumentParser:
    """Return the options of ``export``."""
    parser = new_parser(
        "export",
        "Write a trained model with its backbone and tokenizer as one folder that transformers "
        "reads (AutoModelForSequenceClassification, once vrm_pyro.integrations.huggingface is "
        "imported), with a "
        "model card and a self-test that every load repeats. docs/howto/export.md says more.",
        examples=["vrm-pyro export --model runs/a --out exports/a --data test.jsonl"],
    )
    for name, metavar, text in (
        ("model", "DIR", "Folder that train wrote."),
        ("out", "HF_DIR", "Folder to write."),
    ):
        parser.add_argument(f"--{name}", type=str, required=True, metavar=metavar, help=text)
    for name, allowed, text in (
        (
            "adapter",
            ADAPTERS,
            "What to do with a low-rank adapter: merge it into the weights, or keep it beside "
            "them (loading then needs peft).",
        ),
        ("dtype", DTYPES, "Precision of the backbone's weights; the heads stay in float32."),
        (
            "without_boundary",
            WITHOUT_BOUNDARY,
            "What the model does with token ids in which no answer begins: raise, or use the "
            "whole_text as both prompt and response.",
        ),
    ):
        parser.add_argument(
            f"--{name}",
            type=str,
            default=allowed[0],
            metavar="|".join(allowed),
            help=text,
        )
    parser.add_argument(
        "--max_shard_size", type=str, default="5GB", help="Largest file of weights."
    )
    parser.add_argument(
        "--data",
        type=str | list[str],
        metavar="ROWS",
        help="Rows that the model has not seen, for metrics and calibration in the model card.",
    )
    add_reading_options(parser)
    parser.add_argument(
        "--backbone",
        type=str,
        metavar="NAME",
        help="New path of the model's backbone, if it was moved. Its weights must be the same.",
    )
    add_device_option(parser)
    parser.add_argument("--overwrite", action="store_true", help="Replace an existing folder.")
    return parser


def run(argv: Sequence[str]) -> None:
    """Export one model."""
    options = parse(build_parser(), argv)
    settings = ExportSettings(
        options.adapter, options.dtype, options.without_boundary, options.max_shard_size
    )
    _protect(options)
    described = _read(Path(options.model) / CONFIG_FILE, json.loads) or {}
    refuse_own_classes(described.get("settings") or {})
    loaded = load_model(options.model)
    if options.backbone:
        loaded.backbone["name"] = backbone_name(options.backbone)
    scorer = read_scorer(Namespace(device=options.device, dtype="float32"), loaded)
    folder = Path(options.model)
    origin = origin_of(
        _read(folder / METRICS_FILE, json.loads), _read(folder / SETTINGS_FILE, yaml.safe_load)
    )
    with write_directory(options.out, overwrite=options.overwrite) as partial:
        evaluation = None
        if options.data is not None:  # before an adapter is merged in place
            evaluation = _evaluate(scorer, options, partial)
        with quiet_transformers():
            write_export(scorer, partial, settings)
        name = Path(options.out).resolve().name
        card = model_card(name, loaded, origin, settings, evaluation)
        (partial / "README.md").write_text(card, encoding="utf-8")
    print(f"exported, loaded again and compared with the run's own rewards: {options.out}")
    print(
        "next: import vrm_pyro.integrations.huggingface, then "
        "AutoModelForSequenceClassification.from_pretrained("
        f"{str(options.out)!r}, num_labels=1)"
    )


def _protect(options: Namespace) -> None:
    """Raise UsageError if replacing the output folder would delete the model itself."""
    out, model = Path(options.out).resolve(), Path(options.model).resolve()
    if out in (model, *model.parents) or model in out.parents:
        raise UsageError(
            f"--out {options.out}: lies in the folder of the run, or is it. Choose another one."
        )


def _evaluate(scorer: Scorer, options: Namespace, folder: Path) -> Evaluation:
    """Measure the model on rows, and write a reliability diagram into a folder."""
    table = read_rows(options.data, options.skip_invalid, options.split)
    source = encode_table(table, scorer.backbone, progress=True)
    inputs = Inputs.of(source)
    metrics = evaluate(scorer, inputs)
    scores = score_source(scorer.model, cast(FeatureSource, source))
    rows = inputs.table
    figure = reliability(
        {"this model": scores.p_first}, rows.preference, rows.pair_weight, rows.pair_prompt
    )
    figure.savefig(folder / FIGURE, format="png")
    names = [options.data] if isinstance(options.data, str) else options.data
    shown = ", ".join(f"`{Path(name).name}`" for name in names)
    return Evaluation(f"{shown}, given for this card", metrics, FIGURE)


def _read(path: Path, parser: Any) -> Mapping[str, Any] | None:
    """Return the content of a run's file; None if it does not exist."""
    if not path.is_file():
        return None
    try:
        found = parser(path.read_text(encoding="utf-8"))
    except (ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({error}); restore or remove it.") from error
    if not isinstance(found, Mapping):
        raise InputError(f"{path}: holds no mapping; restore or remove it.")
    return found
