"""An exported model gives the scorer's rewards, whatever trainers do to it."""

import pytest
import torch
from helpers.tiny_backbones import text
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    pipeline,
)

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface import VRMConfig, VRMForSequenceClassification

KINDS = ("bert", "llama", "llama-chat", "qwen3", "roberta")
PROMPTS = [text(i // 2, 6) for i in range(6)]
RESPONSES = [text(50 + i, 3 + 2 * i) for i in range(6)]
CLOSE = {"rtol": 0, "atol": 1e-4}


def rewards(scorer, prompts=PROMPTS, responses=RESPONSES):
    return torch.tensor([line["reward_mean"] for line in scorer(prompts, responses)])


def assert_scores(made, output, lines):
    """All that the output says is what the scorer says, and it is no constant."""
    columns = {
        "logits": [[line["reward_mean"]] for line in lines],
        "reward_sd": [line["reward_sd"] for line in lines],
    }
    for name in ("weights", "scores", "scores_sd"):
        if output[name] is not None:
            columns[name] = [list(line[name].values()) for line in lines]
    for name, values in columns.items():
        expected = torch.tensor(values)
        assert output[name].dtype == torch.float32
        torch.testing.assert_close(output[name], expected, **CLOSE)
    assert output.logits.std() > 0.05


@pytest.mark.parametrize("kind", KINDS)
def test_a_pipeline_says_what_the_scorer_says(exported, kind):
    """It tokenizes with special tokens, which rendered conversations have already."""
    made = exported(kind)
    pipe = pipeline(
        "text-classification", model=made.model, tokenizer=made.tokenizer, device="cpu"
    )
    chats = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
        for p, r in zip(PROMPTS, RESPONSES, strict=True)
    ]
    texts = [made.tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    found = [line["score"] for line in pipe(texts, function_to_apply="none")]
    expected = rewards(made.scorer)
    torch.testing.assert_close(torch.tensor(found), expected, rtol=0, atol=1e-5)
    if kind in ("bert", "roberta"):
        pair = {"text": PROMPTS[0], "text_pair": RESPONSES[0]}
        score = pipe(pair, function_to_apply="none")["score"]
        assert score == pytest.approx(expected[0].item(), abs=1e-5)
    chats[0][1]["content"] = ""
    empty = made.tokenizer.apply_chat_template(chats[0], tokenize=False)
    with pytest.raises(InputError, match="an empty response"):
        pipe(empty)


@pytest.mark.parametrize("kind", KINDS)
def test_an_empty_response_has_no_reward_and_ends_nothing(exported, kind, monkeypatch):
    """A policy may stop at once: as VRMReward, the model leaves it without a reward."""
    made = exported(kind)
    tokens = made.tokens(PROMPTS[:3], [RESPONSES[0], "", RESPONSES[2]])
    with torch.no_grad():
        found = made.model(**tokens, num_draws=4)
        whole = made.model(**made.tokens(PROMPTS[:3:2], RESPONSES[:3:2]))
    for name in ("logits", "reward_sd", "weights", "scores", "scores_sd"):
        assert found[name][1].isnan().all()
        torch.testing.assert_close(found[name][[0, 2]], whole[name], **CLOSE)
    assert found.draws.shape == (4, 3)
    assert found.draws.isnan().any(0).tolist() == [False, True, False]
    alone = made.model(**made.tokens(PROMPTS[:2], ["", ""]), num_draws=4)
    assert alone.logits.isnan().all()
    assert alone.draws.shape == (4, 2)
    monkeypatch.setattr(made.model.config, "empty_reward", -7.5)
    assert made.model(**tokens).logits[1].item() == -7.5


@pytest.mark.parametrize("kind", KINDS)
def test_it_says_what_the_scorer_says(exported, kind):
    made = exported(kind)
    output = made.model(**made.tokens(PROMPTS, RESPONSES))
    assert_scores(made, output, made.scorer(PROMPTS, RESPONSES))
    assert output.weights.shape == output.scores.shape == (6, 3)


@pytest.mark.parametrize("kind", ["bert", "llama-chat", "qwen3"])
def test_conversations_and_long_texts(exported, kind):
    """Several turns, and more tokens than the longest length: cut as the scorer cuts."""
    made = exported(kind)
    prompts = [
        [
            {"role": "user", "content": text(1, 4)},
            {"role": "assistant", "content": text(2, 4)},
            {"role": "user", "content": text(3, 90)},
        ],
        [{"role": "user", "content": text(4, 3)}],
    ]
    responses = [text(5, 30), text(6, 120)]
    chats = [
        [*p, {"role": "assistant", "content": r}] for p, r in zip(prompts, responses, strict=True)
    ]
    texts = [made.tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    options = {"return_tensors": "pt", "padding": True, "add_special_tokens": False}
    batch = made.tokenizer(texts, **options, verbose=False)
    assert batch["input_ids"].shape[1] > 120
    found = made.model(**batch).logits[:, 0]
    torch.testing.assert_close(found, rewards(made.scorer, prompts, responses), **CLOSE)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_holes_and_batch_mates_do_not_matter(exported, kind):
    made = exported(kind)
    right = made.tokens(PROMPTS, RESPONSES)
    expected = made.model(**right).logits
    left = made.tokens(PROMPTS, RESPONSES, padding_side="left")
    assert left["attention_mask"][0, 0] == 0
    torch.testing.assert_close(made.model(**left).logits, expected, **CLOSE)
    for i in range(6):
        alone = made.tokens(PROMPTS[i : i + 1], RESPONSES[i : i + 1])
        torch.testing.assert_close(made.model(**alone).logits, expected[i : i + 1], **CLOSE)
    # What hides a second opening token: a hole where the row begins.
    first = torch.full((6, 1), int(right["input_ids"][0, 0]))
    ids = torch.cat([first, right["input_ids"]], 1)
    mask = torch.cat([torch.zeros_like(first), right["attention_mask"]], 1)
    torch.testing.assert_close(made.model(ids, mask).logits, expected, **CLOSE)
    # Padding is told by the mask: its id may be any.
    junk = torch.where(right["attention_mask"] == 1, right["input_ids"], 7)
    torch.testing.assert_close(made.model(junk, right["attention_mask"]).logits, expected, **CLOSE)


@pytest.mark.parametrize("kind", ["llama-chat", "qwen3"])
def test_kernels_without_block_masks(exported, kind, monkeypatch):
    made = exported(kind)
    batch = made.tokens(PROMPTS, RESPONSES)
    expected = made.model(**batch).logits
    monkeypatch.setattr(type(made.model), "_takes_block_masks", lambda self: False)
    torch.testing.assert_close(made.model(**batch).logits, expected, **CLOSE)


def test_many_responses_stay_within_the_budget(exported, monkeypatch):
    """A row does not grow with the batch: its mask would be as large as its square."""
    made = exported("qwen3")
    prompts, responses = PROMPTS[:1] * 30, [text(i, 12) for i in range(30)]
    batch = made.tokens(prompts, responses)
    expected = rewards(made.scorer, prompts, responses)
    seen = []
    made.model.backbone.register_forward_pre_hook(
        lambda module, args, kwargs: seen.append(kwargs["input_ids"].shape), with_kwargs=True
    )
    monkeypatch.setattr("vrm_pyro.integrations.huggingface.modeling.TOKEN_BUDGETS", {"cpu": 150})
    found = made.model(**batch).logits[:, 0]
    made.model.backbone._forward_pre_hooks.clear()
    torch.testing.assert_close(found, expected, **CLOSE)
    assert len(seen) > 3
    assert max(rows * tokens for rows, tokens in seen) <= 150


class TestTrainers:
    def test_training_mode_and_random_state(self, exported):
        """GRPO never calls eval()."""
        made = exported("bert")
        batch = made.tokens(PROMPTS, RESPONSES)
        expected = made.model(**batch).logits
        dropouts = [m for m in made.model.backbone.modules() if isinstance(m, torch.nn.Dropout)]
        assert any(layer.p > 0 for layer in dropouts)
        made.model.train()
        before = torch.get_rng_state()
        assert torch.equal(made.model(**batch).logits, expected)
        assert torch.equal(torch.get_rng_state(), before)
        assert made.model.training
        made.model.eval()

    def test_loading_leaves_the_random_state(self, exported):
        made = exported("qwen3")
        before = torch.get_rng_state()
        VRMForSequenceClassification.from_pretrained(made.folder)
        assert torch.equal(torch.get_rng_state(), before)

    @pytest.mark.parametrize("kind", ["bert", "qwen3"])
    def test_heads_stay_in_float32(self, exported, kind):
        made = exported(kind)
        batch = made.tokens(PROMPTS, RESPONSES)
        expected = made.model(**batch).logits
        model = AutoModelForSequenceClassification.from_pretrained(
            made.folder, num_labels=1, dtype=torch.bfloat16
        )
        again = VRMForSequenceClassification.from_pretrained(made.folder).to(torch.bfloat16)
        exact = made.model.head.state_dict()
        for low in (model, again):
            assert low.backbone.dtype == torch.bfloat16
            assert all(torch.equal(v, exact[k]) for k, v in low.head.state_dict().items())
            output = low(**batch)
            assert output.logits.dtype == torch.float32
            error = (output.logits - expected).abs().max()
            assert 0 < error < 0.15 * (expected.max() - expected.min())

    def test_mixed_precision_stops_at_the_heads(self, exported):
        made = exported("qwen3")
        batch = made.tokens(PROMPTS, RESPONSES)
        seen = set()
        hooks = [
            m.register_forward_hook(lambda module, args, out: seen.add(out.dtype))
            for m in made.model.head.modules()
            if isinstance(m, torch.nn.Linear)
        ]
        with torch.autocast("cpu", dtype=torch.bfloat16), torch.inference_mode():
            output = made.model(**batch)
        for hook in hooks:
            hook.remove()
        assert seen == {torch.float32}
        assert output.logits.dtype == torch.float32
        error = (output.logits - made.model(**batch).logits).abs().max()
        assert error > 0  # the backbone followed

    def test_what_trl_touches(self, exported):
        made = exported("qwen3")
        config = AutoConfig.from_pretrained(made.folder, num_labels=1)
        assert isinstance(config, VRMConfig)
        assert config.num_labels == 1
        assert made.model.config._name_or_path == str(made.folder)
        model = VRMForSequenceClassification.from_pretrained(made.folder)
        model.config.get_text_config().pad_token_id = 5
        assert model.config.text_config.pad_token_id == 5
        batch = made.tokens(PROMPTS, RESPONSES)
        torch.testing.assert_close(model(**batch).logits, made.model(**batch).logits, **CLOSE)
        with pytest.raises(InputError, match="num_labels is 2"):
            AutoModelForSequenceClassification.from_pretrained(made.folder, num_labels=2)

    def test_a_tuple_where_asked_for(self, exported):
        made = exported("qwen3")
        batch = made.tokens(PROMPTS, RESPONSES)
        found = made.model(**batch, return_dict=False)
        assert torch.equal(found[0], made.model(**batch).logits)


class TestDraws:
    def test_they_have_the_moments_and_the_seed(self, exported):
        made = exported("bert")
        order = [0, 2, 1, 3, 5, 4]  # equal prompts apart from each other
        batch = made.tokens([PROMPTS[i] for i in order], [RESPONSES[i] for i in order])
        output = made.model(**batch, num_draws=600, seed=4)
        assert output.draws.shape == (600, 6)
        error = output.reward_sd / 600**0.5
        assert ((output.draws.mean(0) - output.logits[:, 0]).abs() < 4.5 * error).all()
        again = made.model(**batch, num_draws=600, seed=4)
        assert torch.equal(again.draws, output.draws)
        assert not torch.equal(made.model(**batch, num_draws=600, seed=5).draws, output.draws)
        assert made.model(**batch).draws is None


class TestWhatIsNotRead:
    def test_an_ungraded_text(self, exported):
        made = exported("qwen3")
        plain = made.tokenizer([PROMPTS[0] + RESPONSES[0]], return_tensors="pt")
        with pytest.raises(InputError, match="cannot be divided into prompt and response"):
            made.model(**plain)

    def test_or_as_a_whole_where_the_config_says_so(self, exported):
        made = exported("qwen3")
        model = VRMForSequenceClassification.from_pretrained(
            made.folder, without_boundary="whole_text"
        )
        plain = made.tokenizer([PROMPTS[0] + RESPONSES[0]], return_tensors="pt")
        assert torch.isfinite(model(**plain).logits).all()
        batch = made.tokens(PROMPTS, RESPONSES)
        torch.testing.assert_close(model(**batch).logits, made.model(**batch).logits, **CLOSE)

    def test_states_that_are_not_finite(self, exported):
        made = exported("llama-chat")
        model = VRMForSequenceClassification.from_pretrained(made.folder)
        with torch.no_grad():
            model.backbone.norm.weight.fill_(torch.inf)
        with pytest.raises(InputError, match="not finite"):
            model(**made.tokens(PROMPTS, RESPONSES))
