"""``vrm-pyro diagnose`` on rows: file, summary, and what it refuses."""

import json

import pytest
from helpers.workspace import rows, succeed, vrm_pyro, write_rows

from vrm_pyro.diagnostics.checks import DIAGNOSTICS


@pytest.fixture(scope="module")
def many(place, tmp_path_factory):
    """Rows of 44 prompts in two subsets."""
    return write_rows(tmp_path_factory.mktemp("rows") / "many.jsonl", rows(44, seed=5))


def test_everything_in_one_file(place, many, tmp_path):
    out = tmp_path / "d.json"
    run = succeed(
        "diagnose", "--model", place / "model", "--data", many, "--out", out,
        "--prompts", 22, "--draws", 120, "--against", place / "model",
        "--reference", place / "train.jsonl",
    )  # fmt: skip
    content = json.loads(out.read_text(encoding="utf-8"))
    assert [finding["name"] for finding in content["findings"]] == list(DIAGNOSTICS)
    assert content["num_prompts"] == 44
    assert content["num_prompts_of_costly"] == 22
    assert content["alarms"] == [f["name"] for f in content["findings"] if f["alarm"]]
    found = {finding["name"]: finding for finding in content["findings"]}
    assert len({tuple(finding) for finding in content["findings"]}) == 1
    # The same model against itself.
    (against,) = set(found["loo"]["detail"]["against"]) - {"a coin"}
    assert found["loo"]["detail"]["against"][against]["difference"] == pytest.approx(0, abs=1e-9)
    assert "training rows" in found["shift"]["verdict"]
    assert "those marked * on 22 of them" in run.out
    assert str(out) in run.out


def test_some_of_them_are_the_same_again(place, many, tmp_path):
    options = ("--model", place / "model", "--data", many, "--seed", 3, "--prompts", 22)
    outs = [tmp_path / name for name in ("a.json", "b.json")]
    for out in outs:
        succeed("diagnose", *options, "--draws", 120, "--only", "[khat, loo]", "--out", out)
    first, second = (out.read_text(encoding="utf-8") for out in outs)
    assert first == second
    assert [f["name"] for f in json.loads(first)["findings"]] == ["loo", "khat"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--only", "kaht"), "no diagnostic 'kaht'; did you mean 'khat'?"),
        (("--prompts", 0), "--prompts is 0"),
        (("--draws", 0), "--draws is 0"),
        (("--against", "nowhere"), "nowhere"),
    ],
)
def test_wrong_options(place, many, tmp_path, options, message):
    out = tmp_path / "d.json"
    run = vrm_pyro("diagnose", "--model", place / "model", "--data", many, "--out", out, *options)
    assert run.code == 2
    assert message in run.err
    assert not out.exists()
