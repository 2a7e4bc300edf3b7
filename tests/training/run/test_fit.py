"""From rows to a run folder in Python: the same run as that of ``vrm-pyro train``."""

import json
from pathlib import Path

import datasets
import pytest
import yaml
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import lines, options, rows, store_options, succeed, write_rows

import vrm_pyro
from vrm_pyro.features.reading import rows_of
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.prediction.overlap import training_overlap
from vrm_pyro.training.run.inputs import NamedRows
from vrm_pyro.training.run.read_settings import read_settings


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Rows, a backbone, and the run of the command line on them."""
    folder = tmp_path_factory.mktemp("fit")
    save_tiny_backbone(folder / "bert")
    write_rows(folder / "train.jsonl", rows(24, seed=0))
    write_rows(folder / "validation.jsonl", rows(8, seed=1))
    succeed("train", *options(folder), "--train.output_dir", folder / "model")
    return folder


def settings(place, **more):
    """Return the settings of the workspace's run, as a dict."""
    given = options(place, data__train=None, data__validation=None)
    pairs = zip(given[::2], given[1::2], strict=True)
    found = {key.removeprefix("--"): value for key, value in pairs}
    return {**found, **{key.replace("__", "."): value for key, value in more.items()}}


@pytest.fixture(scope="module")
def run(place):
    """A run on rows that are in no file."""
    return vrm_pyro.fit(
        rows(24, seed=0),
        datasets.Dataset.from_list(rows(8, seed=1)),
        output_dir=place / "fitted",
        settings=settings(place),
    )


@pytest.fixture(scope="module")
def store(place):
    data = ("--data", place / "train.jsonl", "--out", place / "store")
    succeed("features", *data, *store_options(place))
    return place / "store"


def test_the_numbers_are_those_of_the_command_line(place, run):
    expected = json.loads((place / "model/metrics.json").read_text("utf-8"))
    found = json.loads((run.path / "metrics.json").read_text("utf-8"))
    for metrics in (expected, found):
        del metrics["training"]["seconds"]
    assert found == expected
    assert run.metrics | {"training": found["training"]} == found
    names = {path.name for path in (place / "model").iterdir()}
    assert {path.name for path in run.path.iterdir()} == names


def test_a_run_stands_for_its_folder(place, run):
    assert Path(run) == place / "fitted"
    assert repr(run).startswith(f"Run({str(run.path)!r}: accuracy ")
    assert "pairs of 8 prompts" in repr(run)
    assert "<th>log loss</th>" in run._repr_html_()
    assert run.load().objectives == ("clear", "safe")
    assert len(run.scorer(device="cpu")("why", ["the bird", "a house"])) == 2


@pytest.mark.parametrize("hidden", [False, True])
def test_encoding_shows_a_bar_unless_bars_are_off(place, hidden, capsys):
    own = settings(place, train__disable_tqdm=hidden, train__num_train_epochs=1)
    folder = place / f"bar-{hidden}"
    vrm_pyro.fit(rows(24, seed=0), rows(8, seed=1), output_dir=folder, settings=own)
    assert ("features:" in capsys.readouterr().err) is not hidden


def test_rows_in_memory_are_found_again_in_the_folder(place, run):
    held = yaml.safe_load((run.path / "config.yaml").read_text("utf-8"))
    assert held["data"]["train"] == str(run.path / "features/train")
    table = vrm_pyro.load_table(rows(24, seed=0))
    assert training_overlap(str(run.path), table).count == table.num_prompts
    assert training_overlap(str(run.path), vrm_pyro.load_table(rows(4, seed=9))).count == 0
    out = ("--data", place / "validation.jsonl", "--out", place / "verb.json", "--device", "cpu")
    succeed("evaluate", "--model", run.path, *out)


def test_a_finished_run_is_neither_replaced_nor_trained_again(place, run):
    again = {"output_dir": run.path, "settings": settings(place)}
    with pytest.raises(vrm_pyro.InputError, match="holds a finished run"):
        vrm_pyro.fit(rows(24, seed=0), **again)
    same = vrm_pyro.fit(rows(24, seed=0), rows(8, seed=1), resume=True, **again)
    assert not same.trained
    assert same.metrics["log_loss"] == run.metrics["log_loss"]
    assert not vrm_pyro.fit(output_dir=run.path, resume=True).trained
    with pytest.raises(vrm_pyro.InputError, match="model.latent_dim"):
        vrm_pyro.fit(output_dir=run.path, resume=True, settings={"model.latent_dim": 5})


def test_a_run_of_rows_in_memory_can_be_replaced(place):
    short = settings(place, train__num_train_epochs=1)
    for seed in (0, 5):
        run = vrm_pyro.fit(
            rows(12, seed=seed), output_dir=place / "twice", settings=short, overwrite=True
        )
    assert run.trained
    assert training_overlap(str(run.path), vrm_pyro.load_table(rows(12, seed=0))).count == 0


