"""Report sections about predictions: metrics, calibration, certificates, single pairs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.diagnostics.certificates import HeldOutBound
from vrm_pyro.diagnostics.metrics.bootstrap import Difference, paired_bootstrap, paired_statistic
from vrm_pyro.diagnostics.metrics.pair_metrics import (
    accuracy_values,
    brier_values,
    expected_calibration_error,
    log_loss_values,
)
from vrm_pyro.diagnostics.metrics.reliability import reliability_curve
from vrm_pyro.diagnostics.metrics.selective import selective_accuracy
from vrm_pyro.report.page.blocks import Block, Cases, Pictures, Section, Table, Words
from vrm_pyro.report.page.cases import case_of, most_uncertain, worst_mistakes
from vrm_pyro.report.page.charts import reliability_chart, selective_chart
from vrm_pyro.report.page.page_inputs import PageInputs

Floats = NDArray[np.float64]

THIS: Final = "this model"
_NAMES: Final = {"bradley_terry": "Bradley-Terry", "gate": "gate over ratings"}
RATES: Final = {
    "accuracy": "accuracy",
    "log_loss": "log loss (nats)",
    "brier": "Brier score",
    "ece": "ECE",
}
_COVERAGE: Final = np.linspace(0.05, 1.0, 39)
_NOTHING: Final = "–"


@dataclass(frozen=True)
class Baseline:
    """Predictions of a model without latent variables on the same rows.

    Args:
        architecture: Its architecture, such as ``bradley_terry``.
        metrics: Metrics, as ``vrm-pyro evaluate`` writes them.
        p_first: Its probability that the first response is preferred, (N,).
    """

    architecture: str
    metrics: Mapping[str, Any]
    p_first: Floats

    @property
    def name(self) -> str:
        """What the page calls it."""
        return _NAMES.get(self.architecture, self.architecture)


def summary(inputs: PageInputs, baseline: Baseline | None) -> Section:
    """Return the summary: metrics next to the baselines, on all rows and by kind."""
    found = inputs.metrics
    rows = [[THIS, *(_rate(found, name) for name in RATES)]]
    if baseline is not None:
        rows.append([baseline.name, *(_rate(baseline.metrics, name) for name in RATES)])
    length = found["length_baseline"]
    for rule in ("longest", "shortest"):
        rows.append([f"always the {rule}", _rate(length, rule), *[_NOTHING] * (len(RATES) - 1)])
    blocks: list[Block] = [
        Table(
            f"{found['n_pairs']:,} pairs of {found['n_prompts']:,} prompts; ± standard error over "
            "prompts.",
            ["", *RATES.values()],
            rows,
            strong=(0,),
        )
    ]
    if baseline is not None:
        blocks.append(
            Table(
                f"{THIS.capitalize()} minus {baseline.name} on the same pairs.",
                ["", "difference", "90% interval"],
                _differences(inputs, baseline),
            )
        )
    else:
        blocks.append(
            Words(
                "No baseline was given. A scalar reward model on the same states is one command "
                "away: vrm-pyro train --config bradley_terry with the same data, then this report "
                "with --against DIR.",
                "note",
            )
        )
    by_kind = found["by_subset"]
    if len(by_kind) > 1:
        columns = ("accuracy", "log_loss", "ece")
        body = []
        for name, held in by_kind.items():
            cells = [f"{held['n_pairs']:,}", *(_rate(held, c) for c in columns)]
            if baseline is not None:
                cells.append(_rate(baseline.metrics["by_subset"][name], "accuracy"))
            cells.append(_rate(held["length_baseline"], "longest"))
            body.append([name, *cells])
        head = ["", "pairs", *(RATES[c] for c in columns)]
        head += [f"accuracy, {baseline.name}"] if baseline is not None else []
        blocks.append(Table("By kind of prompt.", [*head, "always the longest"], body))
    return Section("summary", "Summary", blocks)


def calibration(inputs: PageInputs, baseline: Baseline | None) -> list[Section]:
    """Return the sections on reliability and selective accuracy, with any baseline."""
    table = inputs.table
    models = {THIS: inputs.scores.p_first.astype(np.float64)}
    if baseline is not None:
        models[baseline.name] = baseline.p_first
    data = (table.preference, table.pair_weight, table.pair_prompt)
    reliability = {n: reliability_curve(p, *data) for n, p in models.items()}
    selective = {n: selective_accuracy(p, *data, _COVERAGE) for n, p in models.items()}
    picture, curve = reliability_chart(reliability), selective_chart(selective)
    return [
        Section("reliability", "Reliability", [Pictures([picture], picture.caption)]),
        Section("selective", "Selective accuracy", [Pictures([curve], curve.caption)]),
    ]


def certificates(
    bounds: Mapping[str, HeldOutBound] | str, warnings: Sequence[str] = ()
) -> Section:
    """Return the section on held-out limits, or on why there are none.

    Args:
        bounds: Limits by loss, or the reason why none holds.
        warnings: Conditions under which they are invalid.
    """
    blocks: list[Block] = []
    if isinstance(bounds, str):
        blocks.append(Words(f"Withheld: {bounds}.", "alarm"))
    else:
        names = {"error": "error rate", "brier": "Brier score"}
        body = [
            [
                names[loss],
                f"{b.observed:.3f}",
                f"{b.value:.3f}",
                f"{b.confidence:.0%}",
                f"{b.n:g} {b.unit}s",
                b.method,
            ]
            for loss, b in bounds.items()
        ]
        blocks.append(
            Table(
                "Held-out limits: observed on these rows, and the most it can be on new prompts.",
                ["risk", "observed", "at most", "confidence", "units", "method"],
                body,
                wordy=(5,),
            )
        )
        statement = next(iter(bounds.values())).statement.replace("error rate", "risk")
        blocks.append(
            Words(
                f"About {statement}. Each limit holds alone, and none if these rows were used to "
                "choose the model or its settings. vrm-pyro certify gives PAC-Bayes limits too."
            )
        )
    blocks += [Words(text, "alarm") for text in warnings]
    return Section("certificates", "Certificates", blocks)


def diagnoses(findings: Sequence[Mapping[str, Any]]) -> Section:
    """Return the section with the verdicts of ``vrm-pyro diagnose``, alarms first."""
    order = sorted(findings, key=lambda f: f.get("alarm") is not True)
    body = []
    for item in order:
        value = _number(item.get("value"))
        if item.get("uncertainty") is not None:
            value += f" ± {_number(item['uncertainty'])}"
        if item.get("unit") and item.get("value") is not None:
            value += f" {item['unit']}"
        raised = item.get("alarm")
        alarm = _NOTHING if raised is None else "yes" if raised else "no"
        words = " ".join(t for t in (item["verdict"], item.get("advice") or "") if t)
        body.append([str(item["name"]), alarm, words, value])
    alarms = [i for i, item in enumerate(order) if item.get("alarm") is True]
    return Section(
        "diagnoses",
        "Diagnoses",
        [
            Table(
                f"{len(alarms)} of {len(order)} checks raise an alarm.",
                ["check", "alarm", "verdict", "value"],
                body,
                wordy=(2, 3),
                strong=alarms,
            )
        ],
    )


def single_pairs(inputs: PageInputs, count: int, texts: bool) -> list[Section]:
    """Return the worst mistakes and the most uncertain pairs, at most one per prompt."""
    unit = "expected raw ratings" if inputs.rated else "model units"
    said = (
        "Reasons are contributions beta w_k (s_A,k - s_B,k) to the reward of A above that of B, "
        "the response that the model prefers: they add up to the expected difference."
    )
    wrong, unsure = worst_mistakes(inputs, count), most_uncertain(inputs, count)
    sections = []
    for key, title, pairs, intro in (
        (
            "mistakes",
            "Worst mistakes",
            wrong,
            f"The {len(wrong)} pairs with the largest log loss among those predicted wrong, at "
            "most one of each prompt. Look for wrong labels as well as for wrong models.",
        ),
        (
            "uncertain",
            "Most uncertain pairs",
            unsure,
            f"The {len(unsure)} pairs with a probability nearest to 1/2, at most one of each "
            "prompt.",
        ),
    ):
        blocks: list[Block] = [Words(intro), Words(said)]
        if not pairs:
            blocks = [Words("None." if count else "Left out: --worst 0.")]
        else:
            blocks.append(Cases([case_of(inputs, pair, texts) for pair in pairs], unit))
        sections.append(Section(key, title, blocks))
    return sections


def about(facts: Mapping[str, str]) -> Section:
    """Return the section on the model, rows and settings behind the page."""
    rows = [[name, value] for name, value in facts.items()]
    return Section("about", "About this page", [Table("", ["", ""], rows, wordy=(1,))])


def _differences(inputs: PageInputs, baseline: Baseline) -> list[list[str]]:
    table = inputs.table
    label, weight, prompt = table.preference, table.pair_weight, table.pair_prompt
    own = inputs.scores.p_first.astype(np.float64)
    found: list[Difference] = [
        paired_bootstrap(
            values(own, label), values(baseline.p_first, label), prompt, weight=weight, level=0.95
        )
        for values in (accuracy_values, log_loss_values, brier_values)
    ]
    found.append(
        paired_statistic(
            lambda w: expected_calibration_error(own, label, w),
            lambda w: expected_calibration_error(baseline.p_first, label, w),
            weight,
            prompt,
            level=0.95,
        )
    )
    return [
        [name, f"{d.difference:+.3f}", f"{d.lower:+.3f} to {d.upper:+.3f}"]
        for name, d in zip(RATES.values(), found, strict=True)
    ]


def _rate(found: Mapping[str, Any], name: str) -> str:
    value, error = found[name], found[f"{name}_se"]
    if value is None:
        return _NOTHING
    return f"{value:.3f}" + ("" if error is None else f" ± {error:.3f}")


def _number(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return _NOTHING
    return f"{value:.3g}" if isinstance(value, int | float) else str(value)
