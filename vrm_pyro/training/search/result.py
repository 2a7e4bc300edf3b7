"""The result of a search, with its table and its files."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vrm_pyro.atomic import write_file, write_json
from vrm_pyro.diagnostics.metrics.bootstrap import Difference
from vrm_pyro.training.search.scores import Rates

RESULT_FILE = "search.json"
TABLE_FILE = "search.md"
BEST_FILE = "best.yaml"


@dataclass(frozen=True)
class SearchTrial:
    """One trial.

    Args:
        number: From 0, in the order of the start.
        state: ``complete``, ``pruned`` or ``failed``.
        values: Its settings by dotted key.
        rates: Held-out rates; None unless it is complete.
        num_parameters: Trained parameters of its model; None unless it is complete.
        seconds: Time of its trainings.
        error: Why it failed.
    """

    number: int
    state: str
    values: Mapping[str, Any]
    rates: Rates | None = None
    num_parameters: int | None = None
    seconds: float = 0.0
    error: str | None = None


@dataclass(frozen=True)
class SearchedConfig:
    """What a search found for one config.

    Args:
        name: Name of the config.
        trials: All trials, in order.
        best: Number of the trial with the lowest held-out log loss.
        close: Numbers of the trials within one standard error of it.
        choice: Number of the chosen one among them: with the fewest parameters; of equals the
            earliest.
        path: Config of the choice, which ``vrm-pyro train --config`` takes.
        test: Rates of the choice on the test rows, trained on all others.
    """

    name: str
    trials: tuple[SearchTrial, ...]
    best: int
    close: tuple[int, ...]
    choice: int
    path: Path
    test: Rates | None = None

    def trial(self, number: int) -> SearchTrial:
        """Return a trial by its number."""
        return next(trial for trial in self.trials if trial.number == number)

    def count(self, state: str) -> int:
        """Return the number of trials that ended in a state."""
        return sum(trial.state == state for trial in self.trials)


@dataclass(frozen=True)
class Comparison:
    """The difference between the choices of two configs on the same pairs.

    Args:
        first: Name of the first config.
        second: Name of the second config.
        rows: ``held out``, or ``test``.
        log_loss: First minus second.
        accuracy: First minus second.
    """

    first: str
    second: str
    rows: str
    log_loss: Difference
    accuracy: Difference


@dataclass(frozen=True, repr=False)
class SearchResult:
    """The result of a search.

    Args:
        path: Its folder.
        facts: Number of pairs and prompts, folds, seeds, and trials of each config.
        configs: What was found for each config, by name.
        comparisons: Differences between every two configs.
    """

    path: Path
    facts: Mapping[str, Any]
    configs: Mapping[str, SearchedConfig]
    comparisons: tuple[Comparison, ...]

    def __repr__(self) -> str:
        return f"SearchResult({str(self.path)!r}: {', '.join(self.configs)})"

    def __str__(self) -> str:
        return self.table()

    def table(self) -> str:
        """Return the result as Markdown, for a terminal too."""
        facts = self.facts
        seeds = f", {facts['seeds']} seeds" if facts["seeds"] > 1 else ""
        parts = [
            f"{facts['pairs']:,} pairs of {facts['prompts']:,} prompts, {facts['folds']} folds by "
            f"prompt{seeds}, {facts['trials']} trials of each config",
            self._choices(),
            *(self._differences() if self.comparisons else ()),
            *(f"{found.name}: {_settings(found)}" for found in self.configs.values()),
        ]
        if facts["test_pairs"] is None:
            parts.append(
                "Held-out rates of a choice are slightly too good, as it was chosen by them; "
                "--test names rows that play no part in the choice."
            )
        return "\n\n".join(parts)

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON values."""
        return {
            **self.facts,
            "configs": {name: _searched(found) for name, found in self.configs.items()},
            "comparisons": [
                {
                    **asdict(item),
                    "log_loss": item.log_loss._asdict(),
                    "accuracy": item.accuracy._asdict(),
                }
                for item in self.comparisons
            ],
        }

    def write(self) -> None:
        """Write ``search.json`` and ``search.md``."""
        write_json(self.path / RESULT_FILE, self.to_dict())
        with write_file(self.path / TABLE_FILE) as partial:
            partial.write_text(self.table() + "\n", encoding="utf-8")

    def _choices(self) -> str:
        tested = self.facts["test_pairs"] is not None
        head = ["config", "complete, pruned, failed", "best", "log loss", "choice", "log loss"]
        head += ["accuracy", *(["test log loss", "test accuracy"] if tested else [])]
        rows = []
        for found in self.configs.values():
            best, choice = found.trial(found.best).rates, found.trial(found.choice).rates
            assert best is not None
            assert choice is not None
            counts = [str(found.count(state)) for state in ("complete", "pruned", "failed")]
            row = [found.name, ", ".join(counts), f"trial {found.best}", _rate(best.log_loss)]
            row += [f"trial {found.choice}", _rate(choice.log_loss), _rate(choice.accuracy)]
            if found.test is not None:
                row += [_rate(found.test.log_loss), _rate(found.test.accuracy)]
            rows.append(row)
        return _markdown(head, rows)

    def _differences(self) -> list[str]:
        rows = [
            [f"{c.first} minus {c.second}", c.rows, _gap(c.log_loss), _gap(c.accuracy)]
            for c in self.comparisons
        ]
        return [
            _markdown(["choices", "rows", "log loss", "accuracy"], rows),
            "Differences with one-sided 90% limits from a paired bootstrap over prompts.",
        ]


def _rate(estimate: Any) -> str:
    return f"{estimate.value:.4f} +- {estimate.standard_error:.4f}"


def _gap(gap: Difference) -> str:
    return f"{gap.difference:+.4f} [{gap.lower:+.4f}, {gap.upper:+.4f}]"


def _settings(found: SearchedConfig) -> str:
    values = found.trial(found.choice).values
    return ", ".join(f"{key} {_short(value)}" for key, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _searched(found: SearchedConfig) -> dict[str, Any]:
    return {
        "best": found.best,
        "within_one_standard_error": list(found.close),
        "choice": found.choice,
        "config": str(found.path),
        "test": _rates(found.test),
        "trials": [
            {
                "number": trial.number,
                "state": trial.state,
                "settings": dict(trial.values),
                **(_rates(trial.rates) or {}),
                "num_parameters": trial.num_parameters,
                "seconds": trial.seconds,
                "error": trial.error,
            }
            for trial in found.trials
        ],
    }


def _rates(rates: Rates | None) -> dict[str, float] | None:
    if rates is None:
        return None
    return {
        "log_loss": rates.log_loss.value,
        "log_loss_se": rates.log_loss.standard_error,
        "accuracy": rates.accuracy.value,
        "accuracy_se": rates.accuracy.standard_error,
    }


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "| "
        + " | ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True))
        + " |"
        for line in lines
    )
