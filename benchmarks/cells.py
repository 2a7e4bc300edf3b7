"""Cache the finished parts of a long benchmark on disk, so that an interrupted run resumes."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from vrm_pyro.atomic import write_file


class Cells:
    """Results by key, one JSON file each.

    Args:
        folder: Folder of the files; created if missing.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    def get(self, key: dict[str, Any], compute: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return the cached result of a key, or compute and cache it.

        Args:
            key: Everything that determines the result, settings included.
            compute: Returns the result as JSON values.
        """
        path = self.folder / f"{self.name(key)}.json"
        if path.is_file():
            return json.loads(path.read_text(encoding="utf-8"))["result"]
        result = compute()
        with write_file(path) as partial:
            partial.write_text(json.dumps({"key": key, "result": result}), encoding="utf-8")
        return result

    @staticmethod
    def name(key: dict[str, Any]) -> str:
        """Return a short name of a key."""
        text = json.dumps(key, sort_keys=True)
        return hashlib.blake2b(text.encode("utf-8"), digest_size=12).hexdigest()
