"""Rows that a chat template refuses are named, counted, and no reason for doctor to stop."""

import pytest
from helpers.chat_families import family_tokenizer
from helpers.tiny_backbones import text, tiny_backbone

from vrm_pyro.backbone.chat import ChatEncoder
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.refused import REFUSED, refused_responses, without_refused
from vrm_pyro.features.writing import write_store
from vrm_pyro.training.finetuning import read_texts
from vrm_pyro.training.preflight.all_checks import check_refused


@pytest.fixture(scope="module")
def backbone():
    found = tiny_backbone("llama-chat")
    found.chat = ChatEncoder(family_tokenizer("gemma"), 120, True)
    return found


def rows(num=6, wrong=(1, 4)):
    system = {"role": "system", "content": "Be brief."}
    return load_table(
        [
            {
                "prompt": [
                    *([system] if i in wrong else []),
                    {"role": "user", "content": text(i, 3)},
                ],
                "chosen": text(20 + i, 3),
                "rejected": text(40 + i, 2),
            }
            for i in range(num)
        ]
        + [{"prompt": [system, {"role": "user", "content": "b"}], "response": "c"}]
    )


@pytest.mark.parametrize("door", ["memory", "store", "texts"])
def test_rows_are_named_with_the_remedy(backbone, door, tmp_path):
    table = rows()
    doors = {
        "memory": lambda: encode_table(table, backbone),
        "store": lambda: write_store(table, backbone, tmp_path / "a", progress=False),
        "texts": lambda: read_texts(table, backbone),
    }
    with pytest.raises(InputError, match="3 rows are no conversations") as caught:
        doors[door]()
    for words in ("rows[1]: ", "rows[4]: ", "rows[6]: ", "not supported", "--skip_invalid"):
        assert words in str(caught.value)
    assert "rows[0]" not in str(caught.value)


def test_they_are_left_out_and_counted(backbone):
    table = rows()
    kept = without_refused(table, backbone)
    assert kept.report.invalid == {REFUSED: 3}
    expected = rows(wrong=range(7))
    assert (kept.num_prompts, kept.num_responses, kept.num_pairs) == (4, 8, 4)
    first = [kept.responses[i] for i in kept.pair_first]
    assert first == [text(20 + i, 3) for i in (0, 2, 3, 5)]
    assert kept.response_place == [f"rows[{i}]" for i in (0, 2, 3, 5) for _ in range(2)]
    found = encode_table(table, backbone, skip_invalid=True)
    assert found.rows.content_hash() == kept.content_hash()
    assert without_refused(kept, backbone) is kept
    with pytest.raises(InputError, match="no usable row is left"):
        without_refused(expected, backbone)


def test_doctor_says_it(backbone):
    table = rows()
    check = check_refused(table, refused_responses(table, backbone))
    assert check.verdict == "fail"
    assert "5 of 13 responses" in check.finding
    assert "rows[1]" in check.finding
    assert "skip_invalid" in check.advice
