"""Inputs that are well-formed and do not fit each other."""

import json
import shutil

import pytest
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import everything, lines, options, rows, vrm_pyro, write_rows
from safetensors.torch import load_file, save_file


def refused(run, fragments):
    assert run.code == 2, run.err
    assert [part for part in fragments if part not in run.err] == [], run.err
    assert "Traceback" not in run.err
    assert run.out == ""


def without(*columns):
    return [{k: v for k, v in row.items() if k not in columns} for row in rows(4)]


def singles():
    return [{"prompt": f"p {i}", "response": f"r {i}", "ratings": {"a": i}} for i in range(8)]


# (name, rows, further settings, fragments)
UNFIT = [
    (
        "ratings alone for the baseline",
        singles(),
        {"model__architecture": "bradley_terry"},
        ("hold no pair to learn from", '"chosen"'),
    ),
    (
        "supervision of weights without ratings",
        without("chosen_ratings", "rejected_ratings"),
        {"config": "paper"},
        ("model.supervision is weights", "no training row has ratings"),
    ),
    (
        "one objective",
        rows(4),
        {"model__objectives": "[safe]", "config": "paper"},
        ("there is 1 objective, whose weight is always 1", "at least 2"),
    ),
    (
        "nothing to hold out",
        without("chosen_ratings", "rejected_ratings")[:6],
        {"data__validation": None, "data__validation_fraction": "0.01"},
        ("data.validation_fraction 0.01 of 2 prompts", "validate on"),
    ),
]


@pytest.mark.parametrize(
    ("name", "made", "settings", "fragments"), UNFIT, ids=[case[0] for case in UNFIT]
)
def test_rows_and_settings(place, tmp_path, name, made, settings, fragments):
    data = write_rows(tmp_path / "rows.jsonl", made)
    arguments = options(place, data__train=data, **settings)
    refused(vrm_pyro("train", *arguments, "--train.output_dir", tmp_path / "run"), fragments)
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_validation_rows_without_a_pair(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", singles())
    arguments = options(place, data__validation=data)
    run = vrm_pyro("train", *arguments, "--train.output_dir", tmp_path / "run")
    refused(run, ("validation rows hold no pair", "--data.validation"))
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_ratings_alone_train_scores(place, tmp_path):
    """Rows without a single pair are enough for scores; validation still needs pairs."""
    made = [
        {"prompt": row["prompt"], "response": row[side], "ratings": row[f"{side}_ratings"]}
        for row in rows(8)
        for side in ("chosen", "rejected")
    ]
    data = write_rows(tmp_path / "rows.jsonl", made)
    arguments = options(place, data__train=data, train__num_train_epochs=1)
    run = vrm_pyro("train", *arguments, "--train.output_dir", tmp_path / "run")
    assert run.code == 0, run.err
    training = json.loads((tmp_path / "run" / "metrics.json").read_text())["training"]
    assert (training["train_pairs"], training["ratings_used"]) == (0, True)


@pytest.mark.parametrize("verb", ["evaluate", "score", "posterior"])
def test_a_backbone_with_other_weights(place, tmp_path, verb):
    other = save_tiny_backbone(tmp_path / "bert")
    state = {name: tensor * 1.5 for name, tensor in load_file(other / "model.safetensors").items()}
    save_file(state, other / "model.safetensors", metadata={"format": "pt"})
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "out.nc", "--backbone", other)
    run = vrm_pyro(verb, "--model", place / "model", *data)
    refused(run, (str(other), "its weights changed since the model was trained"))
    assert not (tmp_path / "out.nc").exists()


@pytest.mark.parametrize("verb", ["evaluate", "score", "posterior"])
def test_a_store_of_other_states(place, tmp_path, verb):
    model = shutil.copytree(place / "model", tmp_path / "model")
    description = json.loads((model / "config.json").read_text())
    description["backbone"]["max_length"] = 99
    (model / "config.json").write_text(json.dumps(description))
    data = ("--data", place / "store", "--out", tmp_path / "out.nc")
    run = vrm_pyro(verb, "--model", model, *data)
    refused(run, ("max_length is 60 there and 99 in the model", "--model.max_length 99"))


def test_evaluation_of_single_responses(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", singles())
    out = ("--out", tmp_path / "m.json")
    refused(
        vrm_pyro("evaluate", "--model", place / "model", "--data", data, *out),
        ("no comparison", '"chosen"'),
    )
    assert [path.name for path in tmp_path.iterdir()] == ["rows.jsonl"]


def test_draws_of_the_baseline(place, tmp_path):
    settings = {"model__architecture": "bradley_terry", "train__num_train_epochs": 1}
    arguments = (*options(place, **settings), "--train.output_dir", tmp_path / "bt")
    assert vrm_pyro("train", *arguments).code == 0
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "p.nc")
    refused(vrm_pyro("posterior", "--model", tmp_path / "bt", *data), ("no latent variables",))


def test_a_resumed_run_with_other_rows(place, tmp_path):
    run_folder = shutil.copytree(place / "model", tmp_path / "run")
    (run_folder / "config.json").unlink()
    data = write_rows(tmp_path / "train.jsonl", lines(place / "train.jsonl")[:-1])
    resume = ("--train.output_dir", run_folder, "--train.resume_from_checkpoint", "true")
    arguments = ("train", *options(place, data__train=data), *resume)
    before = everything(run_folder)
    refused(vrm_pyro(*arguments), ("started with data.train", "now it is"))
    assert everything(run_folder) == before
    # The same name with other content shows in the hash of the rows.
    config = run_folder / "config.yaml"
    config.write_text(config.read_text().replace(str(place / "train.jsonl"), str(data)))
    refused(vrm_pyro(*arguments), ("different rows", "--overwrite"))


@pytest.mark.parametrize("name", ["os.path.join", "subprocess.Popen", "builtins.eval"])
def test_a_config_cannot_name_a_program(place, tmp_path, name):
    config = tmp_path / "theirs.yaml"
    config.write_text(
        f"model:\n  weight_prior:\n    class_path: {name}\n    init_args:\n      args: touch it\n"
    )
    output = ("--train.output_dir", tmp_path / "run")
    run = vrm_pyro("train", "--config", config, *options(place), *output)
    refused(run, ("theirs.yaml", f"no class '{name}' here"))


def test_an_unknown_setting_is_found_in_its_file(place, tmp_path):
    config = tmp_path / "mine.yaml"
    config.write_text("model:\n  latent_dims: 3\n")
    run = vrm_pyro("train", "--config", config, *options(place))
    refused(run, ("mine.yaml: no setting 'latent_dims' in model", "'model.latent_dim'?"))
