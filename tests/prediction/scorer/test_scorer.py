import json

import numpy as np
import pytest
import torch
from helpers import tiny_backbones
from helpers.reward_models import OBJECTIVES, loaded_model
from helpers.tiny_backbones import text

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.models.checkpoint import save_model
from vrm_pyro.models.likelihoods import Lapse
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.prediction.scorer import Scorer, score_source, write_scores

FIELDS = {
    "reward_mean", "reward_sd", "variance_from_weights", "variance_from_features",
    "variance_interaction",
    "variance_epistemic", "weights", "scores", "scores_sd",
}  # fmt: skip


@pytest.fixture(scope="module")
def backbone():
    return tiny_backbones.tiny_backbone()


@pytest.fixture(scope="module")
def scorer(backbone):
    return Scorer(loaded_model(backbone), backbone)


@pytest.fixture
def rows(tmp_path):
    """Two comparisons that share a response, one of them without id, and two single responses."""
    path = tmp_path / "rows.jsonl"
    prompt = text(0, 6)
    lines = [
        {"id": "a", "prompt": prompt, "chosen": text(1, 5), "rejected": text(2, 9)},
        {"prompt": prompt, "chosen": text(3, 4), "rejected": text(1, 5)},
        {"id": "s", "prompt": text(4, 3), "response": text(5, 8), "ratings": {"clarity": 4}},
        {"prompt": text(4, 3), "response": text(6, 8), "ratings": {"clarity": 2}},
    ]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return load_table(str(path))


def test_one_dict_per_response(scorer):
    found = scorer(text(0, 6), [text(1, 5), text(2, 9)])
    assert [set(f) for f in found] == [FIELDS, FIELDS]
    for f in found:
        assert set(f["weights"]) == set(f["scores"]) == set(f["scores_sd"]) == set(OBJECTIVES)
        assert sum(f["weights"].values()) == pytest.approx(1, abs=1e-5)
        parts = ("from_weights", "from_features", "interaction")
        total = sum(f[f"variance_{part}"] for part in parts)
        assert f["reward_sd"] ** 2 == pytest.approx(total, rel=1e-4)
    # The prompt alone decides the weights.
    assert found[0]["weights"] == found[1]["weights"]
    assert found[0]["reward_mean"] != found[1]["reward_mean"]
    json.dumps(found, allow_nan=False)


def test_reward_is_weights_times_scores(scorer):
    model = scorer.model
    (found,) = scorer(text(0, 6), text(1, 5))
    # Raw scores back to model units: s = (raw - loc) / scale - offset.
    raw = np.array([found["scores"][name] for name in OBJECTIVES])
    scores = (raw - 3.5) / 0.7 - model.ratings.offset.detach().numpy()
    weights = np.array([found["weights"][name] for name in OBJECTIVES])
    beta = model.reward().scale.item()
    assert found["reward_mean"] == pytest.approx(beta * weights @ scores, abs=1e-4)


def test_scores_are_expected_ratings(scorer, rows):
    source = encode_table(rows, scorer.backbone)
    found = score_source(scorer.model, source)
    with torch.no_grad():
        law = scorer.model.predictive_features(torch.from_numpy(source.responses))
        z = law.sample((20_000,))
        s = scorer.model.reward().scores(z) + scorer.model.ratings.offset
    raw = 3.5 + 0.7 * s
    error = raw.std(0) / len(raw) ** 0.5
    assert ((raw.mean(0) - torch.from_numpy(found.scores)).abs() < 4.5 * error).all()
    assert torch.allclose(raw.std(0), torch.from_numpy(found.scores_sd), rtol=0.03)
    assert scorer.score_unit == "rating"


def test_without_ratings_scores_are_in_model_units(backbone):
    scorer = Scorer(loaded_model(backbone, rated=False), backbone)
    assert scorer.score_unit == "model"
    (found,) = scorer(text(0, 6), text(1, 5))
    scores = np.array(list(found["scores"].values()))
    weights = np.array(list(found["weights"].values()))
    beta = scorer.model.reward().scale.item()
    assert found["reward_mean"] == pytest.approx(beta * weights @ scores, abs=1e-5)


