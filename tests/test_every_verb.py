"""Models of unusual shape, trained from rows, through every verb of the front door."""

import arviz_stats
import numpy as np
import pytest
import xarray as xr
from helpers.configs import network_config
from helpers.tiny_backbones import save_tiny_backbone, text
from helpers.workspace import rows, write_rows
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import vrm_pyro
import vrm_pyro.integrations.huggingface
from vrm_pyro.backbone import quiet_transformers
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.models.guides import LogisticNormalGuide
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.models.priors import LogisticNormalPrior, NormalPrior

ONE = {"supervision": "none", "num_objectives": 1}
KINDS = {
    "one objective": {"objectives": ["safe"]},
    "one objective without ratings": ONE,
    "one objective in mode vib": {
        **ONE,
        "mode": "vib",
        "objective": "integrated",
        "weight_prior": LogisticNormalPrior(),
        "feature_prior": NormalPrior(),
        "guide": LogisticNormalGuide(hidden_size=8),
    },
}
KINDS |= {
    "ensemble": {"ensemble_size": 3, "likelihood": Lapse()},
    "ensemble without ratings": {
        "supervision": "none",
        "num_objectives": 3,
        "ensemble_size": 2,
        "bayesian_head": True,
        "head_draws": 3,
    },
    "ensemble of one objective": {**ONE, "ensemble_size": 2},
}
PROMPT, ANSWERS = text(0, 6), [text(10 + i, 4 + i) for i in range(3)]


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    save_tiny_backbone(folder / "bert")
    write_rows(folder / "train.jsonl", rows(24, seed=0))
    write_rows(folder / "validation.jsonl", rows(8, seed=1))
    write_rows(folder / "test.jsonl", rows(24, seed=2))
    return folder


@pytest.fixture(scope="module", params=sorted(KINDS))
def run(request, place):
    config = network_config(
        backbone=str(place / "bert"), max_length=60, dtype="float32", **KINDS[request.param]
    )
    return vrm_pyro.fit(
        place / "train.jsonl",
        place / "validation.jsonl",
        config=config,
        output_dir=place / request.param.replace(" ", "_"),
        settings={"train.num_train_epochs": 2, "train.use_cpu": True, "train.disable_tqdm": True},
    )


@pytest.fixture(scope="module")
def scorer(run):
    return vrm_pyro.Scorer.from_pretrained(run, device="cpu", dtype="float32")


def one(scorer):
    return len(scorer.loaded.objectives) == 1


def size(scorer):
    return len(scorer.loaded.members)


def test_score_and_preference(scorer):
    lines = scorer([PROMPT] * 3, ANSWERS)
    for line in lines:
        assert line["reward_sd"] > 0
        parts = ("weights", "features", "interaction")
        total = sum(line[f"variance_from_{p}"] for p in parts[:2]) + line["variance_interaction"]
        assert total + line["variance_epistemic"] == pytest.approx(
            line["reward_sd"] ** 2, rel=1e-4
        )
        assert (line["variance_epistemic"] > 0) == (size(scorer) > 1)
        assert sum(line["weights"].values()) == pytest.approx(1)
        if one(scorer):
            assert list(line["weights"].values()) == [1.0]
            assert line["variance_from_weights"] == line["variance_interaction"] == 0
    (p,) = scorer.preference(PROMPT, ANSWERS[0], ANSWERS[1])
    assert (p > 0.5) == (lines[0]["reward_mean"] > lines[1]["reward_mean"])


def test_evaluate(run, scorer, place):
    found = vrm_pyro.evaluate(scorer, place / "test.jsonl")
    assert 0 <= found.accuracy.value <= 1
    assert found["kl_features"] > 0
    if one(scorer):
        assert found["kl_weights"] == found["active_units_weights"] == 0


def test_explain(scorer):
    found = vrm_pyro.explain(scorer, PROMPT, ANSWERS, num_draws=200)
    said, values = str(found), found.to_json()
    for pair in values["pairs"]:
        parts = sum(part["mean"] for part in pair["contributions"].values())
        assert parts == pytest.approx(pair["delta_mean"], abs=1e-6)
    if one(scorer):
        assert "There is one objective: no weights to shift." in said
        assert "weigh" not in said.replace("no weights to shift", "")
        assert values["flip"]["weights"] is None
        assert values["flip"]["one_weight"] == []
    assert "better" in said


