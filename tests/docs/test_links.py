"""No link of README, CONTRIBUTING or docs/ leads nowhere, anchors included."""

import re

import pytest
from helpers.pages import DOCS, ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md"]
    + [
        page
        for page in DOCS.rglob("*.md")
        if not {"_build", "api", "cli", "configs", "notebooks", "schemas"} & set(page.parts)
    ]
)
# The pages that the site's build writes, by what they are made from.
MADE = {
    "schemas": {"index.md"},
    "cli": {"index.md", *(f"{p.stem}.md" for p in (ROOT / "vrm_pyro/cli/verbs").glob("*.py"))},
    "configs": {"index.md", *(f"{p.stem}.md" for p in (ROOT / "vrm_pyro/configs").glob("*.yaml"))},
}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)|!\[[^\]]*\]\(([^)\s]+)\)")


def text_of(page):
    """Return a page without its code."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"`[^`\n]*`", lambda found: found[0].replace("[", "").replace("]", ""), text)


def anchors(page):
    """Return what a link into a page may name: headings as slugs, and explicit targets."""
    text = re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#{1,4} (.*)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w\- ]", "", h.strip().lower()).replace(" ", "-") for h in headings}
    return slugs | set(re.findall(r"^\(([\w-]+)\)=$", text, re.MULTILINE))


def is_made(target):
    """Whether the site's build writes this page."""
    if target.parent == DOCS / "tutorials" / "notebooks":
        return (ROOT / "notebooks" / target.name).is_file()
    if target.parent == DOCS / "reference" / "api":
        return True  # tests/docs/test_api_pages.py has their names
    return target.parent.parent == DOCS / "reference" and target.name in MADE.get(
        target.parent.name, ()
    )


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_of_a_page_lead_somewhere(page):
    dead = []
    for link in (first or second for first, second in LINK.findall(text_of(page))):
        if re.match(r"[a-z]+:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        if is_made(target):
            continue
        if not target.exists():
            dead.append(f"{link}: no such file")
        elif anchor and anchor not in anchors(target):
            dead.append(f"{link}: no such heading")
    assert dead == []


def test_pages_that_code_and_messages_name_are_there():
    named = {
        (found, str(path.relative_to(ROOT)))
        for folder in ("vrm_pyro", "scripts", "benchmarks", "tests", "notebooks")
        for path in (ROOT / folder).rglob("*.py")
        for found in re.findall(r"docs/[\w/]+\.md", path.read_text("utf-8"))
    }
    assert named
    assert [pair for pair in sorted(named) if not (ROOT / pair[0]).is_file()] == []
