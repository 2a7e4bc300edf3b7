"""Every public name has a page and an example, and the examples run in the order of the pages."""

import math
import re
import sys

import pytest
from helpers.pages import DOCS
from helpers.workspace import write_rows

import vrm_pyro
from vrm_pyro.data.schemas.table import SCHEMAS

sys.path.insert(0, str(DOCS))  # for docs/generate.py, which the site's build uses
import generate

sys.path.remove(str(DOCS))

EXAMPLES = DOCS / "reference" / "examples"
NAMES = sorted(set(vrm_pyro.__all__) - {"__version__"})


@pytest.fixture(scope="module")
def pages():
    return generate.api_pages(DOCS)


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_has_a_page_with_an_example(pages, name):
    page = pages[f"{name}.md"]
    reference, example = page.split("\n## Example\n")
    assert re.search(
        rf"auto(class|function|exception):: vrm_pyro\.[\w.]+\.{name}$", reference, re.M
    )
    assert "```python\n" in example


def test_every_name_is_in_the_contents_once(pages):
    listed = re.findall(r"^[\w.]+$", pages["index.md"], re.MULTILINE)
    assert sorted(listed) == sorted([*NAMES, *generate.MODULES])


def test_examples_are_of_public_names():
    for key, group in generate.public_groups().items():
        found = generate.read_examples(EXAMPLES / f"{key}.md")
        assert set(found) == set(group.names)


def test_modules_give_out_documented_names():
    for module in generate.MODULES:
        members = generate.public_members(module)
        assert members
        assert [path for path, value in members if not value.__doc__] == []


def test_every_published_schema_has_a_section():
    page = generate.schema_pages()["index.md"]
    assert re.findall(r"^## (\w+)$", page, re.MULTILINE) == list(SCHEMAS)
    assert page.count("**Label.**") == page.count("**Ties and strengths.**") == len(SCHEMAS)


@pytest.mark.slow
def test_examples_run_in_the_order_of_the_pages(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulation = vrm_pyro.simulate_texts(320, seed=1)
    write_rows("rows.jsonl", simulation.rows("train"))
    write_rows("test.jsonl", simulation.rows("test"))
    namespace = {}
    for key in generate.public_groups():
        text = (EXAMPLES / f"{key}.md").read_text("utf-8")
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", text, re.DOTALL)):
            exec(compile(code, f"{key}.md, example {number}", "exec"), namespace)
    assert namespace["metrics"].log_loss.value < math.log(2)
