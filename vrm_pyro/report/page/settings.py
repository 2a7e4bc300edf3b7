"""What a report is asked for, and what it is compared with."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from vrm_pyro.data.artefacts import Schema, checked, read_json
from vrm_pyro.diagnostics.certificates.certify import Declared, check_declared
from vrm_pyro.diagnostics.checks import Diagnosis
from vrm_pyro.diagnostics.metrics.power_scaling import MIN_DRAWS
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import differing_facts
from vrm_pyro.models.checkpoint import LoadedModel

DiagnosisLike: TypeAlias = Diagnosis | Sequence[Mapping[str, Any]] | str | os.PathLike[str]
"""Findings of ``diagnose``: its result, their JSON values, or a file of ``vrm-pyro diagnose``."""

LEAST: Final = {"worst": 0, "draws": MIN_DRAWS, "khat_prompts": 1, "psense_prompts": 0}
"""The least that each number of :class:`Settings` may be."""


@dataclass(frozen=True)
class Settings:
    """Numbers and choices of a report; see ``write_report`` for the meaning of each.

    >>> Settings(10, True, draws=50, khat_prompts=200, psense_prompts=40, seed=0)
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: draws is 50, but must be at least 100.
    """

    worst: int
    texts: bool
    draws: int
    khat_prompts: int
    psense_prompts: int
    seed: int
    backbone_saw_these_labels: Declared = "unknown"

    def __post_init__(self) -> None:
        for name, least in LEAST.items():
            if getattr(self, name) < least:
                raise InputError(f"{name} is {getattr(self, name)}, but must be at least {least}.")
        check_declared(self.backbone_saw_these_labels)


def check_page_name(out: str | os.PathLike[str]) -> None:
    """Raise InputError unless the name of a page ends in ``.html`` or ``.htm``.

    >>> check_page_name("report.html")
    >>> check_page_name("report.txt")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: report.txt: is a page; give a name that ends in .html.
    """
    if not os.fspath(out).endswith((".html", ".htm")):
        raise InputError(f"{os.fspath(out)}: is a page; give a name that ends in .html.")


def check_baseline(against: LoadedModel, loaded: LoadedModel) -> None:
    """Raise InputError unless a baseline has no latent variables and reads the same states."""
    name = against.directory or "the model"
    if against.members:
        raise InputError(
            f"against {name}: is a {against.architecture} model; give one of architecture "
            "bradley_terry or gate."
        )
    differing = differing_facts(loaded.backbone, against.backbone)
    if differing or against.hidden_size != loaded.hidden_size:
        raise InputError(
            f"against {name}: was trained on other states than {loaded.directory or 'the model'} "
            f"({', '.join(differing) or 'hidden size'} differs), so the two would not be compared "
            "on the same ground. Train a baseline with the same model.backbone, model.pooling, "
            "model.layer and model.max_length."
        )


class _Finding(Schema):
    name: str
    verdict: str
    value: float | None = None
    unit: str = ""
    uncertainty: float | None = None
    p_value: float | None = None
    alarm: bool | None = None
    advice: str = ""
    applies: bool = True
    detail: dict[str, Any] = {}
    question: str = ""
    group: str = ""
    on_some_prompts: bool = False


def read_findings(diagnosis: DiagnosisLike) -> list[Mapping[str, Any]]:
    """Return the findings of ``diagnose`` as JSON values.

    >>> read_findings([{"name": "khat", "verdict": "good"}])
    [{'name': 'khat', 'verdict': 'good'}]

    Raises:
        InputError: If the file does not exist, or holds something else.
    """
    if isinstance(diagnosis, Diagnosis):
        return list(diagnosis.to_json())
    advice = "Give what diagnose returned, or the file that vrm-pyro diagnose --out wrote."
    where, content = "diagnosis", diagnosis
    if isinstance(diagnosis, str | os.PathLike):
        where = f"diagnosis {os.fspath(diagnosis)}"
        content = read_json(diagnosis, advice)
    found = content.get("findings") if isinstance(content, dict) else content
    if not isinstance(found, list | tuple) or not all(
        isinstance(item, Mapping) and {"name", "verdict"} <= set(item) for item in found
    ):
        raise InputError(f"{where}: holds no list of findings with name and verdict. {advice}")
    checked(list[_Finding], list(found), f"{where}: findings", advice)
    return list(found)