def test_forms_of_prompts(scorer):
    prompt, first, second = text(0, 6), text(1, 5), text(2, 9)
    messages = [{"role": "user", "content": prompt}]
    expected = scorer(prompt, [first, second])
    assert scorer([prompt, prompt], [first, second]) == expected
    assert scorer(messages, [first, second]) == expected
    assert scorer([messages, prompt], [first, second]) == expected
    assert scorer(prompt, first)[0]["weights"] == pytest.approx(expected[0]["weights"], abs=1e-6)
    assert scorer([], []) == []


def test_scores_do_not_depend_on_mode_mates_or_order(scorer):
    prompts = [text(i % 3, 6) for i in range(8)]
    responses = [text(10 + i, 3 + 2 * i) for i in range(8)]
    together = [f["reward_mean"] for f in scorer(prompts, responses)]
    scorer.model.train()
    backwards = [f["reward_mean"] for f in scorer(prompts[::-1], responses[::-1])][::-1]
    assert scorer.model.training
    scorer.model.eval()
    alone = [scorer(p, r)[0]["reward_mean"] for p, r in zip(prompts, responses, strict=True)]
    assert backwards == pytest.approx(together, abs=1e-4)
    assert alone == pytest.approx(together, abs=1e-4)
    assert scorer(prompts, responses) == scorer(prompts, responses)


def test_preference_is_integrated_and_symmetric(scorer):
    prompt, first, second = text(0, 6), text(1, 5), text(2, 9)
    p = scorer.preference([prompt, prompt], [first, second], [second, first])
    assert p[0] + p[1] == pytest.approx(1, abs=1e-5)
    assert scorer.preference(prompt, first, second) == pytest.approx(p[:1], abs=1e-5)
    assert scorer.preference(prompt, first, first) == [pytest.approx(0.5, abs=1e-6)]


def test_lines_of_a_table(scorer, rows):
    lines = list(scorer.score_table(rows))
    keys = [(line["id"], line["response_index"], "p_chosen" in line) for line in lines]
    assert keys == [
        ("a", 0, True), ("a", 1, True), ("pair-1", 0, True), ("pair-1", 1, True),
        ("s", 0, False), ("response-3", 0, False),
    ]  # fmt: skip
    assert lines[0]["reward_mean"] == lines[3]["reward_mean"]  # the response both rows share
    assert lines[0]["p_chosen"] == lines[1]["p_chosen"]
    (p,) = scorer.preference(text(0, 6), text(1, 5), text(2, 9))
    assert lines[0]["p_chosen"] == pytest.approx(p, abs=1e-5)
    assert lines[4]["scores"] == pytest.approx(
        scorer(text(4, 3), text(5, 8))[0]["scores"], abs=1e-4
    )


def test_every_row_has_its_lines_in_order(scorer):
    """Equal responses, equal rows and unranked responses: none is lost, no name shifts."""
    same = {"prompt": "the", "response": "good bird"}
    rows = [
        same,
        {"prompt": "the", "chosen": "long road", "rejected": "long road", "id": "tie"},
        {**same, "id": "twin"},
        {"prompt": "the", "responses": ["good bird", "long road", "good bird"], "id": 7},
        {"prompt": "the", "responses": ["road", "road"], "ranks": [1, 2]},
        same,
        {"prompt": "the", "response": "long road"},
    ]
    lines = list(scorer.score_table(load_table(rows, every_row=True)))
    assert [(line["id"], line["response_index"]) for line in lines] == [
        ("response-0", 0), ("tie", 0), ("tie", 1), ("twin", 0), ("7", 0), ("7", 1), ("7", 2),
        ("pair-4", 0), ("pair-4", 1), ("response-5", 0), ("response-6", 0),
    ]  # fmt: skip
    rewards = [line["reward_mean"] for line in lines]
    assert (
        len({rewards[i] for i in (0, 3, 4, 6, 9)}) == len({rewards[i] for i in (1, 2, 5, 10)}) == 1
    )
    assert rewards[0] != rewards[1]
    assert [line["p_chosen"] for line in lines if "p_chosen" in line] == [
        pytest.approx(0.5, abs=1e-6)
    ] * 4


