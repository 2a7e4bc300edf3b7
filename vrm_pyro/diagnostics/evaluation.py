"""The result of an evaluation: rates with standard errors, as a table, HTML or JSON."""

import math
from collections.abc import Mapping
from html import escape
from typing import Any, Final

from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate

RATES: Final = ("accuracy", "log_loss", "brier", "ece", "accuracy_at_50")

_COLUMNS: Final = {"accuracy": "accuracy", "log_loss": "log loss", "brier": "Brier", "ece": "ECE"}
_LENGTH_RULES: Final = {"longest": "rule: longer is better", "shortest": "rule: shorter is better"}


class Evaluation(dict[str, Any]):
    """Rates of a model on some rows: the JSON values that ``vrm-pyro evaluate`` writes.

    Every rate ``name`` has a standard error ``name_se`` whose unit is the prompt. A rate that is
    not defined (KL of a model without latents, a standard error from a single prompt, lengths that
    were not given) is None. ``by_subset`` holds the same rates without the KL and active-unit
    entries, which describe the model on all rows; pairs without a subset are under ``(none)`` when
    others have one. ``ratings`` holds log score and R^2 of ratings, where the model's scores are
    ratings (:func:`~vrm_pyro.diagnostics.rating_rates.rating_rates`).

    >>> found = Evaluation({"n_pairs": 2, "n_prompts": 2, "accuracy": 0.5, "accuracy_se": None})
    >>> found.rate("accuracy")
    Estimate(value=0.5, standard_error=nan)
    >>> found["n_pairs"]
    2
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values as a plain dict."""
        return dict(self)

    @property
    def accuracy(self) -> Estimate:
        """Share of labels on the side that the model prefers."""
        return self.rate("accuracy")

    @property
    def log_loss(self) -> Estimate:
        """Mean of -log p(label), in nats."""
        return self.rate("log_loss")

    @property
    def brier(self) -> Estimate:
        """Mean of (p(label) - 1)^2."""
        return self.rate("brier")

    @property
    def ece(self) -> Estimate:
        """Expected calibration error."""
        return self.rate("ece")

    @property
    def by_subset(self) -> dict[str, "Evaluation"]:
        """The rates of each subset, by its name."""
        return {name: Evaluation(found) for name, found in self["by_subset"].items()}

    def rate(self, name: str) -> Estimate:
        """Return a rate with its standard error; NaN where it is not defined."""
        pair = self[name], self[f"{name}_se"]
        return Estimate(*(float("nan") if value is None else value for value in pair))

    def __repr__(self) -> str:
        if not self["n_pairs"] and self._rated:
            return f"Evaluation({rating_words(self['ratings'])})"
        shown = ("accuracy", "log_loss")
        rates = ", ".join(f"{_COLUMNS[name]} {_cell(self, name)}" for name in shown)
        return f"Evaluation({rates} on {self['n_pairs']:,} pairs of {self['n_prompts']:,} prompts)"

    def __str__(self) -> str:
        return "\n\n".join(_as_text(table) for table in self._tables())

    def _repr_html_(self) -> str:
        return "".join(_as_html(table) for table in self._tables())

    @property
    def _rated(self) -> bool:
        return bool((self.get("ratings") or {}).get("n_ratings"))

    def _tables(self) -> list[list[list[str]]]:
        """Return tables of the pairs and of the ratings, as far as there are any."""
        found = [self._table()] if self["n_pairs"] or not self._rated else []
        found += [self._interval_table()] if self.get("intervals") else []
        return [*found, self._rating_table()] if self._rated else found

    def _interval_table(self) -> list[list[str]]:
        """Return the rows of a table: intervals of everything left open, and of parameters."""
        held = self["intervals"]
        return [
            [
                f"intervals of {held['sds']:g} sd",
                "bound error",
                "confident true",
                "confident false",
            ],
            *(
                [
                    name,
                    _number(held[name]["lower_calibration_error"]),
                    _cell(held[name], "confident_true"),
                    _cell(held[name], "confident_false"),
                ]
                for name in ("total", "epistemic")
            ),
        ]

    def _rating_table(self) -> list[list[str]]:
        """Return the rows of a table, a title first: all ratings, each objective."""
        held = self["ratings"]
        named = {"all ratings": held, **held["by_objective"]}
        return [
            ["", "log score", "R2", "ratings"],
            *(
                [name, _cell(v, "log_score"), _number(v["r2"]), f"{v['n_ratings']:,}"]
                for name, v in named.items()
            ),
        ]

    def _table(self) -> list[list[str]]:
        """Return the rows of a table, a title first: all pairs, length rules, subsets."""
        table = [["", *_COLUMNS.values(), "pairs", "prompts"], _row("all rows", self)]
        if self.get("without_lapse"):
            table.append(_row("without label noise", self["without_lapse"]))
        rules = self.get("length_baseline") or {}
        for name, words in _LENGTH_RULES.items():
            if name in rules:
                table.append([words, _cell(rules, name), *[""] * 5])
        return table + [_row(name, found) for name, found in self["by_subset"].items()]


def entry(name: str, estimate: Estimate) -> dict[str, float | None]:
    """Return a rate and its standard error as JSON values, which know no NaN.

    >>> entry("accuracy", Estimate(0.5, float("nan")))
    {'accuracy': 0.5, 'accuracy_se': None}
    """
    pair = {name: estimate.value, f"{name}_se": estimate.standard_error}
    return {key: float(value) if math.isfinite(value) else None for key, value in pair.items()}


def rating_words(values: Mapping[str, Any]) -> str:
    """Return the rates of ratings in one line.

    >>> rating_words({"log_score": -1.25, "log_score_se": None, "r2": 0.2, "n_ratings": 1200})
    'log score of ratings -1.250, R2 0.200 on 1,200 ratings'
    """
    score, r2 = _cell(values, "log_score"), _number(values["r2"])
    return f"log score of ratings {score}, R2 {r2} on {values['n_ratings']:,} ratings"


def _as_text(table: list[list[str]]) -> str:
    head, *rows = table
    width = max(len(row[0]) for row in table)
    lines = [f"{name:<{width}}" + "".join(f"{c:>17}" for c in cells) for name, *cells in rows]
    title = f"{head[0]:<{width}}" + "".join(f"{cell:>17}" for cell in head[1:])
    return "\n".join([title.rstrip(), *(line.rstrip() for line in lines)])


def _as_html(table: list[list[str]]) -> str:
    head, *rows = table
    title = "".join(f"<th>{escape(cell)}</th>" for cell in head)
    body = "".join(
        f"<tr><th>{escape(name)}</th>{''.join(f'<td>{cell}</td>' for cell in cells)}</tr>"
        for name, *cells in rows
    )
    return f"<table><tr>{title}</tr>{body}</table>"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(name: str, values: Mapping[str, Any]) -> list[str]:
    rates = [_cell(values, rate) for rate in _COLUMNS]
    return [name, *rates, f"{values['n_pairs']:,}", f"{values['n_prompts']:,}"]


def _cell(values: Mapping[str, Any], name: str) -> str:
    value, error = values[name], values[f"{name}_se"]
    if value is None:
        return "-"
    return _number(value) + ("" if error is None else f" +- {error:.3f}")
