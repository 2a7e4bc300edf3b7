"""What tests of the documentation read from its pages."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"


def blocks(page, language):
    """Return the code blocks of a page in one language."""
    text = (DOCS / page).read_text("utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def applied(source, diff):
    """Return a source with the added lines of a diff, each below the context line before it.

    Every context line must be in the source, in this order.
    """
    lines, at = source.splitlines(), 0
    for change in diff.splitlines():
        mark, text = change[:1], change[1:]
        if mark == "+":
            lines.insert(at, text)
            at += 1
        else:
            at = lines.index(text, at) + 1
    return "\n".join(lines) + "\n"
