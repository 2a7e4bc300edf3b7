"""What is special about single schemas: turns, several responses, weights."""

import pytest
from helpers.published import BAD, GOOD, RHINE, ROWS, TABLE

from vrm_pyro.data.rows import load_table
from vrm_pyro.data.schemas.reading import Reading
from vrm_pyro.errors import InputError


def told(*turns):
    names = ("Human", "Assistant")
    return "".join(f"\n\n{names[n % 2]}: {text}" for n, text in enumerate(turns))


def test_answers_of_transcripts_stay_whole():
    rows = [{"chosen": told("How long?", "I would say 8."), "rejected": told("How long?", "I ?")}]
    table = load_table(rows)
    assert table.prompts == [[{"role": "user", "content": "How long?"}]]
    assert table.responses == ["I would say 8.", "I ?"]
    assert table.report.cut_inside_word == 0
    assert table.report.summary().startswith("read as hh_rlhf: 1 rows read: 1 comparisons")


def test_transcripts_of_several_turns_share_a_prompt():
    shared = ("Name a river.", "The Rhine.", "Another?")
    table = load_table([{"chosen": told(*shared, "The Elbe."), "rejected": told(*shared, "No.")}])
    assert [turn["role"] for turn in table.prompts[0]] == ["user", "assistant", "user"]
    assert table.responses == ["The Elbe.", "No."]


def test_transcripts_that_part_early_are_invalid():
    row = {"chosen": told("Q", "a", "Q2", "b"), "rejected": told("Q", "c", "Q3", "d")}
    with pytest.raises(InputError, match="part before the last turn"):
        load_table([row])


def test_plain_texts_that_begin_alike_are_still_split_as_in_trl():
    table = load_table([{"chosen": "The sky is blue.", "rejected": "The sky is green."}])
    assert table.report.schemas == {}
    assert table.prompts[0][0]["content"] == "The sky is"


def test_turn_markers_of_helpsteer2_become_messages():
    prompt = "Hi\n<extra_id_1>Assistant\nHello\n<extra_id_1>User\nBye"
    table = load_table([{**ROWS["helpsteer2"], "prompt": prompt}])
    assert table.prompts[0] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Bye"},
    ]


def test_several_annotators_of_helpsteer2_are_averaged():
    table = load_table([{**ROWS["helpsteer2"], "helpfulness": [4, 3, 2], "verbosity": []}])
    assert table.ratings[0, table.objectives.index("helpfulness")] == 3
    assert "verbosity" not in table.objectives


def test_completions_of_ultrafeedback_make_pairs_by_score():
    def completion(text, score):
        return {"response": text, "overall_score": score, "annotations": None}

    row = {
        **ROWS["ultrafeedback"],
        "completions": [
            completion("a", 7),
            completion("b", 9),
            completion("c", 7),
            completion("d", None),
        ],
    }
    table = load_table([row])
    assert [table.responses[n] for n in table.pair_first] == ["b", "b"]
    assert [table.responses[n] for n in table.pair_second] == ["a", "c"]
    assert table.pair_weight.tolist() == [1.0, 1.0]  # three responses, two comparisons
    assert "d" in table.responses


def test_ranking_of_nectar_is_a_ranking_and_with_ties_pairs():
    assert load_table([ROWS["nectar"]]).report.rankings == 1
    answers = [{"answer": text, "rank": rank} for text, rank in (("a", 1), ("b", 2), ("c", 2))]
    table = load_table([{**ROWS["nectar"], "answers": answers}])
    assert (table.report.rankings, table.num_pairs) == (0, 2)


def test_rows_of_a_tree_are_its_forks():
    reply = {"role": "assistant", "text": RHINE, "rank": 0}
    deeper = [{"role": "prompter", "text": "Another?", "replies": [
        {"role": "assistant", "text": "The Elbe.", "rank": 0},
        {"role": "assistant", "text": "No.", "rank": 1},
    ]}]  # fmt: skip
    root = {
        **ROWS["oasst"]["prompt"],
        "replies": [
            {**reply, "replies": deeper},
            {"role": "assistant", "text": TABLE, "rank": 1},
        ],
    }
    table = load_table([{**ROWS["oasst"], "prompt": root}])
    assert [len(prompt) for prompt in table.prompts] == [1, 3]
    assert table.responses == [RHINE, TABLE, "The Elbe.", "No."]
    assert set(table.pair_subset) == {"en"}


