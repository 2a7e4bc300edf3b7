"""Print the result of a benchmark, and write it to a file if one is named."""

import json
from typing import Any

import numpy as np

from vrm_pyro.atomic import write_file


def emit(result: dict[str, Any], out: str | None) -> None:
    """Print a result as JSON, and write it to ``out`` unless that is None."""
    print(json.dumps(result, indent=1))
    write_result(result, out)


def write_result(result: dict[str, Any], out: str | None) -> None:
    """Write a result as JSON to ``out``; do nothing if that is None."""
    if out:
        with write_file(out) as partial:
            partial.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def spread(values: list[float]) -> dict[str, float]:
    """Return the median, the minimum and the maximum."""
    return {
        "median": float(np.median(values)),
        "least": float(min(values)),
        "greatest": float(max(values)),
    }
