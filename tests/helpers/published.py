"""A row of every published schema, in texts of our own: "The Rhine." beats "A table."."""

RIVER, RHINE, TABLE = "Name a river.", "The Rhine.", "A table."
GOOD, BAD = (
    [{"role": "user", "content": RIVER}, {"role": "assistant", "content": text}]
    for text in (RHINE, TABLE)
)


def _told(answer, name="Human"):
    return f"\n\n{name}: {RIVER}\n\nAssistant: {answer}"


def _parts(text):
    return [
        {"role": turn["role"], "content": [{"type": "text", "text": turn["content"]}]}
        for turn in text
    ]


def _said(who, text):
    return {"from": who, "value": text}


def _completion(text, score, rating):
    return {
        "response": text,
        "overall_score": score,
        "annotations": {"helpfulness": {"Rating": rating}, "honesty": {"Rating": "N/A"}},
    }


HELPSTEER = {
    "helpfulness": 4,
    "correctness": 3,
    "coherence": 4,
    "complexity": 1,
    "verbosity": 0,
}
_RATED = {"chosen": GOOD, "rejected": BAD}
_ASK = [{"role": "user", "content": RIVER}]

ROWS = {
    "hh_rlhf": {"chosen": _told(RHINE), "rejected": _told(TABLE)},
    "hh_rlhf_prompt": {
        "prompt": f"\n\nHuman: {RIVER}\n\nAssistant:",
        "response": " The Rhine.",
        "chosen": " The Rhine.",
        "rejected": " A table.",
    },
    "ultrafeedback": {
        "source": "own",
        "instruction": RIVER,
        "models": ["a", "b"],
        "completions": [_completion(TABLE, 2.0, "1"), _completion(RHINE, 8.0, "5")],
        "correct_answers": ["None"],
    },
    "ultrafeedback_binarized": {
        "prompt": RIVER,
        "prompt_id": "p",
        **_RATED,
        "messages": GOOD,
        "score_chosen": 8.0,
        "score_rejected": 3.5,
    },
    "argilla_ratings": {**_RATED, "dataset": "own", "chosen_rating": 5.0, "rejected_rating": 1},
    "argilla_dashes": {
        "source": "own",
        "prompt": RIVER,
        "chosen-rating": 4.75,
        "rejected-rating": 2,
        "chosen-model": "a",
        **_RATED,
    },
    "argilla_responses": {
        "instruction": RIVER,
        "chosen_response": RHINE,
        "rejected_response": TABLE,
        "chosen_avg_rating": 4.5,
        "rejected_avg_rating": 2.0,
    },
    "capybara": {
        "conversation": [{"input": "Hi", "output": "Hello"}],
        "original_response": RHINE,
        "prompt": RIVER,
        **_RATED,
        "rating_chosen": 5,
        "rating_rejected": 2,
        "chosen_model": "a",
    },
    "rlhflow": {**_RATED, "chosen_score": 9.0, "rejected_score": 4},
    "helpsteer2": {"prompt": RIVER, "response": RHINE, **HELPSTEER},
    "helpsteer2_preference": {
        "split": "train",
        "prompt": RIVER,
        "response_1": TABLE,
        "response_2": RHINE,
        "preference_strength": 2,
        "preference_statement": "2 is better",
        "all_preferences_unprocessed": [],
    },
    "helpsteer3": {
        "domain": "general",
        "language": "english",
        "context": _ASK,
        "response1": RHINE,
        "response2": TABLE,
        "overall_preference": -1,
        "individual_preference": [],
    },
    "skywork": {**_RATED, "source": "own"},
    "tulu": {"id": "t", "prompt": RIVER, **_RATED, "source": "own"},
    "rewardbench": {
        "id": 3,
        "prompt": RIVER,
        "chosen": RHINE,
        "rejected": TABLE,
        "chosen_model": "a",
        "rejected_model": "b",
        "subset": "rivers",
    },
    "rewardbench2": {
        "id": "1",
        "prompt": RIVER,
        "chosen": [RHINE],
        "rejected": [TABLE, "A chair.", "No."],
        "num_correct": 1,
        "subset": "Factuality",
        "additional_metadata": None,
    },
    "rm_bench": {
        "id": 1,
        "prompt": RIVER,
        "chosen": [RHINE, "It is the Rhine.", "**The Rhine**"],
        "rejected": [TABLE, "It is a table.", "**A table**"],
        "domain": "chat",
    },
    "nectar": {
        "prompt": _told(""),
        "answers": [
            {"answer": TABLE, "model": "m2", "rank": 3.0},
            {"answer": RHINE, "model": "m1", "rank": 1.0},
            {"answer": "A brook.", "model": "m1", "rank": 2.0},
        ],
        "turns": 1,
        "source": ["own"],
    },
    "shp": {
        "post_id": "x",
        "domain": "askrivers_train",
        "history": RIVER,
        "human_ref_A": TABLE,
        "human_ref_B": RHINE,
        "score_A": 10,
        "score_B": 30,
        "labels": 0,
    },
    "pku_saferlhf": {
        "prompt": RIVER,
        "response_0": TABLE,
        "response_1": RHINE,
        "is_response_0_safe": False,
        "is_response_1_safe": True,
        "better_response_id": 1,
        "safer_response_id": 1,
    },
    "pku_saferlhf_safer": {
        "prompt": RIVER,
        "response_0": RHINE,
        "response_1": TABLE,
        "better_response_id": 1,
        "safer_response_id": 0,
    },
    "arena": {
        "id": "i",
        "model_a": "x",
        "model_b": "y",
        "winner": "model_b",
        "evaluation_order": 1,
        "conversation_a": _parts(BAD),
        "conversation_b": _parts(GOOD),
        "timestamp": "now",
    },
    "arena_55k": {
        "id": 1,
        "model_a": "x",
        "model_b": "y",
        "prompt": '["Name a river."]',
        "response_a": '["The Rhine."]',
        "response_b": '["A table."]',
        "winner_model_a": 1,
        "winner_model_b": 0,
        "winner_tie": 0,
    },
    "mt_bench": {
        "question_id": 81,
        "model_a": "x",
        "model_b": "y",
        "winner": "model_a",
        "judge": "expert_1",
        "conversation_a": [*GOOD, *BAD],
        "conversation_b": [*BAD, *BAD],
        "turn": 1,
    },
    "orca_dpo": {"system": "", "question": RIVER, "chosen": RHINE, "rejected": TABLE},
    "orca_distilabel": {
        "system": None,
        "input": RIVER,
        "chosen": RHINE,
        "rejected": TABLE,
        "generations": [TABLE, RHINE],
        "order": ["rejected", "chosen"],
        "rating": [3.0, 9.0],
        "status": "unchanged",
    },
    "distilabel": {"instruction": RIVER, "generations": [TABLE, RHINE], "ratings": [1, 5]},
    "ultrainteract": {
        "task": "Math",
        "id": "a",
        "trajectory": [_said("user", RIVER)],
        "chosen": RHINE,
        "rejected": TABLE,
    },
    "stack_exchange": {"qid": 1, "question": RIVER, "response_j": RHINE, "response_k": TABLE},
    "webgpt": {
        "question": {"dataset": "own", "id": "q", "full_text": RIVER},
        "answer_0": TABLE,
        "score_0": -0.3333,
        "answer_1": RHINE,
        "score_1": 0.3333,
        "quotes_0": {"title": [], "extract": []},
    },
    "summarize_feedback": {
        "info": {"post": RIVER, "title": "Rivers", "subreddit": "water", "article": None},
        "summaries": [{"text": " A table.", "policy": "p"}, {"text": " The Rhine."}],
        "choice": 1,
        "worker": "w",
        "extra": {"confidence": 8},
    },
    "summarize_axis": {
        "info": {"article": RIVER},
        "summary": {"text": RHINE, "axes": {"overall": 6, "accuracy": None}},
        "worker": "w",
    },
    "oasst": {
        "message_tree_id": "a",
        "tree_state": "ready_for_export",
        "prompt": {
            "message_id": "a",
            "text": RIVER,
            "role": "prompter",
            "lang": "en",
            "replies": [
                {"text": TABLE, "role": "assistant", "rank": 1, "replies": []},
                {"text": RHINE, "role": "assistant", "rank": 0, "replies": []},
                {"text": "Gone.", "role": "assistant", "rank": 2, "deleted": True},
                {"text": "Unranked.", "role": "assistant", "rank": None, "replies": []},
            ],
        },
    },
    "alpaca_farm": {
        "instruction": RIVER,
        "input": "",
        "output_1": TABLE,
        "output_2": RHINE,
        "preference": 2,
    },
    "prometheus": {
        "orig_instruction": RIVER,
        "orig_response_A": TABLE,
        "orig_response_B": RHINE,
        "orig_preference": "B",
        "orig_score_A": "2",
        "orig_score_B": "4",
        "orig_criteria": "Is it a river?",
        "instruction": "Judge.",
        "output": "B",
    },
    "kto": {"prompt": RIVER, "completion": RHINE, "label": True},
    "llamafactory_alpaca": {
        "system": "",
        "instruction": "Answer.",
        "input": RIVER,
        "chosen": RHINE,
        "rejected": TABLE,
        "history": [["Hi", "Hello"]],
    },
    "llamafactory_sharegpt": {
        "conversations": [_said("human", RIVER)],
        "chosen": _said("gpt", RHINE),
        "rejected": _said("gpt", TABLE),
    },
    "llamafactory_kto": {
        "conversations": [_said("human", RIVER), _said("gpt", RHINE)],
        "kto_tag": True,
    },
    "axolotl": {"messages": _ASK, "chosen": GOOD[1], "rejected": BAD[1]},
    "ms_swift": {"messages": GOOD, "rejected_response": TABLE, "margin": 0.5},
    "ms_swift_messages": {"messages": GOOD, "rejected_messages": BAD},
    "ms_swift_query": {"query": RIVER, "response": RHINE, "rejected_response": TABLE},
    "ms_swift_kto": {"messages": GOOD, "label": True},
}
"""One row by name of its schema. Single responses are "The Rhine."."""
