"""explain."""

import json

import numpy as np
import pytest
from helpers.workspace import OBJECTIVES, lines, succeed, vrm_pyro, write_rows


@pytest.fixture(scope="module")
def row(place):
    """The first test row."""
    return lines(place / "test.jsonl")[0]


def texts(row):
    return ("--prompt", row["prompt"], "--response", row["chosen"], "--response", row["rejected"])


def test_table_json_and_file(place, row, tmp_path):
    out = tmp_path / "new" / "e.json"
    run = succeed("explain", "--model", place / "model", *texts(row), "--out", out)
    assert [p.name for p in out.parent.iterdir()] == ["e.json"]
    found = json.loads(out.read_text())
    shown = succeed("explain", "--model", place / "model", *texts(row), "--json")
    assert json.loads(shown.out) == found
    assert found["objectives"] == list(OBJECTIVES)
    assert found["score_unit"] == "rating"
    assert sum(w["mean"] for w in found["weights"].values()) == pytest.approx(1, abs=1e-5)
    for text in ("What would flip it", "P(best)", *OBJECTIVES, *found["words"]["why"]):
        assert " ".join(text.split()) in " ".join(run.out.split())
    # What score writes of the same texts.
    write_rows(tmp_path / "one.jsonl", [row])
    scores = tmp_path / "s.jsonl"
    data = ("--data", tmp_path / "one.jsonl", "--out", scores)
    succeed("score", "--model", place / "model", *data)
    for line, response in zip(lines(scores), found["responses"], strict=True):
        assert line["reward_mean"] == pytest.approx(response["reward_mean"], abs=1e-4)
        assert line["reward_sd"] == pytest.approx(response["reward_sd"], abs=1e-4)
        for name in OBJECTIVES:
            assert line["scores"][name] == pytest.approx(response["scores"][name]["mean"], 1e-4)
    p = found["pairs"][0]["p_first_preferred"]
    expected = lines(scores)[0]["p_chosen"]
    assert p == pytest.approx(expected if found["order"][0] == "A" else 1 - expected, abs=1e-4)


def test_a_prompt_is_text_a_file_or_messages(place, row, tmp_path):
    messages = [{"role": "user", "content": row["prompt"]}]
    (tmp_path / "p.json").write_text(json.dumps(messages))
    (tmp_path / "p.txt").write_text(row["prompt"] + "\n")
    (tmp_path / "a.txt").write_text(row["chosen"] + "\n")
    responses = ("--response", f"@{tmp_path / 'a.txt'}", "--response", row["rejected"])
    found = []
    for prompt in (
        row["prompt"],
        json.dumps(messages),
        f"@{tmp_path / 'p.json'}",
        f"@{tmp_path / 'p.txt'}",
    ):
        where = ("--model", place / "model", "--prompt", prompt)
        found.append(succeed("explain", *where, *responses, "--json").out)
    assert len(set(found)) == 1
    # A text that looks like JSON and is no message is a text.
    odd = succeed("explain", "--model", place / "model", "--prompt", "[1, 2]", *texts(row)[2:])
    assert "prompt  [1, 2]" in odd.out
    at = succeed("explain", "--model", place / "model", "--prompt", "@@you", *texts(row)[2:])
    assert "prompt  @you" in at.out


def test_a_row_by_its_id_from_rows_and_from_a_store(place):
    row = lines(place / "train.jsonl")[4]
    results = []
    for data in (place / "train.jsonl", place / "store"):
        where = ("--data", data, "--id", row["id"], "--json")
        results.append(json.loads(succeed("explain", "--model", place / "model", *where).out))
    for found in results:
        assert [r["label"] for r in found["responses"]] == ["chosen", "rejected"]
        assert [r["text"] for r in found["responses"]] == [row["chosen"], row["rejected"]]
        assert found["prompt"][-1]["content"] == row["prompt"]
    means = [[r["reward_mean"] for r in found["responses"]] for found in results]
    assert np.allclose(*means, atol=2e-2)  # the store keeps states in half precision


def test_a_ranking_is_explained_as_a_whole(place, tmp_path):
    prompt, ranked = "which one", ["first text", "second text", "third text"]
    path = write_rows(
        tmp_path / "r.jsonl",
        [{"prompt": prompt, "responses": ranked, "ranks": [2, 3, 1], "id": "r"}],
    )
    where = ("--data", path, "--id", "r", "--json")
    found = json.loads(succeed("explain", "--model", place / "model", *where).out)
    assert {r["text"]: r["label"] for r in found["responses"]} == {
        "third text": "rank 1",
        "first text": "rank 2",
        "second text": "rank 3",
    }
    assert len(found["pairs"]) == 3


def test_rows_without_an_id_go_by_their_place(place, tmp_path):
    rows = [{k: v for k, v in r.items() if k != "id"} for r in lines(place / "test.jsonl")[:2]]
    path = write_rows(tmp_path / "r.jsonl", rows)
    where = ("--data", path, "--id", "pair-1", "--json")
    found = json.loads(succeed("explain", "--model", place / "model", *where).out)
    assert found["responses"][0]["text"] == rows[1]["chosen"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "--prompt with two --response or more, or --data with --id"),
        (("--prompt", "x", "--response", "a"), "only differences between responses"),
        (("--prompt", "x", "--response", "a", "--response", "a"), "same text"),
        (("--prompt", "x", "--response", "a", "--response", " "), "--response 2"),
        (("--prompt", " ", "--response", "a", "--response", "b"), "--prompt"),
        (("--prompt", '[{"role": "user"}]', "--response", "a", "--response", "b"), "prompt[0]"),
        (("--prompt", "@none.txt", "--response", "a", "--response", "b"), "cannot read the file"),
        (("--response", "a", "--response", "b"), "needs the --prompt"),
        (("--data", "{test}"), "needs --id"),
        (("--data", "{test}", "--id", "2-0-99"), "no comparison with the id '2-0-99'"),
        (("--data", "{test}", "--id", "x", "--prompt", "y"), "--prompt with two --response"),
        (("--data", "{test}", "--id", "2-0-01", "--interval", "1"), "--interval is 1"),
        (("--data", "{test}", "--id", "2-0-01", "--draws", "5"), "--draws is 5"),
    ],
)
def test_what_cannot_be_explained(place, arguments, message):
    filled = [a.format(test=place / "test.jsonl") if a == "{test}" else a for a in arguments]
    run = vrm_pyro("explain", "--model", place / "model", *filled)
    assert run.code == 2
    assert message in run.err
    assert run.out == ""


def test_single_responses_and_ids_of_several_prompts_are_refused(place, tmp_path):
    rows = [
        {"prompt": "p", "response": "alone", "ratings": {"clear": 1}, "id": "s"},
        {"prompt": "p", "chosen": "a", "rejected": "b", "id": "twice"},
        {"prompt": "q", "chosen": "c", "rejected": "d", "id": "twice"},
    ]
    path = write_rows(tmp_path / "r.jsonl", rows)
    for name, message in (("s", "is a single response"), ("twice", "several prompts")):
        where = ("--data", path, "--id", name)
        run = vrm_pyro("explain", "--model", place / "model", *where)
        assert run.code == 2
        assert message in run.err


def test_a_baseline_has_no_reasons(place, baseline, row):
    run = vrm_pyro("explain", "--model", baseline, *texts(row))
    assert run.code == 2
    assert "no objectives to explain it by" in run.err
