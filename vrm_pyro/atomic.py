"""Outputs that appear whole or not at all."""

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
    """Give a temporary file name to write to; it becomes ``path`` when the block ends well.

    The temporary file lies in the same folder and keeps the ending of ``path``, since many
    writers choose a format by it. Missing parent folders are made. A reader of ``path`` sees the
    old content or the new, never a part; when the block raises, the old content stays.

    Args:
        path: The file to create or replace. A symbolic link is followed, not replaced.

    Yields:
        The name that the block must create a file at.

    Raises:
        InputError: If ``path`` is a folder or a device, or lies where one may not write.
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
    """Give an empty temporary folder to fill; it becomes ``path`` when the block ends well.

    Args:
        path: The folder to create. An empty one may stand there already.
        overwrite: Whether a folder that holds files is replaced, with all it holds.

    Yields:
        The folder that the block fills; a sibling of ``path``.

    Raises:
        InputError: If ``path`` is a file, a folder that holds files and ``overwrite`` is off, or
            a folder that must not be replaced (see :func:`claim_directory`).
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
    """Take a folder whose files grow in place, such as the checkpoints of a run.

    The marker file tells whose folder it is: written first, and compared when the same command is
    started again after it was stopped.

    Args:
        path: The folder to take; made when missing.
        marker: Name of the file inside that identifies the run.
        content: What a run with the same settings would write there again.
        overwrite: Whether to start afresh where another run's marker stands (its folder is
            emptied), or where files of unknown origin lie (they stay).

    Returns:
        True when the folder holds an earlier start of this same run, to be resumed; False when
        the run begins.

    Raises:
        InputError: If ``path`` is a file, or holds another run or other files and ``overwrite``
            is off, or is the working folder, the home folder or a parent of them, which no option
            empties.
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
    # What a killed run left under a temporary name is nobody's output.
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
    """Have the system write a file, or a folder's list of names, to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _token() -> str:
    return secrets.token_hex(4)


def json_text(content: Any, indent: int = 2) -> str:
    """Return content as JSON; numbers that are not finite are a fault of the caller."""
    return json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)


def write_json(path: str | os.PathLike[str], content: Any, indent: int = 2) -> None:
    """Write content as a JSON file, whole or not at all."""
    text = json_text(content, indent)  # before a file is begun
    with write_file(path) as partial:
        partial.write_text(text + "\n", encoding="utf-8")
