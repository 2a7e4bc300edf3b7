"""The result of best-of-n: gold reward by rule and n, as a table or JSON."""

from typing import Any, Final

Z_90: Final = 1.645


class BestOfN(dict[str, Any]):
    """Gold reward of the best of n: the JSON values that ``vrm-pyro best-of-n`` writes.

    ``rules`` holds, by rule, means over prompts with 90% intervals as lists over n = 1 to
    ``max_n``; ``differences`` the same for two rules on the same prompts. ``selective`` has the
    gain over a random candidate on the surest shares of the prompts.

    >>> found = BestOfN({"max_n": 20})
    >>> found.shown
    [1, 2, 4, 8, 16, 20]
    """

    def to_dict(self) -> dict[str, Any]:
        """Return the JSON values as a plain dict."""
        return dict(self)

    @property
    def shown(self) -> list[int]:
        """The n that the table shows: powers of 2, and the largest."""
        most: int = self["max_n"]
        powers = [2**p for p in range(most.bit_length()) if 2**p < most]
        return [*powers, most]

    def __repr__(self) -> str:
        return f"BestOfN({self['gold']} on {self['n_prompts']:,} prompts, n to {self['max_n']})"

    def __str__(self) -> str:
        head = (
            f"{self['gold']} of the best of n: {self['n_prompts']:,} prompts, "
            f"{self['n_candidates']:,} candidates, lower_bound with k = {self['k']:g}"
        )
        parts = [head, self._rules(), self._differences(), *self._selective()]
        if self["prompts_left_out"]:
            n = self["prompts_left_out"]
            parts.append(f"left out: {n:,} prompts with fewer than {self['max_n']} candidates")
        return "\n\n".join(filter(None, parts))

    def _rules(self) -> str:
        rows = [["rule", *(f"n = {n}" for n in self.shown)]]
        for name, held in self["rules"].items():
            pairs = [(held["mean"][n - 1], held["se"][n - 1]) for n in self.shown]
            rows.append([name, *(f"{mean:.3f} +- {error:.3f}" for mean, error in pairs)])
        return _aligned(rows)

    def _differences(self) -> str:
        if not self["differences"]:
            return ""
        rows = [["difference", *(f"n = {n}" for n in self.shown)]]
        for held in self["differences"]:
            cells = [
                f"{held['mean'][n - 1]:+.3f} [{held['lower'][n - 1]:+.3f}, "
                f"{held['upper'][n - 1]:+.3f}]"
                for n in self.shown
            ]
            rows.append([f"{held['rule']} - {held['against']}", *cells])
        return _aligned(rows)

    def _selective(self) -> list[str]:
        lines = []
        for name, held in self["selective"].items():
            gap = held["raised_by_abstaining"]
            lines.append(
                f"{name}: gain over a random candidate {held['gain'][-1]:+.3f}; abstaining on the "
                f"least sure {gap['share']:.0%} changes it by {gap['difference']:+.3f} "
                f"[{gap['lower']:+.3f}, {gap['upper']:+.3f}]"
            )
        return ["\n".join(lines)]


def _aligned(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            [
                f"{row[0]:<{widths[0]}}",
                *(f"{c:>{w}}" for c, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    )