class TestForms:
    def test_all_hold_the_same_rows(self, place, store):
        path = place / "train.jsonl"
        table = vrm_pyro.load_table(path)
        for data in (
            path,
            str(path),
            [path],
            str(place / "tra*.jsonl"),
            lines(path),
            datasets.Dataset.from_list(lines(path)),
            table,
            store,
            vrm_pyro.open_store(store),
        ):
            found = NamedRows.read(data, False, "train")
            assert found.table.content_hash() == table.content_hash()
            assert (found.store is not None) == (data is store or hasattr(data, "meta"))

    def test_a_store_is_trained_on_and_its_name_kept(self, place, store):
        run = vrm_pyro.fit(
            vrm_pyro.open_store(store),
            place / "validation.jsonl",
            output_dir=place / "from_store",
            settings=settings(place, train__num_train_epochs=1),
        )
        held = yaml.safe_load((run.path / "config.yaml").read_text("utf-8"))
        assert held["data"]["train"] == str(store)
        assert held["data"]["validation"] == str(place / "validation.jsonl")

    def test_states_without_a_store_are_refused(self, place, store):
        inputs = vrm_pyro.Inputs.of(vrm_pyro.open_store(store))
        assert rows_of(inputs) is inputs.table
        with pytest.raises(vrm_pyro.InputError, match="Give the rows, or a store"):
            NamedRows.read(inputs, False, "train")

    def test_what_holds_no_rows_is_named(self):
        with pytest.raises(vrm_pyro.InputError, match=r"missing\.jsonl: no such file"):
            vrm_pyro.fit("missing.jsonl", output_dir="nowhere")
        with pytest.raises(vrm_pyro.InputError, match="data.train is not set"):
            vrm_pyro.fit(output_dir="nowhere")
        assert not Path("nowhere").exists()


class TestSettings:
    def test_a_config_by_name_path_and_object(self, tmp_path):
        assert read_settings("ratings").model.objective == "integrated"
        (tmp_path / "own.yaml").write_text("model: {latent_dim: 3}\n", "utf-8")
        assert read_settings(tmp_path / "own.yaml").model.latent_dim == 3
        config = vrm_pyro.ModelConfig(
            mode="vib",
            weight_prior=DirichletPrior(0.3),
            feature_prior=NormalPrior(),
            guide=vrm_pyro.models.guides.LabelBlindGuide(),
            objective="integrated",
            supervision="none",
        )
        read = read_settings(config, {"model.latent_dim": 6, "train.learning_rate": 3e-4})
        assert read.model == vrm_pyro.ModelConfig(**{**vars(config), "latent_dim": 6})
        assert read.values["model"]["weight_prior"] == {
            "class_path": "DirichletPrior",
            "init_args": {"concentration": 0.3, "learn": False},
        }
        assert read.arguments.learning_rate == 3e-4
        assert read.arguments.num_train_epochs == 150  # of `default`

    def test_values_keep_their_kind(self):
        read = read_settings(
            "default",
            {
                "model.objectives": ["clear", "safe"],
                "model.weight_prior": DirichletPrior(2.0),
                "train.use_cpu": True,
                "train.report_to": "none",
                "data.train": ["a.jsonl", Path("b.jsonl")],
            },
        )
        assert read.model.objectives == ["clear", "safe"]
        assert read.model.weight_prior == DirichletPrior(2.0)
        assert read.arguments.use_cpu is True
        assert read.data.train == ["a.jsonl", "b.jsonl"]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ({"model.latnt_dim": 4}, "did you mean '--model.latent_dim'"),
            ({"model.latent_dim": "four"}, "model.latent_dim: is 'four', but must be a whole"),
            ({"model.latent_dim": -1}, "model.latent_dim is -1, but must be 0 or more"),
            ({"train.num_train_epochs": 0}, "nothing would be trained"),
            ({"tuning.rank": 0}, "tuning.rank is 0"),
            ({"model.guide": "NoSuchGuide"}, "no class 'NoSuchGuide'"),
            ({"model.guide": object()}, "give a number, a text"),
        ],
    )
    def test_wrong_ones_are_refused_in_the_words_of_the_command_line(self, given, message):
        with pytest.raises(vrm_pyro.InputError, match=message):
            read_settings("default", given)
        with pytest.raises(vrm_pyro.InputError, match="--config nothing: no such file"):
            read_settings("nothing")


def test_train_takes_rows_with_states(place, tmp_path):
    backbone = vrm_pyro.load_backbone(str(place / "bert"), max_length=60, device="cpu")
    arguments = vrm_pyro.TrainArguments(
        output_dir=str(tmp_path), num_train_epochs=1, use_cpu=True, disable_tqdm=True
    )
    known, other = (
        vrm_pyro.Inputs.of(vrm_pyro.encode_table(rows(12, seed=seed), backbone)) for seed in (0, 1)
    )
    result = vrm_pyro.train(vrm_pyro.ModelConfig(), arguments, known, other)
    assert result.loaded.objectives == ("clear", "safe")
    assert 0 < vrm_pyro.evaluate(result.loaded, other).log_loss.value < 2
