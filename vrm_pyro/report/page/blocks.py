"""Blocks of a report section, rendered by the template: paragraphs, tables, charts, pairs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from vrm_pyro.report.page.charts import Picture


@dataclass(frozen=True)
class Words:
    """A paragraph.

    Args:
        text: The paragraph.
        tone: ``plain``, ``note`` or ``alarm``.
    """

    kind: ClassVar[str] = "words"
    text: str
    tone: str = "plain"


@dataclass(frozen=True)
class Table:
    """A table whose first column names its rows.

    Args:
        caption: What it shows.
        head: Headings of the columns.
        rows: Cells, as text.
        wordy: Columns that hold sentences, by position: they are left-aligned and wrap.
        strong: Rows that stand out, by position.
    """

    kind: ClassVar[str] = "table"
    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    wordy: Sequence[int] = ()
    strong: Sequence[int] = ()


@dataclass(frozen=True)
class Pictures:
    """Charts side by side, with one legend if they share it.

    Args:
        pictures: The charts.
        caption: Of all of them.
        shared_legend: Whether the first chart's legend is used for all.
    """

    kind: ClassVar[str] = "pictures"
    pictures: Sequence[Picture]
    caption: str = ""
    shared_legend: bool = False


@dataclass(frozen=True)
class Side:
    """One response of a case.

    Args:
        name: ``A`` or ``B``.
        marks: Labels for the model's and the annotator's choice.
        text: Text of the response; None if texts are left out.
        cut: Number of characters not shown.
    """

    name: str
    marks: Sequence[str]
    text: str | None
    cut: int


@dataclass(frozen=True)
class Reason:
    """Contribution of one objective to a reward difference.

    Args:
        objective: Its name.
        weight: Its weight, as text.
        first: Score of A, as text.
        second: Score of B.
        value: Contribution to the reward of A above that of B, as text.
        share: Contribution relative to the largest of the case, from -1 to 1.
    """

    objective: str
    weight: str
    first: str
    second: str
    value: str
    share: float


@dataclass(frozen=True)
class Case:
    """One pair with the model's reasons.

    Args:
        title: Its id and kind.
        facts: Probability, label and spread, in words.
        prompt: Turns of the prompt: role, text, and the number of characters not shown; None
            if texts are left out.
        sides: Both responses; the one the model prefers first.
        reasons: The objectives, the largest contribution first.
    """

    title: str
    facts: Sequence[str]
    prompt: Sequence[tuple[str, str, int]] | None
    sides: Sequence[Side]
    reasons: Sequence[Reason]


@dataclass(frozen=True)
class Cases:
    """Some pairs.

    Args:
        cases: The pairs to show.
        unit: Unit of the scores, in words.
    """

    kind: ClassVar[str] = "cases"
    cases: Sequence[Case]
    unit: str


Block = Words | Table | Pictures | Cases


@dataclass(frozen=True)
class Section:
    """A section of the page.

    Args:
        key: Name of its anchor.
        title: Its heading.
        blocks: Its content.
    """

    key: str
    title: str
    blocks: Sequence[Block]
