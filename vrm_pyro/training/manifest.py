"""The manifest of a checkpoint: written last, checked before a checkpoint is loaded."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

from vrm_pyro.atomic import write_file

MANIFEST: Final = "manifest.json"


@dataclass(frozen=True)
class StepShape:
    """How the prompts of an optimizer step are split.

    Args:
        processes: Number of processes.
        batch: Prompts in a batch of one process.
        accumulated: Batches of one process in a step.

    Examples:
        >>> StepShape(processes=2, batch=8, accumulated=3).prompts
        48
    """

    processes: int
    batch: int
    accumulated: int

    @property
    def prompts(self) -> int:
        """Prompts in a step of all processes."""
        return self.processes * self.batch * self.accumulated


def write_manifest(checkpoint: Path, step: StepShape) -> None:
    """Write the manifest of a checkpoint; all its other files must be written before."""
    files = {
        str(path.relative_to(checkpoint)): _facts(path)
        for path in sorted(checkpoint.rglob("*"))
        if path.is_file() and path.name != MANIFEST
    }
    text = json.dumps({"step": asdict(step), "files": files}, indent=1)
    with write_file(checkpoint / MANIFEST) as partial:
        partial.write_text(text + "\n", encoding="utf-8")


def damage(checkpoint: Path) -> str | None:
    """Return what is wrong with a checkpoint, with the file's name, or None if it is intact."""
    if not (checkpoint / MANIFEST).is_file():
        return f"was not written to its end (it has no {MANIFEST})"
    try:
        files = _read(checkpoint)["files"]
        for name, facts in files.items():
            file = checkpoint / name
            if not file.is_file():
                return f"{name} is missing"
            if file.stat().st_size != facts["size"]:
                return f"{name} has {file.stat().st_size} bytes, but {facts['size']} were written"
            if _facts(file) != facts:
                return f"{name} is not what was written"
        read_step(checkpoint)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"{MANIFEST} cannot be read ({error!r})"
    return None


def read_step(checkpoint: Path) -> StepShape:
    """Return the step shape of the run that wrote a checkpoint."""
    return StepShape(**_read(checkpoint)["step"])


def _read(checkpoint: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((checkpoint / MANIFEST).read_text(encoding="utf-8"))
    return found


def _facts(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}
