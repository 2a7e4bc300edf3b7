"""Where a benchmark's result goes: to the screen, and whole into a file when one is named."""

import json
from typing import Any

from vrm_pyro.atomic import write_file


def emit(result: dict[str, Any], out: str | None) -> None:
    """Print a result as JSON, and write it to ``out`` unless that is None."""
    text = json.dumps(result, indent=1)
    print(text)
    if out:
        with write_file(out) as partial:
            partial.write_text(text + "\n", encoding="utf-8")
