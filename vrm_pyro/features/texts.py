"""Texts and ids of a table, as JSON lines in a feature store."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field

from vrm_pyro.atomic import write_file
from vrm_pyro.data.artefacts import Schema, read_json_lines
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.turns import REASONING, Answer

FILES = ("prompts.jsonl", "responses.jsonl", "pairs.jsonl")


def write_texts(folder: Path, table: PreferenceTable) -> None:
    """Write prompts, responses, and the ids of responses and pairs."""
    rows: tuple[Iterable[Any], ...] = (
        table.prompts,
        (
            {"text": text, "id": name, "subset": subset, **_parts(text)}
            for text, name, subset in zip(
                table.responses, table.response_id, table.response_subset, strict=True
            )
        ),
        (
            {"id": name, "subset": subset, "source": source}
            for name, subset, source in zip(
                table.pair_id, table.pair_subset, table.pair_source, strict=True
            )
        ),
    )
    for name, lines in zip(FILES, rows, strict=True):
        with write_file(folder / name) as partial, open(partial, "w", encoding="utf-8") as file:
            for line in lines:
                file.write(json.dumps(line, ensure_ascii=False) + "\n")


class _Message(Schema):
    model_config = ConfigDict(extra="allow")

    role: str
    content: str | None


class _Response(Schema):
    text: str
    id: str | None
    subset: str | None
    answer: str = ""
    reasoning_content: str = ""


class _Pair(Schema):
    id: str | None
    subset: str | None
    source: str | None


_Prompt = Annotated[list[_Message], Field(min_length=1)]


def read_texts(folder: Path, meta: dict[str, Any]) -> dict[str, Any]:
    """Return the lists by their field names in :class:`PreferenceTable`.

    Args:
        folder: The store.
        meta: Its description.

    Raises:
        InputError: If a line is not what was written, or their number differs.
    """
    remedy = "Write the store again (--overwrite)."
    counts = (meta["num_prompts"], meta["num_responses"], meta["num_pairs"])
    prompts, responses, pairs = (
        read_json_lines(folder / name, kind, count, remedy)
        for name, kind, count in zip(FILES, (_Prompt, _Response, _Pair), counts, strict=True)
    )
    return {
        "prompts": prompts,
        "responses": [_response(r) for r in responses],
        "response_id": [r["id"] for r in responses],
        "response_subset": [r["subset"] for r in responses],
        "pair_id": [p["id"] for p in pairs],
        "pair_subset": [p["subset"] for p in pairs],
        "pair_source": [p["source"] for p in pairs],
    }


def _parts(text: str) -> dict[str, str]:
    """Return answer and reasoning of a response in which they came apart."""
    if not isinstance(text, Answer):
        return {}
    return {"answer": text.content, REASONING: text.reasoning}


def _response(line: dict[str, Any]) -> str:
    if REASONING in line:
        return Answer.of(line["answer"], line[REASONING])
    text: str = line["text"]
    return text