def test_with_lapses_a_line_says_what_a_right_label_would_be(backbone, rows):
    loaded = loaded_model(backbone)
    loaded.model.likelihood = Lapse(0.2, learn=False)
    line = next(iter(Scorer(loaded, backbone).score_table(rows)))
    assert line["p_chosen"] == pytest.approx(0.2 + 0.6 * line["p_chosen_without_lapse"], abs=1e-5)
    assert abs(line["p_chosen"] - line["p_chosen_without_lapse"]) > 1e-3


def test_pairs_the_backbone_cannot_tell_apart_are_scored(scorer, tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(
        json.dumps({"prompt": "the", "chosen": "GOOD bird", "rejected": "good bird"}) + "\n"
    )
    lines = list(scorer.score_table(load_table(str(path))))
    assert [line["p_chosen"] for line in lines] == [pytest.approx(0.5, abs=1e-6)] * 2


def test_baseline_claims_no_spread(backbone, rows):
    scorer = Scorer(loaded_model(backbone, architecture="bradley_terry"), backbone)
    lines = list(scorer.score_table(rows))
    assert all(line["reward_sd"] == 0 for line in lines)
    assert all(line["weights"] == line["scores"] == {} for line in lines)
    gap = lines[0]["reward_mean"] - lines[1]["reward_mean"]
    assert lines[0]["p_chosen"] == pytest.approx(1 / (1 + np.exp(-gap)), abs=1e-5)


def test_file_is_written_whole_or_not_at_all(scorer, rows, tmp_path):
    path = tmp_path / "out" / "scores.jsonl"
    assert write_scores(scorer.score_table(rows), path) == 6
    read = [json.loads(line) for line in path.read_text().splitlines()]
    assert read == list(scorer.score_table(rows))

    def broken():
        yield read[0]
        raise RuntimeError("power cut")

    with pytest.raises(RuntimeError, match="power cut"):
        write_scores(broken(), path)
    assert len(path.read_text().splitlines()) == 6
    assert [p.name for p in path.parent.iterdir()] == ["scores.jsonl"]


def test_from_pretrained_gives_the_same_numbers(tmp_path):
    folder = tiny_backbones.save_tiny_backbone(tmp_path / "bert")
    backbone = load_backbone(str(folder), max_length=120, dtype="float32")
    loaded = loaded_model(backbone)
    (tmp_path / "model").mkdir()
    save_model(loaded, tmp_path / "model")
    scorer = Scorer.from_pretrained(tmp_path / "model", dtype="float32")
    first, second = text(1, 5), text(2, 9)
    assert scorer(text(0, 6), [first, second]) == Scorer(loaded, backbone)(
        text(0, 6), [first, second]
    )


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"tokenizer_hash": "0"}, "its tokenizer changed"),
        ({"weights_hash": "0", "template_hash": "1"}, "chat template and weights changed"),
    ],
)
def test_another_backbone_is_refused(backbone, facts, message):
    loaded = loaded_model(backbone)
    loaded.backbone |= facts
    with pytest.raises(InputError, match=message):
        Scorer(loaded, backbone)


def test_states_of_another_size_are_refused(backbone):
    loaded = loaded_model(backbone)
    loaded.model = build_model(loaded.config, 48, 3, True)
    with pytest.raises(InputError, match="size 32, the model was trained on size 48"):
        Scorer(loaded, backbone)


@pytest.mark.parametrize(
    ("prompts", "responses", "message"),
    [
        (["the", "a"], ["good"], "2 prompts for 1 responses"),
        ("the", ["good", "  "], "response 1 is empty"),
    ],
)
def test_texts_must_fit(scorer, prompts, responses, message):
    with pytest.raises(InputError, match=message):
        scorer(prompts, responses)


def test_a_model_without_a_named_backbone_cannot_read(backbone, tmp_path):
    loaded = loaded_model(backbone)
    loaded.backbone.clear()
    save_model(loaded, tmp_path)
    with pytest.raises(InputError, match="cannot read text"):
        Scorer.from_pretrained(tmp_path)
