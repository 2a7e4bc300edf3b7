"""Readers of single files: yield each row with its location, and report each broken line.

All use ``datasets.load_dataset`` in streaming mode, which opens and decompresses files without
caching a copy. JSON and CSV go through its ``text`` reader and are parsed here, record by record.
Its ``json`` and ``csv`` readers infer one type per column. Then a prompt that is text in one row
and messages in another, a broken line or a ragged record fails the whole file without naming the
row, ``"007"`` becomes 7, and the answer "NA" is read as missing.
"""

import contextlib
import csv
import glob
import json
import lzma
import re
import tempfile
import zlib
from collections.abc import Callable, Iterator, Set
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vrm_pyro.data.problem import RowProblem
from vrm_pyro.data.rows.schema import KNOWN_COLUMNS, NUMBER_COLUMNS
from vrm_pyro.errors import InputError

# datasets and pyarrow are imported when a file is read: together they take a second.
if TYPE_CHECKING:
    import datasets

Rows = Iterator[tuple[str, object]]
Names = Set[str]

_TEXT_COLUMNS = ("prompt", "chosen", "rejected", "response")
_ESCAPED_BYTE = re.compile(r"\\x([0-9a-f]{2})")
_BATCH_ROWS = 1000


def read_errors(*more: type[Exception]) -> tuple[type[Exception], ...]:
    """Return ``more`` and the exceptions that readers raise on broken or mislabelled files."""
    import pyarrow as pa
    from datasets.exceptions import DatasetsError

    return (
        *more,
        OSError,
        EOFError,
        ValueError,
        csv.Error,
        zlib.error,
        lzma.LZMAError,
        pa.ArrowException,
        DatasetsError,
    )


def read_json_lines(path: Path, name: str, more: Names = frozenset()) -> Rows:
    """Yield the rows of a file with one JSON object a line; blank lines are skipped."""
    # Bytes that are not UTF-8 arrive as \xNN, which is invalid in JSON: the parser fails on that
    # line instead of on the whole file.
    lines = _texts(path, encoding_errors="backslashreplace")
    for number, line in enumerate(lines, start=1):
        if line and not line.isspace():
            yield f"{name}:{number}", parse_line(line)


def read_json(path: Path, name: str, more: Names = frozenset()) -> Rows:
    """Yield the rows of a JSON list, of ``{"data": [...]}``, or of JSON lines named ``.json``.

    Raises:
        InputError: If the text is not JSON; rows after the error cannot be read.
    """
    text = next(_texts(path, sample_by="document"), "")
    start = _skip_space(text, 0)
    whole = text[start : start + 1] == "["
    if text[start : start + 1] == "{":
        if _is_json_lines(text, more):
            yield from read_json_lines(path, name, more)
            return
        start = _data_list(text, name)
    elif not whole:
        raise InputError(f'{name}: holds neither a JSON list of rows nor {{"data": [...]}}.')
    line, counted = 1, 0
    for position, row in _list_items(text, start, name, whole):
        line, counted = line + text.count("\n", counted, position), position
        yield f"{name}:{line}", row


def read_csv(path: Path, name: str, more: Names = frozenset()) -> Rows:
    """Yield the records of a CSV or TSV file with a header line.

    An empty cell is missing, except in the text columns, where it is an empty text. A text cell
    that is a JSON list of messages is read as messages, as in a column that rows do not have is
    any JSON list or object.
    """
    lines = _texts(path, keep_linebreaks=True)
    delimiter = "\t" if ".tsv" in path.suffixes else ","
    limit = csv.field_size_limit(2**31 - 1)  # the default of 128 KiB refuses long documents
    try:
        records = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(records, [])
        place = f"{name}:{records.line_num + 1}"
        while True:
            try:
                record = next(records, None)
            except csv.Error as error:
                if "end of data" in str(error):
                    raise InputError(
                        f"{place}: a quote opened in this record is never closed, so that the "
                        "rest of the file belongs to it. Close it; a quote inside a text is "
                        'written "".'
                    ) from error
                yield (
                    place,
                    RowProblem(
                        "invalid CSV",
                        f"not valid CSV ({error}). Put texts with commas, quotes or line breaks "
                        'in quotes, and write a quote inside as "".',
                    ),
                )
            else:
                if record is None:
                    return
                if record:
                    yield place, _record(header, record)
            place = f"{name}:{records.line_num + 1}"
    finally:
        csv.field_size_limit(limit)


def read_parquet(path: Path, name: str, more: Names = frozenset()) -> Rows:
    """Yield the rows of a Parquet file."""
    with _opened("parquet", path) as rows:
        yield from read_dataset(rows, name, more)


def read_arrow(path: Path, name: str, more: Names = frozenset()) -> Rows:
    """Yield the rows of an Arrow file, in the file or the stream format."""
    with _opened("arrow", path) as rows:
        yield from read_dataset(rows, name, more)


def read_dataset(
    dataset: "datasets.Dataset | datasets.IterableDataset", name: str, more: Names = frozenset()
) -> Rows:
    """Yield the rows of a ``datasets`` data set, located by index: ``name[12]``."""
    others = {}
    if dataset.column_names:
        # Names of other columns are kept, so that a misspelled one is noticed; their values
        # (images, embeddings) are not decoded, unless they are plain numbers or texts.
        wanted = KNOWN_COLUMNS | more | _plain(dataset)
        known = [column for column in dataset.column_names if column in wanted]
        others = dict.fromkeys(c for c in dataset.column_names if c not in wanted)
        dataset = dataset.select_columns(known) if known else dataset
    index = 0
    for batch in dataset.with_format(None).iter(batch_size=_BATCH_ROWS):
        for values in zip(*batch.values(), strict=True):
            yield f"{name}[{index}]", {**others, **dict(zip(batch, values, strict=True))}
            index += 1


