"""PKU-SafeRLHF, read by the safer response; on request alone.

Published: as ``pku_saferlhf``.

Label: ``safer_response_id``.

Ratings: as ``pku_saferlhf``.

Ties and strengths: none.
"""

from typing import Any

from vrm_pyro.data.schemas.pku_saferlhf import OPTIONAL, convert_by
from vrm_pyro.data.schemas.schema import Row, Schema


def convert(row: Row) -> list[dict[str, Any]]:
    """Return the comparison, by the safer response."""
    return convert_by(row, "safer_response_id")


SCHEMA = Schema(
    __doc__,
    {"prompt": "", "response_0": "", "response_1": "", "safer_response_id": ""},
    convert,
    ("better_response_id", *OPTIONAL),
    automatic=False,
)
