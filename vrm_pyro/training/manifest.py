"""The manifest of a checkpoint: written last, checked before a checkpoint is loaded."""

import hashlib
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import Field

from vrm_pyro.atomic import write_file
from vrm_pyro.data.artefacts import Count, Positive, Schema, checked, read_json
from vrm_pyro.errors import InputError

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


class _Facts(Schema):
    size: Count
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Step(Schema):
    processes: Positive
    batch: Positive
    accumulated: Positive


class _Manifest(Schema):
    step: _Step
    files: dict[str, _Facts]


#: What a resumed run reads of a checkpoint, where it is there.
_READ: Final = ("*.safetensors", "*.bin", "*.pt", "*.pth", "trainer_state.json")


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
        files = _read(checkpoint).files
    except InputError as error:
        return str(error)
    unknown = {p.name for pattern in _READ for p in checkpoint.glob(pattern)} - set(files)
    if unknown:
        return f"{min(unknown)} is not listed in {MANIFEST}"
    for name, facts in files.items():
        file = checkpoint / name
        if not file.is_file():
            return f"{name} is missing, but {MANIFEST} lists it"
        if file.stat().st_size != facts.size:
            return f"{name} has {file.stat().st_size} bytes, but {facts.size} were written"
        if _facts(file) != facts.model_dump():
            return f"{name} is not what was written"
    return None


def read_step(checkpoint: Path) -> StepShape:
    """Return the step shape of the run that wrote a checkpoint."""
    return StepShape(**_read(checkpoint).step.model_dump())


def _read(checkpoint: Path) -> _Manifest:
    path, remedy = checkpoint / MANIFEST, "Resume from another checkpoint."
    found: _Manifest = checked(_Manifest, read_json(path, remedy), MANIFEST, remedy)
    return found


def _facts(path: Path) -> dict[str, Any]:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return {"size": path.stat().st_size, "sha256": digest}
