"""certify: what it bounds, what it asks for, and what it refuses."""

import json
import shutil

import pytest
from helpers.workspace import lines, rows, store_options, succeed, vrm_pyro, write_rows

from vrm_pyro.diagnostics.certificates import chernoff_upper, clopper_pearson_upper
from vrm_pyro.models.checkpoint import load_model

QUICK = ("--draws", 20, "--steps", 5, "--prior_scales", "[0.01, 0.1]", "--dtype", "float32")
NOT_SEEN = ("--backbone_saw_these_labels", "no")
DISJOINT = ("--prior_fitted_on_disjoint_data",)


def command(model, data, *more, declared=NOT_SEEN):
    return ("certify", "--model", model, "--data", data, *declared, *QUICK, *more)


def refused(run, *fragments):
    assert run.code == 2, run.err
    assert [part for part in fragments if part not in run.err] == [], run.err
    assert "Traceback" not in run.err
    assert run.out == ""


@pytest.fixture(scope="module")
def report(place, tmp_path_factory):
    """The report of all certificates on the test rows, and what was printed."""
    out = tmp_path_factory.mktemp("certify") / "report.json"
    local = ("--local", *DISJOINT)
    run = succeed(*command(place / "model", place / "test.jsonl", *local, "--out", out))
    return json.loads(out.read_text()), run


class TestReport:
    def test_order_is_that_of_the_specification(self, report):
        found, run = report
        names = ["held_out", "pac_bayes", "local", "information_cost"]
        assert [name for name in found if name in names] == names
        places = [
            run.out.index(words)
            for words in ("1 held-out", "2 PAC-Bayes", "3 local", "information cost (rate)")
        ]
        assert places == sorted(places)
        assert (found["n_pairs"], found["n_prompts"]) == (24, 8)

    def test_cut_texts_and_dropped_pairs_are_counted(self, report):
        assert "texts: no text cut; no pair dropped" in report[1].err

    def test_held_out_bound_is_of_the_evaluated_error(self, report, place, tmp_path):
        out = ("--out", tmp_path / "m.json", "--dtype", "float32")
        succeed("evaluate", "--model", place / "model", "--data", place / "test.jsonl", *out)
        metrics = json.loads((tmp_path / "m.json").read_text())
        bound = report[0]["held_out"]["error"]
        # Three pairs a prompt: the mean over prompts is the mean over pairs.
        assert bound["observed"] == pytest.approx(1 - metrics["accuracy"], abs=1e-9)
        assert bound["value"] == pytest.approx(chernoff_upper(bound["observed"], 8, 0.05))
        assert (bound["confidence"], bound["n"], bound["unit"]) == (0.95, 8, "prompt")
        brier = report[0]["held_out"]["brier"]
        assert brier["observed"] == pytest.approx(metrics["brier"], abs=1e-6)

    def test_pac_bayes_has_both_posteriors_and_losses(self, report, place):
        part = report[0]["pac_bayes"]
        assert (part["head"], part["fitted_for"]) == ("reward", "error")
        reward = load_model(place / "model").model.reward
        assert part["error"]["prior"]["num_parameters"] == sum(
            parameter.numel() for parameter in reward.parameters()
        )
        for loss in ("error", "brier"):
            values = {kind: part[loss][kind]["value"] for kind in ("fitted", "prior")}
            assert values[part[loss]["best"]] == min(values.values())
            assert part[loss]["prior"]["kl"] == 0
            assert part[loss]["fitted"]["num_scales"] == 2
            assert part[loss]["fitted"]["confidence"] == pytest.approx(0.94)

    def test_local_shows_both_risks_and_what_it_is_about(self, report):
        found, run = report
        assert found["local"]["value"] >= found["local"]["observed_prior"]
        assert "Rhat(Q)" in run.out
        assert "Rhat(P)" in run.out
        assert "fresh labels on the same items" in run.out

    def test_gibbs_rule_and_diagnostic_are_said(self, report):
        text = " ".join(report[1].out.split())
        assert "Gibbs rule" in text
        assert "2 x this error" in text
        assert "A diagnostic, not a certificate" in text

    def test_information_cost_splits_the_divergence(self, report):
        cost = report[0]["information_cost"]
        total = 8 * cost["kl_weights_per_prompt"] + 24 * cost["kl_features_per_response"]
        assert cost["total"] == pytest.approx(total, rel=1e-9)
        assert cost["total_per_prompt"] == pytest.approx(total / 8, rel=1e-9)
        assert report[0]["local"]["divergence"] == pytest.approx(total, rel=1e-9)

    def test_what_was_declared_and_compared_is_kept(self, report, place):
        found, run = report
        assert found["declared"] == {
            "backbone_saw_these_labels": "no",
            "prior_fitted_on_disjoint_data": True,
        }
        assert str(place / "model" / "features" / "train") in found["training_rows"]["compared"][0]
        assert found["training_rows"]["not_compared"] == []
        assert "the backbone has not seen these labels" in run.out


