import json

import pytest
from helpers.workspace import everything, lines, options, rows, succeed, vrm_pyro, write_rows

from vrm_pyro.cli.verbs.doctor import data_option, row
from vrm_pyro.training.preflight import Check

NAMES = ("versions", "devices", "threads")
OF_ROWS = ("labels", "length", "template and boundary", "overfit", "label orientation")


def doctor(place, *more):
    settings = options(place, data__train=None, data__validation=None)
    return vrm_pyro("doctor", *settings, *more, warnings_are="ignore")


def test_without_rows_the_machine_is_checked():
    run = succeed("doctor")
    assert [name for name in NAMES if f"  {name}  " not in run.out] == []
    assert "--data rows.jsonl" in run.out


def test_with_rows_everything_is_checked(place):
    before = everything(place)
    run = doctor(place, "--data", place / "train.jsonl")
    assert run.code == 0, run.err
    assert [name for name in (*NAMES, *OF_ROWS) if f"  {name}  " not in run.out] == []
    ending = run.out.rstrip().splitlines()[-1]
    assert ending.startswith(("All checks passed", "No check failed"))
    verdicts = {line.split()[0] for line in run.out.splitlines() if line[:1].isalpha()}
    assert verdicts <= {"ok", "warn", "All", "No"}
    assert everything(place) == before


def test_validation_rows_are_checked_too(place):
    data = ("--data", place / "train.jsonl", "--data.validation", place / "validation.jsonl")
    run = doctor(place, *data, "--tuning.method", "full")
    assert "tuning.method is full; these checks trained the heads alone" in " ".join(
        run.out.split()
    )
    assert "validation rows" in run.out


def test_turned_around_labels_fail_with_2(place, tmp_path):
    made = rows(24, seed=5)
    for item in made:
        sides = "chosen_ratings", "rejected_ratings"
        better, worse = sorted((item[s] for s in sides), key=lambda r: -sum(r.values()))
        item["chosen_ratings"], item["rejected_ratings"] = worse, better
    data = write_rows(tmp_path / "rows.jsonl", made)
    run = doctor(place, "--config", "bradley_terry", "--data", data)
    assert run.code == 2
    assert "fail  orientation by ratings" in run.out
    assert "Fix what failed" in run.out
    assert "orientation by ratings failed" in run.err.splitlines()[-1]
    assert "Traceback" not in run.err


def test_bad_rows_are_named_by_place(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", [*lines(place / "test.jsonl"), {"prompt": "x"}])
    run = doctor(place, "--data", data)
    assert run.code == 2
    assert "rows.jsonl:25:" in run.err


def test_shipped_configs_are_looked_at(place):
    # paper: fixed priors, which the preflight has to build too
    run = doctor(place, "--config", "paper", "--data", place / "train.jsonl")
    assert "  overfit  " in run.out


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        (["--data", "f"], ["--data.train", "f"]),
        (["--data=f", "--data.split_seed", "3"], ["--data.train=f", "--data.split_seed", "3"]),
        (["--data.train", "f"], ["--data.train", "f"]),
    ],
)
def test_short_name_of_the_rows(given, meant):
    assert data_option(given) == meant


def test_table_wraps_below_the_finding():
    text = row(Check("length", "warn", "word " * 30, "do " * 30), width=80)
    held = text.splitlines()
    assert held[0].startswith("warn  length ")
    assert max(len(line) for line in held) <= 80
    start = held[0].index("word")
    assert all(line[:start].strip() == "" for line in held[1:])
    assert sum(line[start:].startswith("->") for line in held) == 1


def rated(pairs):
    """Return the responses of pairs as rated rows, each once."""
    found = {}
    for pair in pairs:
        for side in ("chosen", "rejected"):
            key = (pair["prompt"], pair[side])
            found[key] = {
                "prompt": key[0], "response": key[1], "ratings": pair[f"{side}_ratings"],
            }  # fmt: skip
    return list(found.values())


def test_ratings_alone_are_checked_and_trained_on(place, tmp_path):
    train, held = (
        write_rows(tmp_path / f"{name}.jsonl", rated(rows(count, seed=seed)))
        for name, count, seed in (("train", 24, 0), ("held", 8, 1))
    )
    run = doctor(place, "--config", "ratings", "--data", train, "--data.validation", held)
    assert run.code == 0, run.err
    named = [line.split()[1] for line in run.out.splitlines() if line.startswith(("ok", "warn"))]
    assert named[-4:] == ["batch", "overfit", "signal", "signal"]
    assert "144 ratings of 72 responses" in " ".join(run.out.split())
    unlearnable = doctor(place, "--config", "bradley_terry", "--data", train)
    assert (unlearnable.code, "--config ratings" in unlearnable.out) == (2, True)

    settings = {"data.train": train, "data.validation": held, "train.num_train_epochs": 3}
    settings["train.output_dir"] = tmp_path / "run"
    told = succeed("train", "--config", "ratings", *options(place, **settings))
    assert "validation: log score of ratings -" in told.out
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    training = metrics["training"]
    assert (training["train_pairs"], training["validation_log_loss"]) == (0, None)
    best = training["validation_rating_log_score"]
    assert metrics["ratings"]["log_score"] == pytest.approx(best, abs=1e-4)
    model = ("--model", tmp_path / "run", "--data", held)
    told = succeed("evaluate", *model, "--out", tmp_path / "m.json")
    assert json.loads((tmp_path / "m.json").read_text())["ratings"] == metrics["ratings"]
    assert "all ratings" in told.out
    card = succeed("export", *model[:2], "--out", tmp_path / "e", warnings_are="ignore")
    assert "log score of a rating" in (tmp_path / "e" / "README.md").read_text()
    refused = vrm_pyro("report", *model, "--out", tmp_path / "r.html")
    assert (refused.code, "no comparison" in refused.err, card.code) == (2, True, 0)
