"""Open files and data sets by name, and yield raw rows with their location."""

import glob
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from vrm_pyro.data.rows import formats
from vrm_pyro.data.schemas.reading import Reading
from vrm_pyro.errors import InputError

# datasets is imported when it is first needed: it takes a second.
if TYPE_CHECKING:
    import datasets

    AnyDataset: TypeAlias = datasets.Dataset | datasets.IterableDataset
else:
    AnyDataset = Any


@dataclass(frozen=True)
class ReadAs:
    """Rows with the way to read them, for everything that takes rows.

    >>> from vrm_pyro.data.rows import load_table
    >>> rows = [{"q": "2 + 2?", "good": "4", "bad": "5"}]
    >>> load_table(ReadAs(rows, columns="prompt=q,chosen=good,rejected=bad")).responses
    ['4', '5']

    Args:
        data: Rows in any form.
        schema: Name of a published form (``vrm-pyro schemas``), ``rows`` for none; it is found
            by the columns of each row when omitted.
        columns: Columns of an own table, ``prompt=question,chosen=answer`` or the mapping that
            this means.
    """

    data: "TableSpec"
    schema: str | None = None
    columns: str | Mapping[str, str] | None = None

    @classmethod
    def given(cls, data: Any, schema: str | None, columns: str | Mapping[str, str] | None) -> Any:
        """Return ``data`` with the way to read it, or as it is where nothing is said."""
        return data if schema is None and columns is None else cls(data, schema, columns)


# A DatasetDict is a mapping, and so is a row.
TableSpec: TypeAlias = str | Path | AnyDataset | ReadAs | Mapping[str, Any] | Sequence[Any]

_COMPRESSED = (".gz", ".bz2", ".xz")
_HUB_ID = re.compile(r"\w[\w.-]*(/\w[\w.-]*)?(:\w[\w.-]*)?")


class Source(NamedTuple):
    """Rows of one file or data set.

    Attributes:
        name: Name of the source in messages.
        rows: Tuples of a location, such as ``rows.jsonl:214``, and a raw row; the row is a
            :class:`RowProblem` if its text could not be parsed.
        reading: How raw rows become rows.
    """

    name: str
    rows: Iterator[tuple[str, object]]
    reading: Reading = Reading()


def open_sources(
    spec: TableSpec, split: str = "train", reading: Reading | None = None
) -> list[Source]:
    """Open the sources that ``spec`` names; rows are read lazily.

    Args:
        spec: A path, glob, directory of ``save_to_disk``, Hub id (``owner/name`` or
            ``owner/name:config``), data set of ``datasets``, row as a dict, or a list of these;
            any of them in a :class:`ReadAs`; or a source.
        split: Split of a Hub id or of a data set with several; files have no splits.
        reading: How raw rows become rows, where no :class:`ReadAs` says it.

    Raises:
        InputError: If something does not exist, is empty, or is of an unknown kind.
    """
    if isinstance(spec, ReadAs):
        return open_sources(spec.data, split, Reading.of(spec.schema, spec.columns))
    if isinstance(spec, Source):
        return [spec]
    reading = reading or Reading()
    if isinstance(spec, str | Path):
        return _named(str(spec), split, reading)
    loaded = sys.modules.get("datasets")  # a caller with a data set has imported it
    if loaded is not None and isinstance(spec, loaded.DatasetDict):
        return [_dataset(_pick_split(spec, split, "the DatasetDict"), "dataset", reading)]
    if loaded is not None and isinstance(spec, loaded.Dataset | loaded.IterableDataset):
        return [_dataset(spec, "dataset", reading)]
    if isinstance(spec, Mapping):
        return [Source("row", iter([("row", spec)]), reading)]
    if not isinstance(spec, Sequence):
        raise InputError(
            f"data: cannot read rows from a {type(spec).__name__}; give a file, a glob, a Hub "
            "id, a datasets.Dataset, or a list of these."
        )
    if not spec:
        raise InputError("data: the list of files is empty; name at least one.")
    if all(isinstance(item, Mapping) for item in spec):
        rows = iter([(f"rows[{index}]", row) for index, row in enumerate(spec)])
        return [Source("rows", rows, reading)]
    return [source for item in spec for source in open_sources(item, split, reading)]


