"""simulate, features, evaluate, score, posterior."""

import json
import re
import shutil
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from helpers.workspace import everything, lines, store_options, succeed, vrm_pyro, write_rows

from vrm_pyro.data.rows import load_table, prompt_key
from vrm_pyro.features.store import open_store
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.prediction.posterior import GROUPS, SUMMARY_GROUPS
from vrm_pyro.prediction.posterior.labels import prompt_id
from vrm_pyro.prediction.scorer import Scorer

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "posterior.md"
RATES = ("accuracy", "log_loss", "brier", "ece", "accuracy_at_50")


def evaluate(place, data, out, *more):
    succeed("evaluate", "--model", place / "model", "--data", data, "--out", out, *more)
    return json.loads(out.read_text())


class TestSimulate:
    def test_files_are_those_of_the_contract(self, tmp_path):
        run = succeed("simulate", "--out", tmp_path / "d", "--pairs", 60, "--seed", 3)
        assert sorted(p.name for p in (tmp_path / "d").iterdir()) == [
            "test.jsonl",
            "train.jsonl",
            "truth.nc",
            "validation.jsonl",
        ]
        assert str(tmp_path / "d" / "train.jsonl") in run.out
        parts = [load_table(str(tmp_path / "d" / f"{s}.jsonl")) for s in ("train", "test")]
        assert parts[0].num_pairs + 2 * parts[1].num_pairs == 60
        with xr.open_dataset(tmp_path / "d" / "truth.nc") as truth:
            assert truth.attrs["seed"] == 3

    def test_settings_reach_the_simulation(self, tmp_path):
        settings = ("--pairs", 30, "--pairs_per_prompt", 2, "--rating_missing", 1)
        succeed("simulate", "--out", tmp_path / "d", *settings)
        assert "chosen_ratings" not in lines(tmp_path / "d" / "train.jsonl")[0]

    def test_a_folder_is_replaced_only_when_told(self, tmp_path):
        out = ("--out", tmp_path / "d", "--pairs", 30)
        succeed("simulate", *out)
        before = everything(tmp_path)
        assert vrm_pyro("simulate", *out, "--seed", 1).code == 2
        assert everything(tmp_path) == before
        succeed("simulate", *out, "--seed", 1, "--overwrite")
        assert everything(tmp_path) != before


class TestFeatures:
    def test_store_holds_states_and_tokenizer(self, place):
        store = open_store(place / "store")
        assert store.pair_first.shape == (72,)
        assert (place / "store" / "tokenizer" / "tokenizer.json").is_file()
        assert store.meta["backbone"]["name"] == str(place / "bert")

    def test_a_finished_store_is_left_alone(self, place, tmp_path):
        store = shutil.copytree(place / "store", tmp_path / "store")
        before = {name: data for name, data in everything(store).items() if "npy" in name}
        settings = store_options(place)
        data = ("--data", place / "train.jsonl", "--out", store)
        assert "finished already" in succeed("features", *data, *settings).err
        assert before.items() <= everything(store).items()

    def test_another_setting_needs_overwrite(self, place, tmp_path):
        store = shutil.copytree(place / "store", tmp_path / "store")
        settings = store_options(place, max_length=50)
        arguments = ("features", "--data", place / "train.jsonl", "--out", store, *settings)
        run = vrm_pyro(*arguments)
        assert run.code == 2
        assert "max length (60 there, 50 here)" in run.err
        succeed(*arguments, "--overwrite")
        assert open_store(store).meta["key"]["max_length"] == 50


