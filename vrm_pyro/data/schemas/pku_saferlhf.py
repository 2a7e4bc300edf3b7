"""PKU-SafeRLHF: two responses, the better one and the safer one; read by the better one.

Published: ``PKU-Alignment/PKU-SafeRLHF``, ``PKU-SafeRLHF-30K``, ``PKU-SafeRLHF-single-dimension``.

Label: ``better_response_id``. To learn from ``safer_response_id`` instead, ask for
``pku_saferlhf_safer``.

Ratings: ``is_response_0_safe`` and ``is_response_1_safe``, where given, as the objective
``safe``, 1 or 0.

Ties and strengths: none. Harm categories and severity levels are not used.
"""

from typing import Any

from vrm_pyro.data.schemas.rows import comparison
from vrm_pyro.data.schemas.schema import Row, Schema
from vrm_pyro.data.schemas.values import choice, truth


def convert_by(row: Row, label: str) -> list[dict[str, Any]]:
    """Return the comparison, by the response that ``label`` names."""
    safe = [truth(row.get(f"is_response_{n}_safe"), f"is_response_{n}_safe") for n in (0, 1)]
    ratings = tuple(None if value is None else {"safe": float(value)} for value in safe)
    preference = choice(row, label, {"0": 1.0, "1": 0.0})
    pair = (row["response_0"], row["response_1"])
    source = row.get("prompt_source")
    return [comparison(row["prompt"], *pair, preference, ratings, source=source)]  # type: ignore[arg-type]


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison, by the better response."""
    return convert_by(row, "better_response_id")


OPTIONAL = (
    "is_response_0_safe",
    "is_response_1_safe",
    "prompt_source",
    "response_0_source",
    "response_1_source",
    "response_0_harm_category",
    "response_1_harm_category",
    "response_0_severity_level",
    "response_1_severity_level",
    "response_0_sha256",
    "response_1_sha256",
)

SCHEMA = Schema(
    __doc__,
    {"prompt": "", "response_0": "", "response_1": "", "better_response_id": ""},
    convert,
    ("safer_response_id", *OPTIONAL),
)
