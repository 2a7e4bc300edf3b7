"""Summarise cells: means over seeds, differences with uncertainty, and a table."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from sweeps.cells import Result, Sweep
from sweeps.options import SweepSettings
from sweeps.states import SweepStates
from vrm_pyro.diagnostics.metrics.bootstrap import paired_bootstrap
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, log_loss_values

METRICS: Final = ("accuracy", "log_loss", "ece")
WORDS: Final = {"accuracy": "accuracy", "log_loss": "log loss", "ece": "ECE"}


def by_group(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Return results by group, in order of appearance."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.cell.group, []).append(result)
    return groups


def over_seeds(results: Sequence[Result], part: str) -> dict[str, dict[str, float | None]]:
    """Return mean, lowest and highest of each metric over seeds, and its error over prompts.

    Args:
        results: Cells that differ by seed.
        part: ``validation`` or ``test``.
    """
    summary = {}
    for metric in METRICS:
        values = [result.values[part][metric] for result in results]
        errors = [result.values[part][f"{metric}_se"] for result in results]
        known = [error for error in errors if error is not None]
        summary[metric] = {
            "mean": float(np.mean(values)),
            "lowest": float(min(values)),
            "highest": float(max(values)),
            "seed_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
            "se_prompts": float(np.mean(known)) if known else None,
        }
    return summary


def difference(
    ours: Sequence[Result],
    reference: Sequence[Result],
    states: SweepStates,
    settings: SweepSettings,
) -> dict[str, dict[str, float]]:
    """Return mean differences of log loss and accuracy on test pairs, first minus second.

    Values of a pair are averaged over the seeds that tested it. Limits come from a bootstrap over
    prompts, so more seeds do not make them narrower.

    Args:
        ours: Cells of a group.
        reference: Cells of the reference group, with the same seeds.
        states: Rows of the sweep.
        settings: Settings of the sweep, which determine the split of each seed.
    """
    result = {}
    for name, function in (("log_loss", log_loss_values), ("accuracy", accuracy_values)):
        first, second = (
            _by_pair(cells, function, states, settings.split_seeds) for cells in (ours, reference)
        )
        pairs = sorted(first)
        values = np.array([(first[k][0], second[k][0]) for k in pairs])
        prompt, weight = (np.array([first[k][i] for k in pairs]) for i in (1, 2))
        result[name] = paired_bootstrap(
            values[:, 0], values[:, 1], prompt, weight=weight
        )._asdict()
    return result


def measures(
    ours: Sequence[Result],
    reference: Sequence[Result],
    states: SweepStates,
    settings: SweepSettings,
) -> dict[str, Any]:
    """Return the summary of a group: validation and test metrics, facts, and its difference.

    Args:
        ours: Cells of a group.
        reference: Cells of the reference group; if they are the same, there is no difference.
        states: Rows of the sweep.
        settings: Settings of the sweep.
    """
    own = ours is reference
    return {
        "validation": over_seeds(ours, "validation"),
        "test": over_seeds(ours, "test"),
        "difference": None if own else difference(ours, reference, states, settings),
    }


def _by_pair(
    results: Sequence[Result], function: Any, states: SweepStates, split_seeds: Mapping[int, int]
) -> dict[int, tuple[float, int, float]]:
    """Return mean value, prompt and weight of every pair tested with at least one seed."""
    seen: dict[int, list[float]] = {}
    facts: dict[int, tuple[int, float]] = {}
    for result in results:
        split = states.split(split_seeds[result.cell.seed])
        source = split.test.source
        p_first = np.asarray(result.values["p_first"])
        values: NDArray[np.float64] = function(p_first, np.asarray(source.preference))
        for pair, prompt, weight, value in zip(
            split.test_pair, split.test_prompt, source.pair_weight, values, strict=True
        ):
            seen.setdefault(int(pair), []).append(float(value))
            facts[int(pair)] = int(prompt), float(weight)
    return {pair: (float(np.mean(values)), *facts[pair]) for pair, values in seen.items()}


def measured_on(states: SweepStates, settings: SweepSettings) -> str:
    """Return a description of the test pairs that numbers were measured on."""
    splits = [states.split(seed) for seed in sorted(set(settings.split_seeds.values()))]
    pairs = len(np.unique(np.concatenate([split.test_pair for split in splits])))
    prompts = len(np.unique(np.concatenate([split.test_prompt for split in splits])))
    several = f" in {len(splits)} splits" if len(splits) > 1 else ""
    return f"{pairs:,} test pairs of {prompts:,} prompts{several}, {settings.rows_name}"


def table(
    rows: Sequence[tuple[str, Mapping[str, Mapping[str, float | None]], Mapping[str, Any] | None]],
    first: str,
    reference: str,
) -> str:
    """Return a table: one row per group with means, ranges and difference to a reference.

    Args:
        rows: Name, summary by metric, and difference to the reference (None for the reference).
        first: Header of the first column.
        reference: Name of the reference.
    """
    width = max(len(first), *(len(name) for name, _, _ in rows)) + 2
    head = f"{first:<{width}}" + "".join(f"{WORDS[metric]:>22}" for metric in METRICS)
    lines = [
        head + f"   log loss, minus {reference}",
        "-" * (len(head) + 19 + len(reference)),
    ]
    for name, summary, gap in rows:
        cells = "".join(f"{_cell(summary[metric]):>22}" for metric in METRICS)
        lines.append(f"{name:<{width}}{cells}   {_gap(gap)}")
    return "\n".join(
        [
            *lines,
            "mean over seeds (lowest to highest); differences with one-sided 90% limits from a "
            "bootstrap over prompts",
        ]
    )


def conclude(
    sweep: Sweep, figure: Figure, summary: dict[str, Any], states: SweepStates, shown: str
) -> None:
    """Write figure and numbers; print a table and a description of the test pairs."""
    settings = sweep.settings
    sweep.write(figure, summary, states)
    sweep.close()
    print(f"\n{measured_on(states, settings)}; {settings.seeds} seeds\n")
    print(shown)
    print(f"\nfigure and numbers: {settings.out}")


def _cell(values: Mapping[str, float | None]) -> str:
    return f"{values['mean']:.3f} ({values['lowest']:.3f}-{values['highest']:.3f})"


def _gap(gap: Mapping[str, Any] | None) -> str:
    if gap is None:
        return "-"
    values = gap["log_loss"]
    return f"{values['difference']:+.3f} [{values['lower']:+.3f}, {values['upper']:+.3f}]"
