"""Finished parts of a long benchmark, kept on disk; an interrupted run resumes from them."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vrm_pyro.atomic import write_file


class Cells:
    """Results by key, one JSON file each.

    Args:
        folder: Where the files lie; made when missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, key: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what is kept for a key, or compute and keep it.

        Args:
            key: All that decides the result, settings included: another key is another cell.
            compute: Gives the result, JSON values.
        """
        text = json.dumps(key, sort_keys=True)
        name = hashlib.blake2b(text.encode("utf-8"), digest_size=12).hexdigest()
        path = self.folder / f"{name}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["result"]
        result = compute()
        with write_file(path) as partial:
            partial.write_text(json.dumps({"key": key, "result": result}), encoding="utf-8")
        return result
