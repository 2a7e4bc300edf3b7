"""A score file in the making: finished parts beside it, until they are merged."""

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import vrm_pyro
from vrm_pyro.atomic import claim_directory, write_file
from vrm_pyro.backbone import Backbone
from vrm_pyro.data.artefacts import Scalar, Schema, checked, read_json
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError
from vrm_pyro.models.checkpoint import CONFIG_FILE, WEIGHTS_FILE
from vrm_pyro.prediction.scorer.lines import write_scores

FILE: Final = "score.json"
_FORMAT: Final = "vrm-pyro score parts 1"

KEY_PARTS: Final[Mapping[str, str]] = {
    "version": "version of vrm-pyro",
    "model": "model",
    "rows": "rows",
    "ids": "ids of the rows",
    "template": "chat template",
    "tokenizer": "tokenizer",
    "weights": "backbone weights",
    "pooling": "pooling",
    "max_length": "max length",
    "layer": "layer",
    "file": "GGUF file of the backbone",
    "date": "date in the chat template",
    "reasoning": "reading of reasoning",
    "precision": "precision of the backbone",
    "token_budget": "tokens in a batch",
    "shard_rows": "rows in a shard",
    "lines": "kind of lines",
}
"""All that decides the lines of a part: name in the file, and what it is called to the user."""


def parts_key(
    model_dir: str | os.PathLike[str],
    table: PreferenceTable,
    shard_rows: int,
    backbone: Backbone | None,
    lines: str = "response",
) -> dict[str, Any]:
    """Return what a part's lines follow from.

    Args:
        model_dir: Folder of the model.
        table: The rows.
        shard_rows: Rows in a shard.
        backbone: What reads the texts. Without it its parts are left out: the model's own
            description names the backbone, so a merge need not load it.
        lines: What has a line.
    """
    digest = hashlib.sha256()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        digest.update((Path(model_dir) / name).read_bytes())
    order = table.row_order
    columns = (order.pair, order.response, order.index)
    names = json.dumps([order.names, *(column.tolist() for column in columns)]).encode()
    key: dict[str, Any] = {
        "version": vrm_pyro.__version__,
        "model": digest.hexdigest(),
        "rows": table.content_hash(),
        "ids": hashlib.sha256(names).hexdigest(),
        "shard_rows": shard_rows,
        "lines": lines,
    }
    if backbone is not None:
        key |= backbone.key()
        key |= {"precision": backbone.precision, "token_budget": backbone.token_budget}
    return key


class _Claimed(Schema):
    key: dict[str, Scalar]


class ScoreParts:
    """The folder ``OUT.parts`` of a score file OUT that is being made.

    A part is a shard's lines, in a file that appears whole or not at all, so what is there after
    a kill is good. Several processes may write different parts at a time.

    Args:
        out: The score file.
        count: Number of shards.
    """

    def __init__(self, out: str | os.PathLike[str], count: int) -> None:
        self.out, self.count = Path(out), count
        self.folder = self.out.with_name(f"{self.out.name}.parts")

    def claim(self, key: Mapping[str, Any], overwrite: bool = False) -> None:
        """Take the folder for writing, whether it is there already or not.

        Args:
            key: What the parts follow from.
            overwrite: Whether parts of another key are thrown away.

        Raises:
            InputError: If the folder holds parts of another key, or other files.
        """
        if self.out.is_dir():
            raise InputError(f"{self.out}: is a folder. Give the name of a file to write.")
        if not overwrite and (self.folder / FILE).is_file():
            self.check(key)
        content = json.dumps({"format": _FORMAT, "key": dict(key)}, indent=1, sort_keys=True)
        try:
            claim_directory(self.folder, marker=FILE, content=content, overwrite=overwrite)
        except InputError:
            # Two processes may start at once; the other one's claim is as good.
            if not (self.folder / FILE).is_file() or self._key() != dict(key):
                raise

    def check(self, key: Mapping[str, Any]) -> None:
        """Raise InputError unless the parts there have this key, as far as it is given."""
        held = self._key()
        differing = [name for name in key if held.get(name) != key[name]]
        if differing:
            lines = [
                f"{KEY_PARTS[name]} ({_short(held.get(name))} there, {_short(key[name])} here)"
                for name in differing
            ]
            raise InputError(
                f"{self.folder}: holds parts of a score file with different "
                f"{' and '.join(lines)}. Go on with the settings and rows they were made from, "
                "give another --out, or pass --overwrite to begin anew."
            )

    def path(self, index: int) -> Path:
        """Return where the lines of a shard are."""
        return self.folder / f"part-{index:05d}.jsonl"

    def missing(self) -> list[int]:
        """Return the shards that are not finished."""
        return [index for index in range(self.count) if not self.path(index).is_file()]

    def write(self, index: int, lines: Iterable[Mapping[str, Any]]) -> None:
        """Write the lines of a shard."""
        write_scores(lines, self.path(index))

    def lines(self) -> Iterator[dict[str, Any]]:
        """Yield the lines of all shards in order."""
        for index in range(self.count):
            with open(self.path(index), encoding="utf-8") as file:
                yield from map(json.loads, file)

    def merge(self) -> int:
        """Write all parts to the score file as they are, and return the number of lines."""
        count = 0
        with write_file(self.out) as partial, open(partial, "wb") as file:
            for index in range(self.count):
                with open(self.path(index), "rb") as part:
                    count += sum(1 for _ in part)
                    part.seek(0)
                    shutil.copyfileobj(part, file)
        return count

    def remove(self) -> None:
        """Remove the folder, and what killed starts left half written beside it."""
        target = Path(os.path.realpath(self.out))
        for leftover in target.parent.glob(f".{target.stem}.*.partial{target.suffix}"):
            leftover.unlink(missing_ok=True)
        # The key last: a kill in between leaves a folder that a new start understands.
        for path in self.folder.iterdir():
            if path.name != FILE:
                path.unlink()
        (self.folder / FILE).unlink()
        self.folder.rmdir()

    def remove_if_empty(self) -> None:
        """Remove the folder if no part is finished: there is nothing to resume."""
        if len(self.missing()) == self.count and (self.folder / FILE).is_file():
            shutil.rmtree(self.folder)

    def _key(self) -> dict[str, Any]:
        path = self.folder / FILE
        if not path.is_file():
            raise InputError(
                f"{self.folder}: there are no parts to merge. Score the shards first, with the "
                "same --out and --num_shards, and --shard 0, 1, ..."
            )
        held = read_json(path, f"Remove {self.folder}.")
        if not isinstance(held, dict) or held.get("format") != _FORMAT:
            raise InputError(
                f"{path}: was not written by this version of vrm-pyro score. Remove "
                f"{self.folder}, or give another --out."
            )
        return dict(checked(_Claimed, held, str(path), f"Remove {self.folder}.").key)


def _short(value: Any) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text
