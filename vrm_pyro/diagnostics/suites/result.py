"""The result of a benchmark: official scores of several models, as a table or JSON."""

from typing import Any

from vrm_pyro.diagnostics.suites.official import TOTAL


class BenchmarkResult(dict[str, Any]):
    """Official scores, and what the models say beside them: the JSON that ``benchmark`` writes.

    ``models`` has an object for each model, in order: ``total``, ``sections`` with standard errors
    over prompts (``NAME_se``), ``subsets`` and ``beside``. A total is None while a section of it
    has no rows, see ``missing_sections``. ``differences`` has the first model against each other
    one; ``left_out`` counts rows that could not be used.

    Args:
        content: The JSON values.
        records: Scores of every case of the first model, in the format of the benchmark's files.
    """

    def __init__(self, content: dict[str, Any], records: Any) -> None:
        super().__init__(content)
        self.records = records

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values as a plain dict."""
        return dict(self)

    @property
    def total(self) -> float | None:
        """Official total of the first model; None if a section has no rows."""
        return self["models"][0][TOTAL]  # type: ignore[no-any-return]

    def __repr__(self) -> str:
        total = self.total
        shown = "no total" if total is None else f"total {total:.3f}"
        return f"BenchmarkResult({self['title']}: {shown}, {self['n_cases']:,} cases)"

    def __str__(self) -> str:
        parts = [self._table(_official(self["models"])), self._table(_beside(self["models"]))]
        parts += self._weights()
        if self["missing_sections"]:
            parts.append(f"No total: no rows of {', '.join(self['missing_sections'])}.")
        if self["left_out"]:
            counts = ", ".join(f"{n:,} {reason}" for reason, n in self["left_out"].items())
            parts.append(f"Left out, so that this is not the official score: {counts}.")
        return "\n\n".join([self._head(), *parts])

    def _head(self) -> str:
        size = f"{self['n_cases']:,} cases, {self['n_completions']:,} completions"
        return f"{self['title']}: {size}"

    def _table(self, rows: list[list[str]]) -> str:
        width = max(len(row[0]) for row in rows)
        columns = [max(len(row[n]) for row in rows) for n in range(1, len(rows[0]))]
        lines = [
            f"{name:<{width}}"
            + "".join(f"  {c:>{size}}" for c, size in zip(cells, columns, strict=True))
            for name, *cells in rows
        ]
        return "\n".join(line.rstrip() for line in lines)

    def _weights(self) -> list[str]:
        """Return the weights of the first model by section, if it has more than one."""
        found = self["models"][0]["beside"]
        named = {name: held["weights"] for name, held in found.items() if held["weights"]}
        if not named or len(next(iter(named.values()))) < 2:
            return []
        objectives = list(next(iter(named.values())))
        rows = [["mean weight", *objectives]]
        rows += [[n, *(f"{w[name]:.3f}" for name in objectives)] for n, w in named.items()]
        return [self._table(rows)]


def _official(models: list[dict[str, Any]]) -> list[list[str]]:
    rows = [["official score", *(found["model"] for found in models)]]
    for name in models[0]["sections"]:
        if not name.endswith("_se"):
            rows.append([name, *(_cell(found["sections"], name) for found in models)])
    return rows


_BESIDE = {
    "accuracy": "accuracy of comparisons",
    "log_loss": "log loss",
    "ece": "calibration error",
    "accuracy_at_50": "accuracy on the surest half",
    "ties": "within one sd of a tie",
}


def _beside(models: list[dict[str, Any]]) -> list[list[str]]:
    held = [found["beside"]["all"] for found in models]
    rows = [["beside it, on all comparisons", *(found["model"] for found in models)]]
    rows += [[words, *(_cell(values, name) for values in held)] for name, words in _BESIDE.items()]
    rows.append(["sd of the difference", *(f"{values['delta_sd']:.3f}" for values in held)])
    for level in held[0]["by_confidence"]:
        sure = [
            next(x for x in v["by_confidence"] if x["confidence"] == level["confidence"])
            for v in held
        ]
        name = f"at least {level['confidence']:g} sure"
        rows.append([name, *(f"{x['coverage']:.2f}: {_cell(x, 'accuracy')}" for x in sure)])
    rows.append(["rule: longer is better", *(_cell(v["length"], "longest") for v in held)])
    for side in ("longer", "shorter"):
        key = f"accuracy_where_better_is_{side}"
        rows.append([f"accuracy, better is {side}", *(_cell(v["length"], key) for v in held)])
    return rows


def _cell(values: dict[str, Any], name: str) -> str:
    value, error = values[name], values[f"{name}_se"]
    if value is None:
        return "-"
    return f"{value:.3f}" + ("" if error is None else f" +- {error:.3f}")
