"""Read the files of a run beside its model: metrics, log and settings."""

from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field, create_model

from vrm_pyro.data.artefacts import Count, Names, Scalar, Schema, checked, read_json
from vrm_pyro.diagnostics.evaluation import RATES

METRICS_FILE: Final = "metrics.json"
LOG_FILE: Final = "log_history.json"
_REMEDY: Final = "Restore the file, or train again."

Share = Annotated[float, Field(ge=0)]
_rates: dict[str, Any] = {
    name: (Share | None, None) for rate in RATES for name in (rate, f"{rate}_se")
}
_Numbers: Any = create_model("_Numbers", __base__=Schema, **_rates)


class _Lengths(Schema):
    longest: Share | None = None
    longest_se: Share | None = None
    shortest: Share | None = None
    shortest_se: Share | None = None


class _Subset(_Numbers):
    n_pairs: Count
    n_prompts: Count
    length_baseline: _Lengths | None = None


class _Training(Schema):
    architecture: str = ""
    validation_log_loss: float | None = None
    steps: Count = 0
    best_step: Count | None = None
    epochs: Share | None = None
    seconds: Share = 0.0
    mode: str = ""
    objective: str = ""
    bound: str = ""
    objectives: Names = []
    ratings_used: bool = False
    train_prompts: Count = 0
    train_pairs: Count = 0
    rows: dict[str, Count | list[str] | dict[str, Count]] = {}
    labels_are_function_of_ratings: bool | None = None


class _Metrics(_Subset):
    kl_weights: float | None = None
    kl_weights_se: Share | None = None
    kl_features: float | None = None
    kl_features_se: Share | None = None
    active_units_weights: Count | None = None
    active_units_features: Count | None = None
    by_subset: dict[str, _Subset] = {}
    training: _Training = _Training()


def read_metrics(run: Path) -> dict[str, Any]:
    """Return the content of ``metrics.json``.

    Args:
        run: Folder of the run.

    Raises:
        InputError: If a value is missing or does not fit.
    """
    path = run / METRICS_FILE
    content: dict[str, Any] = read_json(path, _REMEDY)
    checked(_Metrics, content, str(path), _REMEDY)
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
