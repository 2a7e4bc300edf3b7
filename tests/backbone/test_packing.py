"""Responses that share a prompt's computation have the states of the whole sequences."""

import numpy as np
import pytest
import torch
from helpers.tiny_backbones import text, tiny_backbone, tiny_model, tiny_tokenizer
from transformers import MistralConfig, MistralModel

from vrm_pyro.backbone import make_rows, pad_rows, wrap_model

DECODERS = ("llama", "llama-chat", "qwen3")


def encoded(backbone, lengths=((9, (5, 12, 1)), (3, (4,)), (20, (7, 7)))):
    """Prompts of some words, each with responses of some words."""
    prompts = [
        [{"role": "system", "content": text(7, 2)}, {"role": "user", "content": text(i, words)}]
        for i, (words, _) in enumerate(lengths)
    ]
    owner = [i for i, (_, sizes) in enumerate(lengths) for _ in sizes]
    sizes = [size for _, own in lengths for size in own]
    responses = [text(50 + j, size) for j, size in enumerate(sizes)]
    chat = backbone.chat
    return chat.encode(prompts), chat.encode(prompts, responses, owner), owner


@pytest.mark.parametrize("pooling", ["last", "mean", "response_mean", "last+mean"])
@pytest.mark.parametrize("kind", DECODERS)
def test_states_equal_those_of_whole_sequences(kind, pooling):
    backbone = tiny_backbone(kind, pooling=pooling, max_length=200)
    prompts, responses, owner = encoded(backbone)
    assert backbone.shares_prompts
    found = backbone.pair_states(prompts, responses, owner)
    for part, sequences in zip(found, (prompts, responses), strict=True):
        np.testing.assert_allclose(part, backbone.states(sequences), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ["sdpa", "eager"])
def test_either_kind_of_attention(attention):
    model = tiny_model("qwen3")
    model.set_attn_implementation(attention)
    tokenizer = tiny_tokenizer("qwen3")
    backbone = wrap_model(
        model, tokenizer, name="q", source="test", max_length=200, dtype="float32", device="cpu"
    )
    prompts, responses, owner = encoded(backbone)
    assert backbone.shares_prompts
    _, found = backbone.pair_states(prompts, responses, owner)
    np.testing.assert_allclose(found, backbone.states(responses), rtol=1e-4, atol=1e-5)


def test_a_prompt_and_its_responses_are_one_row_and_tails_do_not_see_each_other():
    backbone = tiny_backbone("qwen3", max_length=200)
    prompts, responses, owner = encoded(backbone)
    rows = make_rows([*prompts, *responses], [*range(3), *owner], "last", True, 10_000)
    assert len(rows) == 3
    assert sum(map(len, rows)) < sum(map(len, [*prompts, *responses]))
    batch = pad_rows(rows, 0)
    assert sorted(batch.states.tolist()) == list(range(len(prompts) + len(responses)))
    mask, segments = batch.block_mask()[:, 0], batch.segments
    row, query, key = mask.nonzero(as_tuple=True)
    assert (key <= query).all()
    looks, seen = segments[row, query], segments[row, key]
    assert ((looks == seen) | ((seen == 0) & (looks > 0))).all()
    # A token looks at as many tokens as stand before it in its own sequence, and at itself.
    real = segments >= 0
    assert torch.equal(mask.sum(-1)[real], batch.positions[real] + 1)


def test_long_rows_are_split_and_give_the_same_states():
    backbone = tiny_backbone("llama-chat", pooling="last", max_length=200)
    prompts, responses, owner = encoded(backbone, ((30, (8,) * 9),))
    both = [*prompts, *responses]
    rows = make_rows(both, [0] * len(both), "last", True, len(prompts[0]) + 60)
    assert 1 < len(rows) < len(both)
    states = torch.empty(len(both), backbone.hidden_size)
    with torch.inference_mode():
        for row in rows:
            batch = pad_rows([row], backbone.pad_id)
            states[batch.states] = backbone.row_states(batch)
    np.testing.assert_allclose(states, backbone.states(both), rtol=1e-4, atol=1e-5)


def test_prompts_that_are_cut_differently_share_nothing():
    backbone = tiny_backbone("llama-chat", max_length=60)
    prompts, responses, owner = encoded(backbone, ((60, (3, 30)),))
    assert responses[0].boundary != responses[1].boundary
    found = backbone.pair_states(prompts, responses, owner)
    np.testing.assert_allclose(found[0], backbone.states(prompts), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[1], backbone.states(responses), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("window", "shares"), [(16, False), (500, True)])
def test_a_window_shorter_than_the_longest_sequence_is_not_shared(window, shares):
    torch.manual_seed(0)
    config = MistralConfig(
        vocab_size=400, hidden_size=32, intermediate_size=64, num_hidden_layers=2,
        num_attention_heads=2, num_key_value_heads=1, initializer_range=0.3,
        max_position_embeddings=256, sliding_window=window,
    )  # fmt: skip
    backbone = wrap_model(
        MistralModel(config).eval(), tiny_tokenizer("llama-chat"), name="m", source="test",
        max_length=200, dtype="float32", device="cpu",
    )  # fmt: skip
    assert backbone.shares_prompts is shares
    prompts, responses, owner = encoded(backbone)
    _, found = backbone.pair_states(prompts, responses, owner)
    np.testing.assert_allclose(found, backbone.states(responses), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["bert", "roberta"])
def test_encoders_share_nothing(kind):
    backbone = tiny_backbone(kind)
    assert not backbone.shares_prompts
    chat = backbone.chat
    prompts = [text(0, 5)]
    responses = chat.encode(prompts, [text(1, 4), text(2, 6)], [0, 0])
    found = backbone.pair_states(chat.encode(prompts), responses, [0, 0])
    assert np.array_equal(found[1], backbone.states(responses))


def test_gradients_equal_those_of_whole_sequences():
    backbone = tiny_backbone("qwen3", max_length=200)
    prompts, responses, owner = encoded(backbone)
    both, prefix = [*prompts, *responses], [*range(3), *owner]
    target = torch.randn(
        len(both), backbone.hidden_size, generator=torch.Generator().manual_seed(0)
    )
    gradients = []
    for share in (True, False):
        backbone.model.requires_grad_(True).zero_grad()
        batch = pad_rows(make_rows(both, prefix, "last", share, 10_000), 0)
        (backbone.row_states(batch) * target[batch.states]).sum().backward()
        gradients.append([p.grad.clone() for p in backbone.model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-4)
