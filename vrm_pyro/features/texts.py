"""Texts and ids of a table, as JSON lines in a feature store."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vrm_pyro.atomic import write_file
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


def read_texts(folder: Path) -> dict[str, Any]:
    """Return the lists by their field names in :class:`PreferenceTable`."""
    prompts, responses, pairs = (_read(folder / name) for name in FILES)
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


def _read(path: Path) -> list[Any]:
    with open(path, encoding="utf-8", newline="\n") as file:
        return [json.loads(line) for line in file]
