"""The findings of all diagnostics of one model on some rows, and what they are computed from."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.data.source import with_objectives
from vrm_pyro.diagnostics.checks.check_inputs import CheckInputs
from vrm_pyro.diagnostics.checks.diagnostic import Diagnostic
from vrm_pyro.diagnostics.checks.finding import LEVEL, Finding
from vrm_pyro.diagnostics.checks.log_scores import log_scores
from vrm_pyro.diagnostics.checks.rows import Rows
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.prediction.predict import predict

WIDTH: Final = 100


@dataclass(frozen=True, repr=False)
class Diagnosis(Mapping[str, Finding]):
    """Findings by the name of their diagnostic; ``print`` shows alarms first, with advice.

    Args:
        findings: By name.
        diagnostics: What made each: question, group, and whether it looks at some prompts only.
        num_prompts: Prompts of the rows.
        num_some: Prompts that the costly diagnostics looked at.
    """

    findings: Mapping[str, Finding]
    diagnostics: Mapping[str, Diagnostic]
    num_prompts: int
    num_some: int

    def __getitem__(self, name: str) -> Finding:
        """Return the finding of one diagnostic."""
        return self.findings[name]

    def __iter__(self) -> Iterator[str]:
        """Iterate over names."""
        return iter(self.findings)

    def __len__(self) -> int:
        """Return the number of findings."""
        return len(self.findings)

    @property
    def alarms(self) -> list[str]:
        """Names of the diagnostics that raise an alarm."""
        return [name for name, finding in self.findings.items() if finding.alarm]

    def to_json(self) -> list[dict[str, Any]]:
        """Return the findings as JSON values, each with the question it answers."""
        return [
            {
                **finding.to_json(),
                "question": self.diagnostics[name].question,
                "group": self.diagnostics[name].group,
                "on_some_prompts": self.diagnostics[name].costly,
            }
            for name, finding in self.findings.items()
        ]

    def __str__(self) -> str:
        """Return alarms with what to try, then the rest in a line each."""
        groups = {
            "ALARM": [f for f in self.findings.values() if f.alarm],
            "no alarm": [f for f in self.findings.values() if f.applies and not f.alarm],
            "does not apply": [f for f in self.findings.values() if not f.applies],
        }
        fewer = self.num_some < self.num_prompts
        lines = [
            f"{len(self.alarms)} of {len(self)} diagnostics raise an alarm (each a test at level "
            f"{LEVEL:.0%}); {self.num_prompts} prompts"
            + (f", those marked * on {self.num_some} of them" * fewer)
        ]
        for title, group in groups.items():
            if group:
                lines += ["", f"{title}:"]
            for finding in group:
                star = "*" if self.diagnostics[finding.name].costly and fewer else " "
                verdict = finding.verdict.removeprefix("does not apply: ")
                lines += _wrapped(f"{star} {finding.name:<12}", verdict)
                if finding.alarm:
                    lines += _wrapped(" " * 14, f"-> {finding.advice}")
        return "\n".join(lines)

    def __repr__(self) -> str:
        """Return the number of findings and the names of the alarms."""
        return f"Diagnosis({len(self)} findings, alarms: {', '.join(self.alarms) or 'none'})"

    def _repr_html_(self) -> str:
        return f"<pre>{escape(str(self))}</pre>"


def check_inputs(
    loaded: LoadedModel,
    inputs: Inputs,
    reference: Inputs | None,
    others: Mapping[str, tuple[LoadedModel, Inputs]],
    num_prompts: int,
    num_draws: int,
    seed: int,
) -> CheckInputs:
    """Return what diagnostics are computed from.

    Args:
        loaded: The model.
        inputs: Rows with states.
        reference: Training rows, for shift.
        others: Other models with the same rows, each with its own states, by name.
        num_prompts: Prompts drawn at random for what is costly.
        num_draws: Draws of each of these.
        seed: Fixes everything that is drawn.

    Raises:
        InputError: If another model reads other prompts.
    """

    def material(rows: Inputs) -> CheckInputs:
        order = np.random.default_rng(seed).permutation(rows.table.num_prompts)
        some = rows.select(np.sort(order[:num_prompts]))
        return CheckInputs(loaded, rows_of(loaded, rows), rows_of(loaded, some), num_draws, seed)

    made = material(inputs)
    made.reference = None if reference is None else material(reference)
    made.others = {
        name: _scores(name, other, states, inputs, seed)
        for name, (other, states) in others.items()
    }
    return made


def rows_of(loaded: LoadedModel, inputs: Inputs) -> Rows:
    """Return rows with the ratings that the model was trained on, if any."""
    return Rows(
        with_objectives(inputs.source, loaded.objectives if loaded.rated else ()),
        inputs.table.pair_subset,
        np.array([len(text) for text in inputs.table.responses], dtype=np.int64),
    )


def _scores(
    name: str, other: LoadedModel, states: Inputs, inputs: Inputs, seed: int
) -> NDArray[np.float64]:
    """Return the log scores of another model on the same rows."""
    if states.table.num_prompts != inputs.table.num_prompts:
        raise InputError(f"against {name}: reads other prompts from the rows.")
    source = rows_of(other, states).source
    return log_scores(other, source, predict(other.model, source).p_first, seed)


def _wrapped(head: str, text: str) -> Sequence[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=head + " ", subsequent_indent=" " * (len(head) + 1)
    )
