"""docs/method.md has every section that the code cites."""

import re

import pytest
from helpers.pages import DOCS, ROOT

CITED = re.compile(r"\bspec (?:sections? )?(\d+(?:\.\d+)*)((?:(?:,| and| to) \d+(?:\.\d+)+)*)")
SECTIONS = re.findall(
    r"^\(spec-([\d-]+)\)=\n#{2,4} (\d+(?:\.\d+)*)",
    (DOCS / "method.md").read_text("utf-8"),
    re.MULTILINE,
)


def citations():
    for folder in ("vrm_pyro", "scripts", "benchmarks"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            for first, more in CITED.findall(path.read_text("utf-8")):
                for number in (first, *re.findall(r"\d+(?:\.\d+)+", more)):
                    yield number, str(path.relative_to(ROOT))


def test_anchors_and_headings_have_the_same_numbers():
    assert [anchor.replace("-", ".") for anchor, _ in SECTIONS] == [n for _, n in SECTIONS]
    assert len(set(SECTIONS)) == len(SECTIONS)


def test_every_cited_section_is_on_the_page():
    known = {number for _, number in SECTIONS}
    cited = list(citations())
    assert len(cited) > 100  # so the pattern still finds them
    assert [(number, path) for number, path in cited if number not in known] == []


@pytest.mark.parametrize("heading", ["### 2.6", "### 2.12", "#### 3.3.2", "### 4.10"])
def test_sections_that_are_cited_most_have_a_text(heading):
    text = (DOCS / "method.md").read_text("utf-8").split(heading)[1].split("\n(spec-")[0]
    assert len(text.split()) > 20
