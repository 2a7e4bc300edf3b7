"""write_report: a model and rows in any form, and what is refused before they are read."""

from pathlib import Path

import pytest
from helpers.workspace import make_workspace

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.report import Report, write_report

QUICK = {"num_draws": 100, "khat_prompts": 4, "psense_prompts": 0, "worst": 1}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return make_workspace(tmp_path_factory.mktemp("report"))


def test_a_model_and_rows_in_any_form_give_the_same_page(place, tmp_path):
    path = place / "test.jsonl"
    scorer = vrm_pyro.Scorer.from_pretrained(place / "model", device="cpu", dtype="float32")
    inputs = vrm_pyro.Inputs.of(vrm_pyro.encode_table(path, scorer.backbone))
    diagnosis = vrm_pyro.diagnose(scorer, inputs, ["collapse"])
    pages = [tmp_path / "a.html", tmp_path / "b.html"]
    settings = {**QUICK, "diagnosis": diagnosis}
    made = write_report(place / "model", path, pages[0], device="cpu", **settings)
    write_report(scorer, inputs, pages[1], **{**settings, "diagnosis": diagnosis.to_json()})
    first, second = (page.read_text(encoding="utf-8") for page in pages)
    assert first.replace(str(path), "the rows") == second
    assert "of 1 checks raise" in first
    assert diagnosis["collapse"].verdict in first
    assert made.metrics == vrm_pyro.evaluate(scorer, inputs)
    assert Path(made) == made.path == pages[0]
    assert repr(made) == f"Report({str(pages[0])!r}: 24 pairs of 8 prompts)"


def test_a_report_is_a_link_in_a_notebook():
    counts = {"n_pairs": 1200, "n_prompts": 300}
    shown = Report(Path("a & b.html"), counts)._repr_html_()
    assert shown == '<a href="a%20%26%20b.html">a &amp; b.html</a>: 1,200 pairs of 300 prompts'
    assert 'href="file:///tmp/r.html"' in Report(Path("/tmp/r.html"), counts)._repr_html_()


@pytest.mark.parametrize(
    ("out", "settings", "message"),
    [
        (".", {}, "is a folder"),
        ("r.txt", {}, "ends in .html"),
        ("r.html", {"worst": -1}, "worst is -1, but must be at least 0"),
        ("r.html", {"num_draws": 50}, "draws is 50, but must be at least 100"),
        ("r.html", {"diagnosis": "none.json"}, "none.json: cannot be read"),
        ("r.html", {"diagnosis": [{"name": "khat"}]}, "no list of findings"),
    ],
)
def test_what_is_wrong_is_refused_before_the_model_is_read(
    tmp_path, monkeypatch, out, settings, message
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=message):
        write_report("no model", "no rows.jsonl", out, **settings)
    assert list(tmp_path.iterdir()) == []