def test_safer_response_of_pku_is_asked_for():
    row = {**ROWS["pku_saferlhf"], "better_response_id": 0}
    assert load_table([row]).responses[0] == TABLE
    assert load_table([row], schema="pku_saferlhf_safer").responses[0] == RHINE


def test_history_and_input_of_alpaca_rows():
    (prompt,) = load_table([ROWS["llamafactory_alpaca"]]).prompts
    assert [turn["content"] for turn in prompt] == ["Hi", "Hello", "Answer.\nName a river."]
    row = {"instruction": "Say", "input": "", "output": RHINE, "kto_tag": "false", "system": "S"}
    table = load_table([row])
    assert [turn["role"] for turn in table.prompts[0]] == ["system", "user"]
    assert table.ratings.tolist() == [[0.0]]


def test_prompt_of_summaries_is_the_post():
    (prompt,) = load_table([ROWS["summarize_feedback"]]).prompts
    assert prompt[0]["content"] == (
        "SUBREDDIT: water\n\nTITLE: Rivers\n\nPOST: Name a river.\n\nTL;DR:"
    )


def test_labels_weights_and_margins_pass_through():
    table = load_table([{**ROWS["rewardbench2"], "weight": 0.5}])
    assert table.pair_weight.tolist() == [0.5] * 3
    assert table.pair_id == ["1"] * 3
    assert set(table.pair_subset) == {"Factuality"}
    assert load_table([ROWS["ms_swift"]]).pair_margin.tolist() == [0.5]
    assert load_table([ROWS["shp"]]).pair_subset == ["askrivers"]
    more = {**ROWS["orca_dpo"], "chosen_ratings": {"wet": 1}, "preference": 0.75}
    table = load_table([more])
    assert (table.objectives, table.preference.tolist()) == (("wet",), [0.75])


def test_ratings_are_found_by_text_or_by_rank():
    row = {**ROWS["orca_distilabel"], "generations": None}
    assert load_table([row]).ratings.ravel().tolist() == [9, 3]
    row = {**ROWS["orca_distilabel"], "rating": None}
    assert not load_table([row]).has_ratings


def test_csv_of_a_schema(tmp_path):
    path = tmp_path / "rows.csv"
    path.write_text(
        "prompt,response,helpfulness,correctness,coherence,complexity,verbosity\n"
        "Name a river.,The Rhine.,4,3,4,1,\n",
        encoding="utf-8",
    )
    table = load_table(path)
    assert table.objectives == ("coherence", "complexity", "correctness", "helpfulness")
    arena = tmp_path / "arena.csv"
    arena.write_text(
        "id,model_a,model_b,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie"
        '\n1,x,y,"[""Name a river.""]","[""A table.""]","[""The Rhine.""]",0,1,0\n',
        encoding="utf-8",
    )
    assert load_table(arena).responses == [RHINE, TABLE]


def test_named_schema_is_forced_and_rows_turns_it_off():
    with pytest.raises(InputError, match="did you mean 'helpsteer2'"):
        load_table([ROWS["helpsteer2"]], schema="helpster2")
    with pytest.raises(InputError, match='read as shp: "history" is missing'):
        load_table([ROWS["helpsteer2"]], schema="shp")
    table = load_table([ROWS["helpsteer2"]], schema="rows")
    assert (table.report.schemas, table.has_ratings) == ({}, False)
    assert "number columns ignored: helpfulness (1), correctness (1)" in table.report.summary()
    with pytest.raises(InputError, match="both given"):
        load_table([ROWS["helpsteer2"]], schema="rows", columns="prompt=a")


def test_a_schema_keeps_conversations_as_they_are():
    table = load_table([{"chosen": GOOD, "rejected": BAD, "source": "s"}])
    assert table.report.schemas == {"skywork": 1}
    assert table.pair_source == ["s"]


def test_tools_of_a_conversation_are_kept_and_empty_ones_are_not():
    row = {**ROWS["llamafactory_sharegpt"], "tools": '[{"name": "f"}]'}
    assert Reading().rows(row)[1][0]["tools"] == '[{"name": "f"}]'
    for empty in ("", [], None):
        assert "tools" not in Reading().rows({**row, "tools": empty})[1][0]
