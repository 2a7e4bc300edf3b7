"""Read the files of a run beside its model: metrics, log and settings."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import ConfigDict, Field, create_model, model_validator

from vrm_pyro.data.artefacts import Count, Names, Scalar, Schema, checked, read_json
from vrm_pyro.diagnostics.evaluation import RATES
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import CONFIG_FILE
from vrm_pyro.models.description import check_description

METRICS_FILE: Final = "metrics.json"
LOG_FILE: Final = "log_history.json"
_REMEDY: Final = "Restore the file, or train again."

Share = Annotated[float, Field(ge=0)]
_rates: dict[str, Any] = {
    name: (Share | None, ...) for rate in RATES for name in (rate, f"{rate}_se")
}
_Numbers: Any = create_model("_Numbers", __base__=Schema, **_rates)


class _Lengths(Schema):
    longest: Share | None
    longest_se: Share | None
    shortest: Share | None
    shortest_se: Share | None


class _Subset(_Numbers):
    n_pairs: Count
    n_prompts: Count
    length_baseline: _Lengths


class _Rows(Schema):
    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, Count]  # such as texts that were cut

    rows_read: Count
    rows_kept: Count
    comparisons: Count
    rated_responses: Count
    rankings: Count
    invalid: dict[str, Count]
    dropped: dict[str, Count]
    margins: Count
    margins_ignored: Count
    conflicting_ratings: Count
    cut_inside_word: Count
    ignored_objectives: list[str]
    absent_objectives: list[str]
    # Since format 2 of the model's description, as in the classes below.
    templated_prompts: Count = 0
    schemas: dict[str, Count] = {}
    unused_columns: dict[str, Count] = {}


_OF_LATENTS: Final = ("mode", "objective", "bound", "objectives", "ratings_used")
_MAY_LACK: Final = (*_OF_LATENTS, "scales", "intervals")


class _Training(Schema):
    architecture: str
    validation_log_loss: float | None
    validation_rating_log_score: float | None = None
    steps: Count
    best_step: Count | None
    epochs: Share | None
    seconds: Share
    mode: str = ""
    objective: str = ""
    bound: str = ""
    objectives: Names = []
    ratings_used: bool = False
    scales: list[dict[str, float | list[float] | None]] = []  # of each member, if recalibrated
    train_prompts: Count
    train_pairs: Count
    rows: _Rows
    labels_are_function_of_ratings: bool
    labels_are_sign_of: str | None = None

    @model_validator(mode="after")
    def _whole(self) -> "_Training":
        """Refuse a VRM without what only a model without latent variables may lack."""
        lacking = [name for name in _OF_LATENTS if name not in self.model_fields_set]
        if lacking and self.architecture == "vrm":
            raise ValueError(f"one with {lacking[0]!r}, which is missing")
        return self


class _Scores(Schema):
    n_ratings: Count
    log_score: float | None
    log_score_se: Share | None
    r2: float | None


class _Ratings(_Scores):
    by_objective: dict[str, _Scores]


class _IntervalRates(Schema):
    lower_calibration_error: Share | None
    upper_calibration_error: Share | None
    confident_true: Share | None
    confident_true_se: Share | None
    confident_false: Share | None
    confident_false_se: Share | None


class _Intervals(Schema):
    sds: Annotated[float, Field(gt=0, strict=True)]
    total: _IntervalRates
    epistemic: _IntervalRates


class _Metrics(_Subset):
    intervals: _Intervals | None = None
    kl_weights: float | None
    kl_weights_se: Share | None
    kl_features: float | None
    kl_features_se: Share | None
    active_units_weights: Count | None
    active_units_features: Count | None
    by_subset: dict[str, _Subset]
    ratings: _Ratings | None = None
    training: _Training


def _later(content: Mapping[str, Any]) -> tuple[tuple[type[Schema], Any, str], ...]:
    """Return schemas with their parts of the content, which format 2 has whole."""
    training = content["training"]
    return (
        (_Metrics, content, ""),
        (_Training, training, "training."),
        (_Rows, training["rows"], "training.rows."),
    )


def read_metrics(run: Path) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        run: Folder of the run.

    Raises:
        InputError: If a value is missing or does not fit.
    """
    path, described = run / METRICS_FILE, run / CONFIG_FILE
    content: dict[str, Any] = read_json(path, _REMEDY)
    checked(_Metrics, content, str(path), _REMEDY)
    description = read_json(described, _REMEDY)
    check_description(description, str(described))
    if description["format"] == 1:
        return content
    for schema, held, above in _later(content):
        lacking = [n for n in schema.model_fields if n not in held and n not in _MAY_LACK]
        if lacking:
            raise InputError(f"{path}: {above + lacking[0]!r} is missing. {_REMEDY}")
    return content


def read_log(run: Path) -> list[dict[str, Any]]:
    """Return the content of ``log_history.json``, one entry per logging step and validation.

    Args:
        run: Folder of the run.

    Raises:
        InputError: If a value does not fit.
    """
    path = run / LOG_FILE
    content: list[dict[str, Any]] = read_json(path, _REMEDY)
    checked(list[dict[str, Scalar]], content, str(path), _REMEDY)
    return content