def test_json_alone_on_stdout_and_a_seed(place):
    arguments = command(place / "model", place / "test.jsonl", "--json")
    one, two = (json.loads(succeed(*arguments).out) for _ in range(2))
    other = json.loads(succeed(*arguments, "--seed", 1).out)
    assert one == two
    assert one["pac_bayes"] != other["pac_bayes"]
    assert one["held_out"] == other["held_out"]
    assert one["local"] is None


def test_networks_in_the_head(place):
    more = ("--head", "reward_and_networks", "--loss", "brier", "--json")
    run = succeed(*command(place / "model", place / "test.jsonl", *more))
    part = json.loads(run.out)["pac_bayes"]
    assert (part["head"], part["fitted_for"]) == ("reward_and_networks", "brier")
    assert part["error"]["prior"]["num_parameters"] > 50


def test_one_pair_a_prompt_is_exact(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(12, seed=7)[::3])
    found = json.loads(succeed(*command(place / "model", data, "--json")).out)["held_out"]
    assert found["error"]["method"] == "Clopper-Pearson"
    errors = round(12 * found["error"]["observed"])
    assert found["error"]["value"] == pytest.approx(clopper_pearson_upper(errors, 12, 0.05))
    assert found["brier"]["method"] == "kl (Chernoff)"


def test_few_prompts_are_withheld_with_a_reason(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(4, seed=7))
    run = succeed(*command(place / "model", data, "--json"))
    found = json.loads(run.out)
    assert "at least 8 independent prompts, here are 4" in found["pac_bayes"]["withheld"]
    assert found["held_out"]["error"]["n"] == 4


def test_dependent_prompts(place, tmp_path):
    data = write_rows(tmp_path / "rows.jsonl", rows(16, seed=7))
    run = succeed(*command(place / "model", data, "--chi", 2))
    assert "chi 2" in run.out
    assert "count as 8 independent ones" in run.out


class TestDeclaration:
    def test_is_asked_for(self, place):
        refused(
            vrm_pyro(*command(place / "model", place / "test.jsonl", declared=())),
            "required: --backbone_saw_these_labels",
        )

    def test_is_one_of_three(self, place):
        declared = ("--backbone_saw_these_labels", "perhaps")
        run = vrm_pyro(*command(place / "model", place / "test.jsonl", declared=declared))
        refused(run, "'perhaps'", "no, yes, unknown")

    def test_yes_withholds_every_bound(self, place):
        declared = ("--backbone_saw_these_labels", "yes")
        local = ("--local", *DISJOINT)
        arguments = command(place / "model", place / "test.jsonl", *local, declared=declared)
        run = succeed(*arguments)
        assert run.out.count("withheld") == 3
        assert "declared to have seen these labels" in " ".join(run.out.split())
        found = json.loads(succeed(*arguments, "--json").out)
        for name in ("held_out", "pac_bayes", "local"):
            assert list(found[name]) == ["withheld"]
        assert found["information_cost"]["total"] > 0

    def test_unknown_warns(self, place):
        declared = ("--backbone_saw_these_labels", "unknown")
        run = succeed(*command(place / "model", place / "test.jsonl", declared=declared))
        assert "WARNING: if it has, every limit below is void" in " ".join(run.out.split())
        assert "limits below are void" in run.err

    def test_no_in_a_config_file(self, place, tmp_path):
        """YAML reads a bare no as false."""
        config = tmp_path / "certify.yaml"
        config.write_text(
            f"model: {place / 'model'}\ndata: {place / 'test.jsonl'}\n"
            "backbone_saw_these_labels: no\ndraws: 5\nsteps: 1\nprior_scales: [0.1]\n"
        )
        run = succeed("certify", "--config", config)
        assert "the backbone has not seen these labels" in run.out


