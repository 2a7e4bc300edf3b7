import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from vrm_pyro.atomic import claim_directory, write_directory, write_file
from vrm_pyro.errors import InputError


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def fill(folder, text="new"):
    (folder / "sub").mkdir()
    (folder / "sub" / "a.txt").write_text(text)


def fill_and_stop(folder):
    fill(folder)
    raise KeyboardInterrupt


def fill_while_another_writes(folder, other):
    fill(folder)
    other.mkdir()
    (other / "other.txt").write_text("theirs")


def write_half(file):
    file.write_text("half")
    raise ValueError("not JSON")


# Files


def test_file_appears_only_when_the_block_ends(tmp_path):
    out = tmp_path / "deep" / "er" / "metrics.json"
    with write_file(out) as partial:
        partial.write_text("{}")
        assert not out.exists()
        assert partial.parent == out.parent
    assert out.read_text() == "{}"
    assert names(out.parent) == ["metrics.json"]


@pytest.mark.parametrize("name", ["plot.png", "rows.jsonl.gz", "draws.nc"])
def test_partial_file_keeps_the_ending_that_writers_look_at(tmp_path, name):
    with write_file(tmp_path / name) as partial:
        partial.touch()
        assert partial.suffix == Path(name).suffix


def test_failed_block_keeps_the_old_file_and_leaves_nothing(tmp_path):
    out = tmp_path / "metrics.json"
    out.write_text("old")
    with pytest.raises(ValueError, match="not JSON"), write_file(out) as partial:
        write_half(partial)
    assert out.read_text() == "old"
    assert names(tmp_path) == ["metrics.json"]


def test_failed_block_removes_the_folders_it_made_but_no_others(tmp_path):
    (tmp_path / "kept").mkdir()
    with pytest.raises(ZeroDivisionError), write_file(tmp_path / "kept" / "a" / "b" / "m.json"):
        _ = 1 / 0
    assert names(tmp_path) == ["kept"]
    assert names(tmp_path / "kept") == []


def test_block_that_writes_nothing_is_an_error_of_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError), write_file(tmp_path / "m.json"):
        pass
    assert names(tmp_path) == []


def test_file_permissions_follow_the_umask(tmp_path):
    old = os.umask(0o027)
    try:
        with write_file(tmp_path / "m.json") as partial:
            partial.write_text("x")
    finally:
        os.umask(old)
    assert (tmp_path / "m.json").stat().st_mode & 0o777 == 0o640


def test_link_is_followed_and_stays_a_link(tmp_path):
    (tmp_path / "real.json").write_text("old")
    (tmp_path / "link.json").symlink_to("real.json")
    with write_file(tmp_path / "link.json") as partial:
        partial.write_text("new")
    assert (tmp_path / "link.json").is_symlink()
    assert (tmp_path / "real.json").read_text() == "new"


def test_folder_and_device_are_refused_as_files(tmp_path):
    with pytest.raises(InputError, match="is a folder"), write_file(tmp_path):
        pytest.fail("the block must not run")
    # Renaming over it would replace the device for the whole machine.
    with pytest.raises(InputError, match="not a regular file"), write_file("/dev/null"):
        pytest.fail("the block must not run")


def test_file_below_a_file_is_refused_by_name(tmp_path):
    (tmp_path / "a").write_text("")
    with pytest.raises(InputError, match="cannot be made"), write_file(tmp_path / "a" / "m.json"):
        pytest.fail("the block must not run")


