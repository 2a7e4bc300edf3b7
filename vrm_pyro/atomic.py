"""Write files and folders atomically: they appear complete or not at all."""

import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vrm_pyro.errors import InputError


@contextmanager
def write_file(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary file name; the file is renamed to ``path`` if the block succeeds.

    The temporary file is in the same folder and has the suffix of ``path``, since many writers
    choose a format by it. Missing parent folders are created. A reader of ``path`` sees the old
    content or the new, never a part. If the block raises, the old content stays.

    Args:
        path: The file to create or replace. A symbolic link is followed, not replaced.

    Yields:
        The name at which the block must create a file.

    Raises:
        InputError: If ``path`` is a folder or a device, or if its folder is not writable.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "numbers" / "one.txt"
        >>> with write_file(path) as partial:
        ...     _ = partial.write_text("1")
        ...     print(path.exists())
        False
        >>> path.read_text()
        '1'
    """
    target = Path(os.path.realpath(path))
    check_file(path)
    made = _make_parents(target.parent, path)
    # The last suffix alone: "rows.jsonl.gz" is still compressed by its ".gz".
    partial = target.with_name(f".{target.stem}.{_token()}.partial{target.suffix}")
    try:
        yield partial
        _flush(partial)
        os.replace(partial, target)
    except BaseException:
        partial.unlink(missing_ok=True)
        _remove_empty(made)
        raise
    _flush(target.parent)


def check_file(path: str | os.PathLike[str]) -> None:
    """Raise InputError if a name cannot be a file to write: a folder or a device is there."""
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        kind = "a folder" if target.is_dir() else "not a regular file"
        raise InputError(f"{path}: is {kind}. Give the name of a file to write.")


@contextmanager
def write_directory(path: str | os.PathLike[str], *, overwrite: bool = False) -> Iterator[Path]:
    """Yield an empty temporary folder; it is renamed to ``path`` if the block succeeds.

    Args:
        path: The folder to create. It may exist if it is empty.
        overwrite: Whether to replace a folder that holds files, with all its content.

    Yields:
        The folder that the block fills; a sibling of ``path``.

    Raises:
        InputError: If ``path`` is a file, or a folder with files without ``overwrite``, or a
            folder that must not be replaced (see :func:`claim_directory`).
    """
    target = Path(os.path.realpath(path))
    _refuse_occupied(target, path, overwrite)
    made = _make_parents(target.parent, path)
    partial = target.with_name(f".{target.name}.{_token()}.partial")
    try:
        partial.mkdir()
        yield partial
        for item in partial.rglob("*"):
            if item.is_file():
                _flush(item)
        # Again: the block may have taken hours, and another run may have written meanwhile.
        _refuse_occupied(target, path, overwrite)
        _swap(partial, target)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        _remove_empty(made)
        raise
    _flush(target.parent)


def claim_directory(
    path: str | os.PathLike[str], *, marker: str, content: str, overwrite: bool = False
) -> bool:
    """Claim a folder that a run writes into over time, such as its checkpoints.

    A marker file identifies the run. It is written first, and compared when an interrupted
    command is started again.

    Args:
        path: The folder to claim; created if missing.
        marker: Name of the marker file.
        content: Content of the marker; a run with the same settings has the same content.
        overwrite: Whether to start anew in a folder of another run (it is emptied) or in a folder
            with unknown files (they stay).

    Returns:
        True if the folder holds an earlier start of the same run, to be resumed; False if the run
        is new.

    Raises:
        InputError: If ``path`` is a file, or holds another run or other files without
            ``overwrite``. Also if it is the working folder, the home folder or a parent of them,
            which no option empties.

    Examples:
        >>> import tempfile
        >>> folder = tempfile.mkdtemp()
        >>> claim_directory(folder, marker="run.json", content="seed 0")
        False
        >>> claim_directory(folder, marker="run.json", content="seed 0")
        True
    """
    target = Path(os.path.realpath(path))
    held = target / marker
    if not overwrite and held.is_file():
        if held.read_text(encoding="utf-8") == content:
            return True
        raise InputError(
            f"{path}: holds another run ({marker} differs from this one's). "
            "Choose another folder, or pass --overwrite to replace it."
        )
    _refuse_occupied(target, path, overwrite)
    if held.is_file():
        retired = _retire(target)
        target.mkdir()
        shutil.rmtree(retired)
    _make_parents(target, path)
    with write_file(held) as partial:
        partial.write_text(content, encoding="utf-8")
    return False


def _refuse_occupied(target: Path, given: str | os.PathLike[str], overwrite: bool) -> None:
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{given}: is a file. Give the name of a folder to write.")
    # Temporary files of a killed run do not count.
    if all(item.name.startswith(".") and ".partial" in item.name for item in target.iterdir()):
        return
    if not overwrite:
        raise InputError(
            f"{given}: holds files already. Choose another folder, or pass --overwrite to "
            "replace it."
        )
    here, home = Path.cwd().resolve(), Path.home().resolve()
    if target in (here, home, *here.parents, *home.parents):
        raise InputError(
            f"{given}: is the working folder, the home folder or a parent of them; --overwrite "
            "would delete more than a run. Give a folder of its own, such as runs/first."
        )


def _make_parents(folder: Path, given: str | os.PathLike[str]) -> list[Path]:
    """Make ``folder`` and those above it; return the ones that were missing, innermost first."""
    missing = [p for p in (folder, *folder.parents) if not p.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"{given}: the folder {folder} cannot be made ({error.strerror}). Choose a place "
            "where you may write."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise InputError(f"{given}: the folder {folder} is not writable for this user.")
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        if not folder.is_dir() or any(folder.iterdir()):
            return
        folder.rmdir()


def _swap(partial: Path, target: Path) -> None:
    if not target.exists():
        partial.rename(target)
        return
    retired = _retire(target)
    try:
        partial.rename(target)
    except BaseException:
        retired.rename(target)
        raise
    shutil.rmtree(retired)


def _retire(target: Path) -> Path:
    # Renamed before it is deleted: a kill in between leaves no half-deleted run under its name.
    retired = target.with_name(f".{target.name}.{_token()}.retired")
    target.rename(retired)
    return retired


def _flush(path: Path) -> None:
    """Flush a file, or the directory entries of a folder, to disk (fsync)."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _token() -> str:
    return secrets.token_hex(4)


def json_text(content: Any, indent: int = 2) -> str:
    """Return content as JSON.

    Raises:
        ValueError: If a number is not finite.

    Examples:
        >>> print(json_text({"accuracy": 0.5}))
        {
          "accuracy": 0.5
        }
    """
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Any, indent: int = 2) -> None:
    """Write content as a JSON file, atomically."""
    text = json_text(content, indent)  # may raise, so before the file is opened
    with write_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
