"""Input that is not usable, and what the message about it must say.

``ROWS`` and ``FILES`` are lists of ``(name, build, fragments)``: ``build(folder)`` writes the
input and returns what the user would name; every fragment stands in the message that follows.
``ROWS`` are files with some bad rows, which ``skip_invalid`` can drop, because a good one is left.
"""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

GOOD = {"prompt": "Name a colour.", "chosen": "Blue.", "rejected": "Seven."}
Build = Callable[[Path], str]
Case = tuple[str, Build, tuple[str, ...]]


def lines(*rows: object, name: str = "rows.jsonl") -> Build:
    """Build JSON lines: a string is written as it is, anything else as JSON."""

    def build(folder: Path) -> str:
        texts = [row if isinstance(row, str) else json.dumps(row) for row in rows]
        path = folder / name
        path.write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return str(path)

    return build


def content(name: str, data: str | bytes) -> Build:
    """Build a file with this content."""

    def build(folder: Path) -> str:
        path = folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return str(path)

    return build


def name_only(name: str) -> Build:
    """Build nothing, and name something in the folder."""
    return lambda folder: str(folder / name)


def an_empty_folder(folder: Path) -> str:
    (folder / "saved").mkdir()
    return str(folder / "saved")


def cut_gzip(folder: Path) -> str:
    path = folder / "rows.jsonl.gz"
    # random-looking text, so that the cut falls inside the rows and not behind them
    rows = [{**GOOD, "id": f"{i * 7919 % 104729:x}" * 8} for i in range(2000)]
    whole = gzip.compress("\n".join(map(json.dumps, rows)).encode())
    path.write_bytes(whole[: len(whole) // 2])
    return str(path)


def without(column: str) -> dict[str, str]:
    return {key: value for key, value in GOOD.items() if key != column}


TWO = {"role": "assistant", "content": "Blue."}, {"role": "user", "content": "Why?"}
ASK = [{"role": "user", "content": "Name a colour."}]

RANKING = {
    "prompt": "Name a colour.",
    "responses": ["Blue.", "Sky.", "Seven."],
    "ranks": [1, 2, 3],
}

ROWS: list[Case] = [
    (
        "broken_json",
        lines(GOOD, '{"prompt": "a", "chosen": ', GOOD),
        ("rows.jsonl:2:", "not valid JSON", "one whole JSON object on each line"),
    ),
    (
        "not_an_object",
        lines(GOOD, "", [1, 2], "7"),
        ("rows.jsonl:3:", "a list", "rows.jsonl:4:", "a number", "must be an object"),
    ),
    ("missing_rejected", lines(GOOD, without("rejected")), ("rows.jsonl:2:", '"rejected" is mis')),
    ("null_chosen", lines({**GOOD, "chosen": None}, GOOD), ("rows.jsonl:1:", '"chosen" is mis')),
    ("null_prompt", lines({**GOOD, "prompt": None}, GOOD), ("rows.jsonl:1:", '"prompt" is mis')),
    (
        "forgotten_prompt",
        lines(GOOD, {"chosen": "A good one.", "rejected": "A bad one."}),
        ("rows.jsonl:2:", '"prompt" is missing, while other rows'),
    ),
    (
        "nothing_shared",
        lines(GOOD, {"chosen": "Yes.", "rejected": "No."}),
        ("rows.jsonl:2:", 'Add a "prompt" column'),
    ),
    (
        "empty_text",
        lines({**GOOD, "rejected": " \n"}, GOOD),
        ("rows.jsonl:1:", '"rejected" is em'),
    ),
    (
        "empty_prompt",
        lines(GOOD, {**GOOD, "prompt": []}),
        ("rows.jsonl:2:", '"prompt" is an empty'),
    ),
    ("number_as_text", lines({**GOOD, "chosen": 4}, GOOD), ("rows.jsonl:1:", "a number", "text")),
    (
        "half_a_surrogate",
        lines(GOOD, r'{"prompt": "a", "chosen": "\ud83d", "rejected": "b"}'),
        ("rows.jsonl:2:", '"chosen"', "surrogate"),
    ),
    (
        "misspelled_column",
        lines({"prompt": "a", "choosen": "b", "rejected": "c"}, GOOD),
        ("rows.jsonl:1:", '"choosen"', 'is it "chosen"?'),
    ),
    (
        "misspelled_ratings",
        lines(GOOD, {**GOOD, "chosen_rating": {"a": 1}}),
        ("rows.jsonl:2:", '"chosen_rating"', '"chosen_ratings"'),
    ),
    (
        "sides_called_a_and_b",
        lines(GOOD, {"prompt": "x", "response_a": "y", "response_b": "z"}),
        ("rows.jsonl:2:", "response_a", "response_b", '"chosen"', '"rejected"'),
    ),
    (
        "other_columns",
        lines({"instruction": "x", "output": "y"}, GOOD),
        ("rows.jsonl:1:", '"instruction"', "A comparison has", "a single response has"),
    ),
    (
        "pair_and_response",
        lines({**GOOD, "response": "Red."}, GOOD),
        ("rows.jsonl:1:", '"response" beside "chosen"'),
    ),
    (
        "unknown_role",
        lines({**GOOD, "prompt": [{"role": "human", "content": "Hi"}]}, GOOD),
        ("rows.jsonl:1:", "prompt[0]", "'human'", "system, user, assistant, tool"),
    ),
    (
        "not_a_message",
        lines({**GOOD, "prompt": ["Hi"]}, {**GOOD, "prompt": [{"role": "user"}]}, GOOD),
        ("rows.jsonl:1:", "rows.jsonl:2:", "prompt[0]", '{"role": "user", "content"'),
    ),
    (
        "content_in_parts",
        lines({**GOOD, "prompt": [{"role": "user", "content": [{"type": "text"}]}]}, GOOD),
        ("rows.jsonl:1:", "prompt[0].content", "must be text"),
    ),
    (
        "prompt_ends_with_assistant",
        lines({**GOOD, "prompt": [*ASK, TWO[0]]}, GOOD),
        ("rows.jsonl:1:", "ends with an assistant message"),
    ),
    (
        "response_of_two_messages",
        lines({"prompt": ASK, "chosen": [*TWO], "rejected": [TWO[0]]}, GOOD),
        ("rows.jsonl:1:", "2 messages (assistant, user)", "one assistant message"),
    ),
    (
        "ratings_not_an_object",
        lines({**GOOD, "chosen_ratings": [1, 2]}, {**GOOD, "rejected_ratings": "good"}, GOOD),
        ("rows.jsonl:1:", "chosen_ratings", "a list", "rows.jsonl:2:", "not JSON"),
    ),
    (
        "rating_not_a_number",
        lines({"prompt": "a", "response": "b", "ratings": {"tone": "4"}}, GOOD),
        ("rows.jsonl:1:", "ratings.tone", "finite number, or null"),
    ),
    (
        "rating_not_finite",
        lines(
            {**GOOD, "chosen_ratings": {"tone": float("nan")}},
            {**GOOD, "rejected_ratings": {"tone": float("-inf")}},
            {**GOOD, "rejected_ratings": {"tone": 10**400}},
            GOOD,
        ),
        ("rows.jsonl:1:", "is nan", "rows.jsonl:2:", "is -inf", "rows.jsonl:3:"),
    ),
    (
        "preference_out_of_range",
        lines({**GOOD, "preference": 1.5}, {**GOOD, "preference": True}, GOOD),
        ("rows.jsonl:1:", '"preference" is 1.5', "from 0 to 1", "rows.jsonl:2:", "true or false"),
    ),
    (
        "negative_weight",
        lines({**GOOD, "weight": -1}, {**GOOD, "weight": "2"}, GOOD),
        ("rows.jsonl:1:", '"weight" is -1', "rows.jsonl:2:", "finite number >= 0"),
    ),
    (
        "negative_margin",
        lines({**GOOD, "margin": -0.5}, {**GOOD, "margin": "1"}, GOOD),
        ("rows.jsonl:1:", '"margin" is -0.5', ">= 0", "rows.jsonl:2:", '"margin" is text'),
    ),
    (
        "tie_at_margin_zero",
        lines(GOOD, {**GOOD, "margin": 0, "preference": 0.5}),
        ("rows.jsonl:2:", '"margin" is 0, at which nothing is a tie', '"preference" is 0.5'),
    ),
    (
        "tie_in_a_ranking",
        lines(GOOD, {**RANKING, "ranks": [1, 2, 1]}),
        ("rows.jsonl:2:", '"ranks" gives 1 more than once', "no ties", '"preference" 0.5'),
    ),
    (
        "ranks_that_are_scores",
        lines({**RANKING, "ranks": [7, 3, 9]}, {**RANKING, "ranks": [0, 1, 2]}, GOOD),
        ("rows.jsonl:1:", "[7, 3, 9]", "each of 1 to 3 once, 1 the best", "rows.jsonl:2:"),
    ),
    (
        "ranks_of_another_kind",
        lines({**RANKING, "ranks": ["a", 2, 3]}, {**RANKING, "ranks": "best"}, GOOD),
        ("rows.jsonl:1:", '"ranks[0]" is text', "rows.jsonl:2:", '"ranks" is text', "a list"),
    ),
    (
        "too_few_ranks",
        lines({**RANKING, "ranks": [1, 2]}, {**RANKING, "ranks": None}, GOOD),
        ("rows.jsonl:1:", '"ranks" has 2 items for 3', "rows.jsonl:2:", '"ranks" is missing'),
    ),
    (
        "ranking_of_one",
        lines({**RANKING, "responses": ["Blue."], "ranks": [1]}, GOOD),
        ("rows.jsonl:1:", '"responses" has 1 items', "two or more"),
    ),
    (
        "ranking_with_an_empty_response",
        lines({**RANKING, "responses": ["Blue.", "", "Seven."]}, GOOD),
        ("rows.jsonl:1:", '"responses[1]" is empty'),
    ),
    (
        "ranking_with_bad_ratings",
        lines(
            {**RANKING, "ratings": [{"a": 1}, None, {"a": "x"}]}, {**RANKING, "ratings": [1]}, GOOD
        ),
        ("rows.jsonl:1:", '"ratings[2].a" is text', "rows.jsonl:2:", '"ratings" has 1 items'),
    ),
    (
        "ranking_and_pair",
        lines({**RANKING, **GOOD}, {**RANKING, "margin": 0.5}, GOOD),
        ("rows.jsonl:1:", '"chosen" beside "responses"', "rows.jsonl:2:", '"margin" beside'),
    ),
    (
        "misspelled_ranks",
        lines({"prompt": "a", "responses": ["b", "c"], "rank": [1, 2]}, GOOD),
        ("rows.jsonl:1:", '"rank"', 'is it "ranks"?'),
    ),
    (
        "line_not_utf8",
        content("rows.jsonl", json.dumps(GOOD).encode() + b'\n{"prompt": "caf\xe9"}\n'),
        ("rows.jsonl:2:", "0xe9", "UTF-8"),
    ),
    (
        "json_list_item",
        content(
            "rows.json", '[\n  {"prompt": 5,\n   "response": "b"},\n\n' + json.dumps(GOOD) + "]"
        ),
        ("rows.json:2:", '"prompt" is a number'),
    ),
    (
        "csv_ragged",
        content("rows.csv", 'prompt,chosen,rejected\n"a\nb",c,d\nx,y\nx,y,z,w\n'),
        ("rows.csv:4:", "2 fields", "header names 3", "rows.csv:5:", "4 fields"),
    ),
    (
        "csv_empty_cell",
        content("rows.csv", 'prompt,chosen,rejected,weight\n"a\nb",c,d,\nx,,z,1\nx,y,z,much\n'),
        ("rows.csv:4:", '"chosen" is empty', "rows.csv:5:", '"weight"'),
    ),
]

FILES: list[Case] = [
    ("missing_file", name_only("nowhere.jsonl"), ("nowhere.jsonl", "no such file")),
    ("missing_pattern", name_only("*.jsonl"), ("*.jsonl", "no file matches")),
    ("unknown_ending", content("rows.xlsx", "?"), ("rows.xlsx", "unknown kind of file", ".jsonl")),
    ("other_folder", an_empty_folder, ("saved", "save_to_disk", "saved/*.jsonl")),
    ("empty_file", content("rows.jsonl", ""), ("rows.jsonl", "no usable row", "0 rows read")),
    (
        "only_identical",
        lines({**GOOD, "rejected": GOOD["chosen"]}),
        ("no usable row", "1 dropped (identical responses)"),
    ),
    (
        "only_identical_in_a_ranking",
        lines({**RANKING, "responses": ["Blue.", "Blue.", "Blue."]}),
        ("no usable row", "3 dropped (identical responses)"),
    ),
    ("not_gzip", content("rows.jsonl.gz", "plain"), ("rows.jsonl.gz", "cannot be read")),
    ("cut_gzip", cut_gzip, ("rows.jsonl.gz", "cannot be read", "Is the file whole")),
    ("not_parquet", content("rows.parquet", "PAR1?"), ("rows.parquet", "cannot be read")),
    ("not_arrow", content("rows.arrow", "nothing here"), ("rows.arrow", "cannot be read")),
    (
        "json_broken",
        content("rows.json", '[\n {"prompt": "a"},\n {"prompt": }\n]'),
        ("rows.json:3:", "not valid JSON"),
    ),
    ("json_cut", content("rows.json", '[\n{"prompt": "a"}\n'), ("rows.json:3:", "delimiter")),
    ("json_goes_on", content("rows.json", "[]\n[]"), ("rows.json:2:", "Extra data")),
    ("json_columns", content("rows.json", '{"rows": {}}'), ("rows.json", '"data"', "keys: rows")),
    ("json_number", content("rows.json", "17"), ("rows.json", "neither a JSON list")),
    (
        "csv_open_quote",
        content("rows.csv", 'prompt,chosen,rejected\na,b,c\nd,"e,f\ng,h,i\n'),
        ("rows.csv:3:", "quote", "never closed"),
    ),
    (
        "csv_not_utf8",
        content("rows.csv", b"prompt,chosen,rejected\ncaf\xe9,b,c\n"),
        ("rows.csv", "0xe9", "UTF-8"),
    ),
    (
        "csv_semicolons",
        content("rows.csv", "prompt;chosen;rejected\na;b;c\n"),
        ("rows.csv:2:", "prompt;chosen;rejected"),
    ),
]