def test_kill_in_the_block_leaves_the_old_file(tmp_path):
    out = tmp_path / "m.json"
    out.write_text("old")
    code = (
        "import os, signal, sys\n"
        "from vrm_pyro.atomic import write_file\n"
        "with write_file(sys.argv[1]) as partial:\n"
        "    partial.write_text('half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    run = subprocess.run([sys.executable, "-c", code, out], check=False)
    assert run.returncode == -signal.SIGKILL
    assert out.read_text() == "old"


# Directories


@pytest.mark.parametrize("exists", [False, True])
def test_directory_appears_whole(tmp_path, exists):
    out = tmp_path / "store"
    if exists:
        out.mkdir()
    with write_directory(out) as partial:
        fill(partial)
        assert not (out / "sub").exists()
    assert (out / "sub" / "a.txt").read_text() == "new"
    assert names(tmp_path) == ["store"]


def test_directory_with_files_is_refused_before_the_work(tmp_path):
    fill(tmp_path / ".", "old")
    with pytest.raises(InputError, match="--overwrite"), write_directory(tmp_path):
        pytest.fail("the block must not run")
    assert (tmp_path / "sub" / "a.txt").read_text() == "old"


def test_directory_written_by_another_run_meanwhile_is_kept(tmp_path):
    out = tmp_path / "store"
    with pytest.raises(InputError, match="--overwrite"), write_directory(out) as partial:
        fill_while_another_writes(partial, out)
    assert names(tmp_path) == ["store"]
    assert names(out) == ["other.txt"]


def test_overwrite_replaces_the_whole_directory(tmp_path):
    out = tmp_path / "store"
    out.mkdir()
    (out / "stale.txt").write_text("old")
    with write_directory(out, overwrite=True) as partial:
        fill(partial)
        assert names(out) == ["stale.txt"]
    assert names(out) == ["sub"]
    assert names(tmp_path) == ["store"]


@pytest.mark.parametrize("overwrite", [False, True])
def test_failed_directory_leaves_what_was_there(tmp_path, overwrite):
    out = tmp_path / "store"
    if overwrite:
        out.mkdir()
        (out / "old.txt").write_text("old")
    before = names(tmp_path)
    with pytest.raises(KeyboardInterrupt), write_directory(out, overwrite=overwrite) as partial:
        fill_and_stop(partial)
    assert names(tmp_path) == before
    assert not overwrite or names(out) == ["old.txt"]


def test_failed_exchange_puts_the_old_directory_back(tmp_path, monkeypatch):
    out = tmp_path / "store"
    out.mkdir()
    (out / "old.txt").write_text("old")
    rename = Path.rename

    def fail_on_partial(self, target):
        if self.name.endswith(".partial"):
            raise OSError("disk is gone")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail_on_partial)
    with (
        pytest.raises(OSError, match="disk is gone"),
        write_directory(out, overwrite=True) as partial,
    ):
        fill(partial)
    assert names(tmp_path) == ["store"]
    assert names(out) == ["old.txt"]


def test_file_is_refused_as_a_directory(tmp_path):
    (tmp_path / "store").write_text("")
    with (
        pytest.raises(InputError, match="is a file"),
        write_directory(tmp_path / "store", overwrite=True),
    ):
        pytest.fail("the block must not run")


@pytest.mark.parametrize("above", [".", ".."])
def test_no_option_replaces_the_working_folder(tmp_path, monkeypatch, above):
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "thesis.tex").write_text("years")
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(InputError, match="working folder"), write_directory(above, overwrite=True):
        pytest.fail("the block must not run")
    with pytest.raises(InputError, match="working folder"):
        claim_directory(above, marker="run.yaml", content="a", overwrite=True)
    assert (tmp_path / "here" / "thesis.tex").read_text() == "years"


# Claims


def claim(folder, content="a", **options):
    return claim_directory(folder, marker="run.yaml", content=content, **options)


def test_claim_begins_then_resumes_the_same_run(tmp_path):
    out = tmp_path / "runs" / "first"
    assert claim(out) is False
    (out / "checkpoint").write_text("1")
    assert claim(out) is True
    assert names(out) == ["checkpoint", "run.yaml"]


def test_claim_refuses_another_run_and_unknown_files(tmp_path):
    claim(tmp_path / "first")
    with pytest.raises(InputError, match="another run .*--overwrite"):
        claim(tmp_path / "first", "b")
    with pytest.raises(InputError, match="holds files already"):
        claim(tmp_path)


def test_remains_of_a_killed_start_do_not_block_the_next(tmp_path):
    out = tmp_path / "first"
    out.mkdir()
    (out / ".run.0a1b2c3d.partial.yaml").write_text("ha")
    assert claim(out) is False
    assert claim(out) is True


def test_claim_with_overwrite_empties_a_run_but_never_unknown_files(tmp_path):
    out = tmp_path / "first"
    claim(out)
    (out / "checkpoint").write_text("1")
    assert claim(out, "b", overwrite=True) is False
    assert names(out) == ["run.yaml"]
    (out / "run.yaml").rename(out / "notes.txt")
    assert claim(out, "b", overwrite=True) is False
    assert names(out) == ["notes.txt", "run.yaml"]
    assert names(tmp_path) == ["first"]


def test_claim_with_overwrite_starts_the_same_run_afresh(tmp_path):
    claim(tmp_path / "first")
    (tmp_path / "first" / "checkpoint").write_text("1")
    assert claim(tmp_path / "first", overwrite=True) is False
    assert names(tmp_path / "first") == ["run.yaml"]