def test_posterior_and_sensitivity(scorer, place, tmp_path):
    vrm_pyro.write_posterior(scorer, place / "test.jsonl", tmp_path / "posterior.nc", 120)
    with xr.open_datatree(tmp_path / "posterior.nc") as tree:
        posterior = tree["posterior"].to_dataset().load()
        summary = arviz_stats.summary(tree["posterior"].to_dataset(), var_names=["s"])
    assert len(summary) == posterior["s"].isel(chain=0, draw=0).size
    np.testing.assert_allclose(posterior["w"].sum("objective"), 1, rtol=1e-5)
    assert posterior["s"].sizes["objective"] == len(scorer.loaded.objectives)
    found = vrm_pyro.sensitivity(tmp_path / "posterior.nc")
    assert np.isfinite(found.index["s"]).any()
    assert ("w" in found.index) == (not one(scorer))


def test_diagnose(scorer, place):
    found = vrm_pyro.diagnose(scorer, place / "test.jsonl", num_draws=102)
    assert all(name in found for name in ("khat", "gaps", "weights", "prior", "coverage"))
    if one(scorer):
        assert not found["weights"].applies
        assert "one objective" in found["weights"].verdict
        assert "one objective: no weights" in found["collapse"].verdict
        for name in ("prior", "coverage", "simulation"):
            assert "weight" not in str(found[name].detail)
        assert "weights" not in found["units"].verdict


def test_certify(scorer, place):
    settings = {
        "backbone_saw_these_labels": "no",
        "head": "reward_and_networks" if scorer.loaded.mode == "conditional" else "reward",
        "num_draws": 5,
        "num_steps": 2,
        "prior_scales": [0.1],
    }
    local = {"local": True, "prior_fitted_on_disjoint_data": True}
    if size(scorer) > 1:
        with pytest.raises(InputError, match="an ensemble, which has a posterior"):
            vrm_pyro.certify(scorer, place / "test.jsonl", **settings, **local)
        local = {}
    found = vrm_pyro.certify(scorer, place / "test.jsonl", **settings, **local).to_json()
    assert 0 < found["held_out"]["error"]["value"] <= 1
    assert found["information_cost"]["total"] > 0
    assert ("withheld" in found["pac_bayes"]) == (size(scorer) > 1)


def test_report(scorer, place, tmp_path):
    page = vrm_pyro.write_report(
        scorer,
        place / "test.jsonl",
        tmp_path / "r.html",
        num_draws=100,
        khat_prompts=4,
        psense_prompts=4,
        worst=1,
    )
    text = page.path.read_text(encoding="utf-8")
    if one(scorer):
        assert "one objective: no weights" in text


def test_rewards_for_rl(run, scorer):
    expected = [line["reward_mean"] for line in scorer([PROMPT] * 3, ANSWERS)]
    values = {}
    for aggregation in ("mean", "lower_bound", "quantile", "thompson"):
        reward = vrm_pyro.VRMReward(run, aggregation=aggregation, dtype="float32", device="cpu")
        values[aggregation] = reward(prompts=[PROMPT] * 3, completions=ANSWERS)
        metrics = reward.assess([PROMPT] * 3, ANSWERS).metrics()
        assert ("vrm/weight_entropy" in metrics) == (not one(scorer))
    assert values["mean"] == pytest.approx(expected, abs=1e-5)
    assert (np.array(values["lower_bound"]) < np.array(expected)).all()
    assert np.isfinite(values["thompson"]).all()


def test_export_scores_alike(scorer, tmp_path):
    with quiet_transformers():
        write_export(scorer, tmp_path / "hf", ExportSettings())
        model = AutoModelForSequenceClassification.from_pretrained(tmp_path / "hf", num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "hf")
    chats = [
        [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": answer}]
        for answer in ANSWERS
    ]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    found = model(**batch)
    lines = scorer([PROMPT] * 3, ANSWERS)
    for name, key in (("logits", "reward_mean"), ("reward_sd", "reward_sd")):
        expected = [line[key] for line in lines]
        values = getattr(found, name).flatten().tolist()
        assert values == pytest.approx(expected, abs=2e-4)