def _plain(dataset: "datasets.Dataset | datasets.IterableDataset") -> set[str]:
    """Return the names of columns that hold one number or text a row."""
    import datasets

    return {
        column
        for column, feature in (dataset.features or {}).items()
        if isinstance(feature, datasets.Value) and "binary" not in feature.dtype
    }


READERS: dict[str, Callable[[Path, str, Names], Rows]] = {
    ".jsonl": read_json_lines,
    ".ndjson": read_json_lines,
    ".json": read_json,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": read_parquet,
    ".arrow": read_arrow,
}


@contextlib.contextmanager
def _opened(reader: str, path: Path, **options: Any) -> "Iterator[datasets.IterableDataset]":
    import datasets

    # Streaming copies nothing, but would leave a lock file per data file in the user's cache.
    with tempfile.TemporaryDirectory(prefix="vrm_pyro_rows_") as cache:
        yield datasets.load_dataset(
            reader,
            data_files=glob.escape(str(path)),  # a name with brackets would be read as a pattern
            split="train",
            streaming=True,
            cache_dir=cache,
            **options,
        )


def _texts(path: Path, **options: Any) -> Iterator[str]:
    """Yield the lines of a text file, or its whole text; it may be compressed."""
    options = {"encoding": "utf-8-sig", **options}
    with _opened("text", path, **options) as texts:
        for batch in texts.iter(batch_size=_BATCH_ROWS):
            yield from batch["text"]


def parse_line(line: str) -> object:
    """Return the row of a line of JSON, or the problem that it has."""
    try:
        return json.loads(line)
    except json.JSONDecodeError as error:
        stray = _ESCAPED_BYTE.match(line, error.pos) or _ESCAPED_BYTE.match(line, error.pos - 1)
        if stray:
            what = f"byte 0x{stray[1]} is not UTF-8"
            return RowProblem("not UTF-8", f"{what}. Save the file in the encoding UTF-8.")
        what = f"{error.msg} at column {error.colno}"
        return RowProblem(
            "invalid JSON", f"not valid JSON ({what}). Write one whole JSON object on each line."
        )
    except (ValueError, RecursionError) as error:  # thousands of digits, or of open brackets
        return RowProblem("invalid JSON", f"not a row ({error}). Remove it.")


def _is_json_lines(text: str, more: Names) -> bool:
    """Whether the first line is a complete row, so that a ``.json`` file holds JSON lines."""
    first = text.lstrip().split("\n", 1)[0]
    try:
        row = json.loads(first)
    except ValueError:
        return False
    return not (KNOWN_COLUMNS | more).isdisjoint(row)


def _data_list(text: str, name: str) -> int:
    """Return the position at which the list of a ``{"data": [...]}`` document begins."""
    decoder = json.JSONDecoder(parse_constant=str)  # as text: NaN is not equal to itself
    try:
        document = decoder.decode(text)
    except ValueError as error:
        raise _broken(name, error) from error
    rows = document.get("data")
    if isinstance(rows, list):
        for match in re.finditer(r'"data"\s*:\s*(\[)', text):
            # the same characters may also occur inside a text
            with contextlib.suppress(ValueError):
                if decoder.raw_decode(text, match.start(1))[0] == rows:
                    return match.start(1)
    raise InputError(
        f'{name}: the JSON object has no list under "data" (keys: '
        f'{", ".join(list(document)[:12])}). Write a list of rows, or {{"data": [...]}}.'
    )


def _list_items(text: str, start: int, name: str, whole: bool) -> Iterator[tuple[int, object]]:
    """Yield position and value of each item of the JSON list at ``start``.

    Items are parsed one by one, because parsing the whole list loses their line numbers.
    """
    decoder = json.JSONDecoder()
    position = _skip_space(text, start + 1)
    more = text[position : position + 1] != "]"
    try:
        while more:
            value, end = decoder.raw_decode(text, position)
            yield position, value
            position = _skip_space(text, end)
            more = text[position : position + 1] == ","
            if more:
                position = _skip_space(text, position + 1)
        if text[position : position + 1] != "]":
            raise json.JSONDecodeError("Expecting ',' delimiter", text, position)
        rest = _skip_space(text, position + 1)
        if whole and rest < len(text):
            raise json.JSONDecodeError("Extra data", text, rest)
    except ValueError as error:
        raise _broken(name, error) from error


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _broken(name: str, error: ValueError) -> InputError:
    line = getattr(error, "lineno", 1)
    return InputError(
        f"{name}:{line}: not valid JSON ({error}). Correct it from there on; in JSON lines "
        "(.jsonl) a broken row would not hide the others."
    )


def _record(header: list[str], record: list[str]) -> object:
    if len(record) != len(header):
        return RowProblem(
            "invalid CSV",
            f"{len(record)} fields, but the header names {len(header)}. Put texts with commas "
            "or line breaks in quotes.",
        )
    return {column: _cell(column, text) for column, text in zip(header, record, strict=True)}


def _cell(column: str, text: str) -> object:
    if column in _TEXT_COLUMNS:
        return _messages(text)
    if not text.strip():
        return None
    if column in NUMBER_COLUMNS:
        try:
            return float(text)
        except ValueError:
            return text
    return text if column in KNOWN_COLUMNS else _nested(text)


def _nested(text: str) -> object:
    """Return the list or object that is written as JSON in a cell, else its text."""
    if text.lstrip()[:1] in ("[", "{"):
        with contextlib.suppress(ValueError, RecursionError):
            return json.loads(text)
    return text


def _messages(text: str) -> object:
    if text.lstrip().startswith("["):
        try:
            value = json.loads(text)
        except ValueError:
            return text
        if value and all(isinstance(item, dict) and "role" in item for item in value):
            return value
    return text