class TestTrainingRows:
    @pytest.mark.parametrize("part", ["train", "validation"])
    def test_rows_of_the_run(self, place, part):
        run = vrm_pyro(*command(place / "model", place / f"{part}.jsonl"))
        refused(run, f"{part}.jsonl", f"data.{part}", "no bound holds", "other prompts")

    def test_states_of_its_training_rows(self, place):
        refused(vrm_pyro(*command(place / "model", place / "store")), "24 of its 24 prompts")

    def test_another_name_does_not_hide_them(self, place, tmp_path):
        shutil.copy(place / "train.jsonl", tmp_path / "test.jsonl")
        refused(vrm_pyro(*command(place / "model", tmp_path / "test.jsonl")), "data.train")

    def test_some_of_them_can_be_left_out(self, place, tmp_path):
        mixed = [*lines(place / "test.jsonl"), *lines(place / "train.jsonl")[:6]]
        data = write_rows(tmp_path / "rows.jsonl", mixed)
        refused(vrm_pyro(*command(place / "model", data)), "2 of its 10 prompts", "--leave_out")
        left = ("--leave_out_training_prompts", "--json")
        found = json.loads(succeed(*command(place / "model", data, *left)).out)
        alone = json.loads(succeed(*command(place / "model", place / "test.jsonl", "--json")).out)
        assert found["training_rows"]["prompts_left_out"] == 2
        assert found["held_out"] == alone["held_out"]

    def test_nothing_is_left(self, place):
        left = ("--leave_out_training_prompts",)
        run = vrm_pyro(*command(place / "model", place / "train.jsonl", *left))
        refused(run, "every prompt is a training or validation prompt")

    def test_a_run_without_states_is_known_by_its_config(self, place, tmp_path):
        model = copy_of(place, tmp_path)
        shutil.rmtree(model / "features")
        run = vrm_pyro(*command(model, place / "train.jsonl"))
        refused(run, f"data.train ({place / 'train.jsonl'})")

    def test_what_cannot_be_compared_is_said(self, place, tmp_path):
        model = copy_of(place, tmp_path)
        shutil.rmtree(model / "features")
        config = model / "config.yaml"
        config.write_text(config.read_text().replace(str(place / "train.jsonl"), "gone.jsonl"))
        run = succeed(*command(model, place / "test.jsonl"))
        assert "not compared with data.train (gone.jsonl is not on this machine)" in run.err
        assert "NOT compared with data.train" in run.out
        config.unlink()
        run = succeed(*command(model, place / "test.jsonl"))
        assert "not compared with the training rows" in run.err


def copy_of(place, folder):
    ignored = shutil.ignore_patterns("checkpoint-*", "*.nc")
    return shutil.copytree(place / "model", folder / "model", ignore=ignored)


class TestLocal:
    def test_needs_the_flag(self, place):
        run = vrm_pyro(*command(place / "model", place / "test.jsonl", "--local"))
        refused(run, "--prior_fitted_on_disjoint_data", "may have memorised them")

    def test_is_not_given_unless_asked_for(self, place):
        run = succeed(*command(place / "model", place / "test.jsonl", *DISJOINT))
        assert "3 local" not in run.out


class TestBaseline:
    def test_has_a_held_out_bound_alone(self, baseline, place):
        run = succeed(*command(baseline, place / "test.jsonl"))
        assert "1 held-out bound, kl (Chernoff)" in run.out
        assert "no head (A, b, log beta)" in " ".join(run.out.split())
        assert "information cost (rate): none" in run.out

    def test_has_no_local_latents(self, baseline, place):
        local = ("--local", *DISJOINT)
        refused(vrm_pyro(*command(baseline, place / "test.jsonl", *local)), "no local latent")

    def test_refuses_its_training_rows(self, baseline, place):
        refused(vrm_pyro(*command(baseline, place / "train.jsonl")), "data.train")


@pytest.mark.parametrize(
    ("more", "fragments"),
    [
        (("--delta", 0), ("delta is 0.0", "between 0 and 1")),
        (("--delta", 0.6, "--delta_mc", 0.5), ("sum must be below 1",)),
        (("--draws", 0), ("--draws is 0",)),
        (("--steps", 0), ("--steps is 0",)),
        (("--chi", 0.5), ("chi is 0.5",)),
        (("--prior_scales", "[0.1, 0]"), ("prior_scales", "positive")),
        (("--loss", "log"), ("loss", "error, brier")),
        (("--head", "tail"), ("head", "reward, reward_and_networks")),
    ],
)
def test_options_out_of_range(place, more, fragments):
    refused(vrm_pyro(*command(place / "model", place / "test.jsonl", *more)), *fragments)


def test_rows_without_a_pair(place, tmp_path):
    data = write_rows(tmp_path / "r.jsonl", [{"prompt": "a", "response": "b"}])
    refused(vrm_pyro(*command(place / "model", data)), "no comparison", '"chosen"')


def test_states_of_other_rows(place, tmp_path):
    data = ("--data", place / "test.jsonl", "--out", tmp_path / "store")
    succeed("features", *data, *store_options(place))
    found = json.loads(succeed(*command(place / "model", tmp_path / "store", "--json")).out)
    rows = json.loads(succeed(*command(place / "model", place / "test.jsonl", "--json")).out)
    error = found["held_out"]["brier"]["observed"]
    assert error == pytest.approx(rows["held_out"]["brier"]["observed"], abs=1e-6)