def _named(name: str, split: str, reading: Reading) -> list[Source]:
    path = Path(name).expanduser()
    if path.is_dir():
        return [_dataset(_saved(path, split), name, reading)]
    if path.is_file():
        return [_file(path, name, reading)]
    if glob.has_magic(name):
        files = sorted(glob.glob(str(path), recursive=True))
        found = [_file(Path(file), file, reading) for file in files if Path(file).is_file()]
        if not found:
            raise InputError(f"{name}: no file matches this pattern.")
        return found
    if _HUB_ID.fullmatch(name) and _format_of(path) is None:
        return [_dataset(_hub(name, split), name, reading)]
    raise InputError(f"{name}: no such file or directory.")


def _format_of(path: Path) -> str | None:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in _COMPRESSED:
        suffixes.pop()
    return suffixes[-1] if suffixes and suffixes[-1] in formats.READERS else None


def _file(path: Path, name: str, reading: Reading) -> Source:
    kind = _format_of(path)
    if kind is None:
        known = ", ".join(formats.READERS)
        raise InputError(
            f"{name}: unknown kind of file. Known endings are {known}, the text formats also "
            f"with {', '.join(_COMPRESSED)}; rename or convert the file."
        )
    rows = formats.READERS[kind](path.absolute(), name, reading.read)
    return Source(name, _guarded(rows, name), reading)


def _guarded(rows: Iterator[tuple[str, object]], name: str) -> Iterator[tuple[str, object]]:
    """Turn a reader's exception on a broken file into an InputError that names the file."""
    with _quiet_datasets():
        try:
            yield from rows
        except InputError:
            raise
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}: not UTF-8 text ({error.reason}, byte 0x{error.object[error.start]:02x})."
                " Save the file in the encoding UTF-8."
            ) from error
        except formats.read_errors() as error:
            detail = str(error).strip().rstrip(".") or type(error).__name__
            raise InputError(
                f"{name}: cannot be read ({detail}). Is the file whole, and is its ending right?"
            ) from error


@contextmanager
def _quiet_datasets() -> Iterator[None]:
    import datasets

    # datasets logs a failed read on stderr as well; the user should see one message
    before = datasets.logging.get_verbosity()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)
    try:
        yield
    finally:
        datasets.logging.set_verbosity(before)


def _dataset(dataset: AnyDataset, name: str, reading: Reading) -> Source:
    rows = formats.read_dataset(dataset, name, reading.read)
    return Source(name, _guarded(rows, name), reading)


def _saved(path: Path, split: str) -> AnyDataset:
    import datasets

    if not (path / "state.json").is_file() and not (path / "dataset_dict.json").is_file():
        raise InputError(
            f"{path}: a directory, but not one written by datasets' save_to_disk. "
            f'To read the files in it, give a pattern such as "{path}/*.jsonl".'
        )
    try:
        loaded = datasets.load_from_disk(str(path))
    except formats.read_errors() as error:
        raise InputError(f"{path}: the saved data set cannot be read ({error}).") from error
    if isinstance(loaded, datasets.DatasetDict):
        return _pick_split(loaded, split, str(path))
    return loaded


def _pick_split(loaded: Mapping[str, Any], split: str, name: str) -> AnyDataset:
    if split not in loaded:
        raise InputError(f"{name} has no split {split!r}; choose one of {', '.join(loaded)}.")
    return loaded[split]


def _hub(name: str, split: str) -> AnyDataset:
    import datasets

    repository, _, config = name.partition(":")
    try:
        return datasets.load_dataset(repository, config or None, split=split)
    except formats.read_errors(RuntimeError) as error:
        raise InputError(
            f"{name}: no file of this name here, and as a Hub data set (split {split!r}) it "
            f"cannot be loaded: {error}. Check the spelling, the split, and that the Hub can be "
            "reached, or give a file."
        ) from error


Spec = str | list[str]
