"""Trials with feature stores: their description, their arrays and their texts."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
from helpers.tampered_models import use
from helpers.tampering import Trial, Words, json_faults, rewritten
from helpers.workspace import options

VERBS = ("train", "evaluate", "score", "certify", "doctor")


def _with(verb: str, change: Callable[[Path], object]) -> Callable[[Path, Path], Words]:
    def build(place: Path, folder: Path) -> Words:
        store = shutil.copytree(place / "store", folder / "store")
        change(store)
        if verb == "train":
            free = {"model__backbone": None, "model__max_length": None, "model__dtype": None}
            settings = options(place, data__train=store, data__validation=None, **free)
            return ("train", *settings, "--train.output_dir", folder / "run")
        return use(verb, place / "model", store, folder)

    return build


def turns(count: int) -> list[str]:
    """Return verbs that read a store, in turn."""
    return [("train", "evaluate", "score", "posterior", "report")[i % 5] for i in range(count)]


def description_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with store.json."""
    content = json.loads((place / "store" / "store.json").read_text(encoding="utf-8"))
    report = content["report"]  # a count that is absent has its default
    counts = [f"report.{name}" for name in (*report, *(f"extra.{n}" for n in report["extra"]))]
    faults = json_faults(content, count, optional=counts)
    return [
        Trial(
            f"{verb}: store.json: {what}",
            _with(verb, rewritten("store.json", changed)),
            ("store.json", key),
        )
        for verb, (what, key, changed) in zip(turns(len(faults)), faults, strict=True)
    ]


#: Values that an array of a store cannot hold, one or more for each.
VALUES: dict[str, tuple[float, ...]] = {
    "response_prompt": (-1, 10**6),
    "pair_first": (-1, 10**6),
    "pair_second": (-1, 10**6),
    "preference": (5.0, -0.5, np.nan, np.inf),
    "pair_weight": (-1.0, np.nan, np.inf),
    "ratings": (np.inf, -np.inf),
    "table_pairs": (-4,),
    "prompt_tokens": (-1,),
    "response_tokens": (-1,),
    "prompts-00000": (np.nan, np.inf),
    "responses-00000": (np.nan, -np.inf),
}


def _value(name: str, value: float) -> Callable[[Path], object]:
    def change(store: Path) -> None:
        array = np.load(store / f"{name}.npy")
        array.reshape(-1)[1] = value
        np.save(store / f"{name}.npy", array)

    return change


def _across(store: Path) -> None:
    """Let a pair compare responses to two prompts."""
    owners = np.load(store / "response_prompt.npy")
    second = np.load(store / "pair_second.npy")
    first = np.load(store / "pair_first.npy")
    second[0] = np.flatnonzero(owners != owners[first[0]])[0]
    np.save(store / "pair_second.npy", second)


def _with_itself(store: Path) -> None:
    """Let a pair compare a response with itself."""
    np.save(store / "pair_second.npy", np.load(store / "pair_first.npy"))


def _type(name: str, kind: str) -> Callable[[Path], object]:
    def change(store: Path) -> None:
        np.save(store / f"{name}.npy", np.load(store / f"{name}.npy").astype(kind))

    return change


def _objects(name: str) -> Callable[[Path], object]:
    def change(store: Path) -> None:
        array = np.load(store / f"{name}.npy")
        np.save(store / f"{name}.npy", array.astype(object), allow_pickle=True)

    return change


def array_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with the arrays of a store."""
    changes: list[tuple[str, str, Callable[[Path], object]]] = []
    for name, values in VALUES.items():
        changes += [(name, f"is {value}", _value(name, value)) for value in values]
        changes.append((name, "of another type", _type(name, "float16")))
        changes.append((name, "of objects", _objects(name)))
        changes.append((name, "gone", lambda store, n=name: (store / f"{n}.npy").unlink()))
        changes.append((name, "empty", lambda s, n=name: (s / f"{n}.npy").write_bytes(b"")))
    changes.append(("pair_second", "of another prompt", _across))
    changes.append(("pair_second", "the same response", _with_itself))
    found = []
    for i, verb in enumerate(turns(count)):
        name, what, change = changes[i % len(changes)]
        found.append(Trial(f"{verb}: {name} {what}", _with(verb, change), (f"{name}.npy",)))
    return found


def _line(name: str, text: str) -> Callable[[Path], object]:
    """Replace a line of texts, and write its new size into the description."""

    def change(store: Path) -> None:
        path = store / name
        lines = path.read_text(encoding="utf-8").splitlines()
        if text is not DROP:
            lines[1] = text
        else:
            del lines[1]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
        meta = json.loads((store / "store.json").read_text())
        meta["sizes"][name] = os.path.getsize(path)
        (store / "store.json").write_text(json.dumps(meta))

    return change


DROP = "(dropped)"
LINES: dict[str, tuple[str, ...]] = {
    "prompts.jsonl": (DROP, "[", "17", "[]", '"text"', '[{"role": "user"}]', "null", '[{"a": 1}]'),
    "responses.jsonl": (
        DROP,
        "{",
        "[]",
        '{"text": 3, "id": null, "subset": null}',
        '{"text": "a", "id": 5, "subset": null}',
        '{"text": "a"}',
        "null",
    ),
    "pairs.jsonl": (
        DROP,
        "}",
        '{"id": 4, "subset": null, "source": null}',
        '{"id": "a", "subset": [1], "source": null}',
        "{}",
        "null",
    ),
}


def text_trials(count: int) -> list[Trial]:
    """Return trials with the texts of a store."""
    changes = [(name, line) for name, lines in LINES.items() for line in lines]
    return [
        Trial(
            f"{verb}: {name} {line}",
            _with(verb, _line(name, line)),
            (name,),
        )
        for verb, (name, line) in zip(turns(count), changes * 9, strict=False)
    ]