class TestEvaluate:
    def test_keys_are_those_of_the_contract(self, place, tmp_path):
        metrics = evaluate(place, place / "test.jsonl", tmp_path / "m.json")
        named = {"n_pairs", "n_prompts", "kl_weights", "kl_features", "by_subset"}
        named |= {"active_units_weights", "active_units_features", "length_baseline"}
        named |= {*RATES, *(f"{rate}_se" for rate in RATES)}
        assert named <= metrics.keys()
        assert set(metrics["by_subset"]) == {"kind 0", "kind 1"}
        assert {"longest", "shortest"} <= metrics["length_baseline"].keys()
        assert (metrics["n_pairs"], metrics["n_prompts"]) == (24, 8)

    def test_rows_and_their_store_agree(self, place, tmp_path):
        exact = ("--dtype", "float32")
        rows = evaluate(place, place / "train.jsonl", tmp_path / "a.json", *exact)
        store = evaluate(place, place / "store", tmp_path / "b.json")
        for name in ("log_loss", "log_loss_se", "kl_features", "kl_weights", "ece"):
            assert rows[name] == pytest.approx(store[name], abs=1e-6)
        assert rows["by_subset"]["kind 1"]["n_pairs"] == store["by_subset"]["kind 1"]["n_pairs"]

    def test_ratings_and_order_of_rows_do_not_matter(self, place, tmp_path):
        rows = lines(place / "test.jsonl")
        bare = [{k: v for k, v in row.items() if "ratings" not in k} for row in rows]
        write_rows(tmp_path / "bare.jsonl", bare[::-1])
        exact = ("--dtype", "float32")
        one = evaluate(place, place / "test.jsonl", tmp_path / "a.json", *exact)
        two = evaluate(place, tmp_path / "bare.jsonl", tmp_path / "b.json", *exact)
        assert one["log_loss"] == pytest.approx(two["log_loss"], abs=1e-6)

    def test_skip_invalid(self, place, tmp_path):
        rows = [*lines(place / "test.jsonl"), {"prompt": "x", "chosen": "", "rejected": "y"}]
        data = write_rows(tmp_path / "rows.jsonl", rows)
        arguments = ("evaluate", "--model", place / "model", "--data", data)
        assert vrm_pyro(*arguments, "--out", tmp_path / "m.json").code == 2
        assert not (tmp_path / "m.json").exists()
        run = succeed(*arguments, "--out", tmp_path / "m.json", "--skip-invalid")
        assert "1 invalid" in run.err

    def test_settings_from_a_config_file(self, place, tmp_path):
        config = tmp_path / "evaluate.yaml"
        config.write_text(
            f"model: {place / 'model'}\ndata: [{place / 'test.jsonl'}]\nout: {tmp_path}/m.json\n"
        )
        succeed("evaluate", "--config", config)
        assert json.loads((tmp_path / "m.json").read_text())["n_pairs"] == 24

    def test_a_moved_backbone_can_be_named(self, place, tmp_path):
        model = shutil.copytree(place / "model", tmp_path / "model")
        config = json.loads((model / "config.json").read_text())
        config["backbone"]["name"] = str(tmp_path / "gone")
        (model / "config.json").write_text(json.dumps(config))
        arguments = ("evaluate", "--model", model, "--data", place / "test.jsonl")
        run = vrm_pyro(*arguments, "--out", tmp_path / "m.json")
        assert run.code == 2
        assert "gone" in run.err
        succeed(*arguments, "--out", tmp_path / "m.json", "--backbone", place / "bert")


class TestScore:
    def test_lines_are_those_of_the_contract(self, place, tmp_path):
        out = tmp_path / "s.jsonl"
        succeed("score", "--model", place / "model", "--data", place / "test.jsonl", "--out", out)
        made = lines(out)
        assert len(made) == 48
        assert {"id", "response_index", "reward_mean", "reward_sd", "p_chosen"} <= made[0].keys()
        assert set(made[0]["weights"]) == set(made[0]["scores"]) == {"clear", "safe"}
        assert sum(made[0]["weights"].values()) == pytest.approx(1, abs=1e-5)

    def test_the_scorer_says_the_same(self, place, tmp_path):
        out = tmp_path / "s.jsonl"
        data = ("--data", place / "test.jsonl", "--out", out, "--dtype", "float32")
        succeed("score", "--model", place / "model", *data)
        row = lines(place / "test.jsonl")[0]
        made = lines(out)
        scorer = Scorer.from_pretrained(place / "model", dtype="float32")
        held = scorer(row["prompt"], [row["chosen"], row["rejected"]])
        for index, line in enumerate(made[:2]):
            assert line["reward_mean"] == pytest.approx(held[index]["reward_mean"], abs=1e-4)

    def test_single_responses(self, place, tmp_path):
        data = write_rows(tmp_path / "r.jsonl", [{"prompt": "a", "response": "b", "id": "one"}])
        out = tmp_path / "s.jsonl"
        succeed("score", "--model", place / "model", "--data", data, "--out", out)
        (line,) = lines(out)
        assert line["id"] == "one"
        assert "p_chosen" not in line

    def test_rows_and_their_store_agree(self, place, tmp_path):
        for name, data in (("a", "train.jsonl"), ("b", "store")):
            arguments = ("--data", place / data, "--out", tmp_path / name, "--dtype", "float32")
            succeed("score", "--model", place / "model", *arguments)
        for one, two in zip(lines(tmp_path / "a"), lines(tmp_path / "b"), strict=True):
            assert one["id"] == two["id"]
            assert one["reward_mean"] == pytest.approx(two["reward_mean"], abs=1e-5)


