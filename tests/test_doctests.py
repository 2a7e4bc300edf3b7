"""The examples in docstrings: each runs as it stands and prints what it says."""

import ast
import doctest
import importlib

import pytest
from helpers.pages import ROOT

PACKAGE = ROOT / "vrm_pyro"


def docstrings(path):
    """Return name, line and docstring of a module and of what it defines, where it has examples.

    From the source: functions whose shapes are checked are wrapped, and doctest would miss them.
    """
    tree = ast.parse(path.read_text("utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node)
            if text and ">>>" in text:
                yield getattr(node, "name", "module"), getattr(node, "lineno", 1), text


FILES = {
    str(path.relative_to(PACKAGE)): path
    for path in sorted(PACKAGE.rglob("*.py"))
    if list(docstrings(path))
}


@pytest.mark.parametrize("name", FILES)
def test_examples_of_a_module(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parts = FILES[name].relative_to(PACKAGE.parent).with_suffix("").parts
    module = importlib.import_module(".".join(parts).removesuffix(".__init__"))
    output = []
    for owner, line, text in docstrings(FILES[name]):
        test = doctest.DocTestParser().get_doctest(
            text, dict(vars(module)), f"{name}:{owner}", str(FILES[name]), line
        )
        doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=output.append)
    assert "".join(output) == ""


def test_there_are_examples_enough():
    examples = sum(len(list(docstrings(path))) for path in FILES.values())
    assert examples >= 60
