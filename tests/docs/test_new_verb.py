"""The verb of docs/howto/new_verb.md: its file and its line, run as they stand."""

import importlib.util
import json
import sys

import pytest
from helpers.pages import ROOT, applied, blocks

from vrm_pyro import cli

PAGE = "howto/new_verb.md"


@pytest.fixture
def program(tmp_path, monkeypatch):
    """The command line as it is with the page's file and line in it."""
    name = "vrm_pyro.cli.verbs.count"
    (file,) = blocks(PAGE, "python")
    (diff,) = blocks(PAGE, "diff")
    (tmp_path / "count.py").write_text(file, "utf-8")
    spec = importlib.util.spec_from_file_location(name, tmp_path / "count.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)
    source = (ROOT / "vrm_pyro" / "cli" / "__init__.py").read_text("utf-8")
    package = {"__name__": cli.__name__, "__path__": cli.__path__}
    exec(compile(applied(source, diff), "cli/__init__.py", "exec"), package)
    return package


def test_one_file_and_one_line_add_a_verb(program, tmp_path, capsys):
    assert set(program["VERBS"]) == {*cli.VERBS, "count"}
    rows = tmp_path / "rows.jsonl"
    row = {"prompt": "What color is the sky?", "chosen": "Blue.", "rejected": "Green."}
    rows.write_text(json.dumps(row) + "\n" + json.dumps({**row, "chosen": "Azure."}) + "\n")
    assert program["main"](["count", "--data", str(rows)]) == 0
    assert capsys.readouterr().out.startswith("1 prompts, 3 responses\n")
    assert program["main"](["count", "--help"]) == 0
    assert "vrm-pyro count" in capsys.readouterr().out
    assert "count" in program["overview"]()


def test_its_messages_are_those_of_every_verb(program, capsys):
    assert program["main"](["count", "--data", "absent.jsonl"]) == 2
    assert capsys.readouterr().err.startswith("vrm-pyro count: absent.jsonl: ")