class TestPosterior:
    GROUPS = ("posterior", "posterior_predictive", "prior", "prior_predictive", "observed_data")
    MORE = ("constant_data", "log_likelihood", "sample_stats", "log_prior")

    def test_groups_and_dimensions_are_those_of_the_contract(self, place, tmp_path):
        out = tmp_path / "p.nc"
        arguments = ("--data", place / "test.jsonl", "--draws", 10, "--out", out)
        succeed("posterior", "--model", place / "model", *arguments)
        with xr.open_datatree(out) as tree:
            assert {*self.GROUPS, *self.MORE} <= set(tree.children)
            dims = set(tree["posterior"].dataset.dims)
            assert {"prompt", "response", "objective", "feature", "chain", "draw"} <= dims
            assert tree["posterior"].dataset.sizes["draw"] == 10
            assert "pair" in tree["observed_data"].dataset.dims
        assert [p.name for p in tmp_path.iterdir()] == ["p.nc"]

    def test_the_root_says_which_model_it_is_of(self, place, tmp_path):
        data = ("--data", place / "test.jsonl", "--draws", 3, "--out", tmp_path / "p.nc")
        succeed("posterior", "--model", place / "model", *data)
        config = load_model(place / "model").config
        with xr.open_datatree(tmp_path / "p.nc") as tree:
            found = tree.attrs
            assert found["mode"] == config.mode
            assert found["kl_weights"] == config.kl_weights
            assert found["rating_power"] == config.rating_power
            assert found["torch_version"] == version("torch")
            assert (found["seed"], found["num_draws"]) == (0, 3)
            assert re.fullmatch("[0-9a-f]{64}", found["config_hash"])
            documented = re.findall(r"`([a-z_]+)`", PAGE.read_text(encoding="utf-8"))
            assert set(found) <= set(documented)
            # A prompt has the same name here as in any other file.
            row = lines(place / "test.jsonl")[0]
            name = prompt_id(prompt_key([{"role": "user", "content": row["prompt"]}]))
            assert name in tree["posterior"]["prompt"].values

    def test_summaries(self, place, tmp_path):
        data = ("--data", place / "test.jsonl", "--draws", 9, "--out", tmp_path / "s.nc")
        run = succeed("posterior", "--model", place / "model", *data, "--summaries")
        assert "summaries of 9 draws" in run.out
        with xr.open_datatree(tmp_path / "s.nc") as tree:
            assert tree["posterior_summary"]["w_mean"].sum("objective").values == pytest.approx(1)
        refused = vrm_pyro("psense", "--posterior", tmp_path / "s.nc")
        assert refused.code == 2
        assert "the posterior lacks" in refused.err

    def test_the_page_names_every_variable(self):
        page = PAGE.read_text(encoding="utf-8")
        for group, variables in GROUPS.items():
            for name, variable in variables.items():
                drawn = variable.sampled or group == "log_likelihood"
                dims = ", ".join(("chain", "draw") * drawn + variable.dims)
                assert f"| `{group}` | `{name}` | {dims} |" in page
        assert all(f"`{group}`" in page for group in SUMMARY_GROUPS)

    def test_seed_fixes_the_draws(self, place, tmp_path):
        model = load_model(place / "model")
        assert model.rated
        drawn = []
        for name, seed in (("a.nc", 1), ("b.nc", 1), ("c.nc", 2)):
            arguments = ("--data", place / "test.jsonl", "--draws", 3, "--seed", seed)
            succeed("posterior", "--model", place / "model", *arguments, "--out", tmp_path / name)
            with xr.open_datatree(tmp_path / name) as tree:
                drawn.append(tree["posterior"].dataset["w"].values)
        assert np.array_equal(drawn[0], drawn[1])
        assert not np.array_equal(drawn[0], drawn[2])

    def test_rows_that_lack_an_objective(self, place, tmp_path):
        rows = lines(place / "test.jsonl")
        for row in rows:
            for side in ("chosen_ratings", "rejected_ratings"):
                row[side] = {"safe": row[side]["safe"], "other": 1.0}
        data = write_rows(tmp_path / "rows.jsonl", rows)
        arguments = ("--data", data, "--draws", 3, "--out", tmp_path / "p.nc")
        succeed("posterior", "--model", place / "model", *arguments)
        with xr.open_datatree(tmp_path / "p.nc") as tree:
            rating = tree["observed_data"].dataset["rating"]
            assert np.isnan(rating.sel(objective="clear")).all()
            assert not np.isnan(rating.sel(objective="safe")).all()
