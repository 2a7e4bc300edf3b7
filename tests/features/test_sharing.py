"""Shares of a feature store, computed apart, are the store of one process."""

import logging
import threading

import pytest
from helpers.malformed_stores import small_table
from helpers.tiny_backbones import tiny_backbone

from vrm_pyro.errors import InputError
from vrm_pyro.features.writing import write_shards, write_store

SMALL = {"progress": False, "shard_rows": 4}


def files(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def shares(folder, count=3, table=None):
    for shard in reversed(range(count)):  # in any order
        table = table or small_table()
        write_shards(table, tiny_backbone(), folder, shard=shard, num_shards=count, **SMALL)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "s"
    write_store(small_table(), tiny_backbone(), folder, **SMALL)
    return files(folder)


def test_merged_shares_are_the_store_of_one_process(whole, tmp_path):
    shares(tmp_path / "s")
    assert files(tmp_path / "s") != whole  # unfinished
    write_store(small_table(), tiny_backbone(), tmp_path / "s", merge=True, **SMALL)
    assert files(tmp_path / "s") == whole
    assert sum(name.startswith("responses-") for name in whole) > 2 * 3  # every share has some


def test_shares_at_the_same_time(whole, tmp_path):
    failed = []
    backbones = [tiny_backbone() for _ in range(4)]  # not in the threads: they draw from one seed

    def work(shard):
        share = {"shard": shard, "num_shards": 4}
        try:
            write_shards(small_table(), backbones[shard], tmp_path / "s", **share, **SMALL)
        except InputError as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(shard,)) for shard in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    write_store(small_table(), tiny_backbone(), tmp_path / "s", merge=True, **SMALL)
    assert files(tmp_path / "s") == whole


def test_a_share_goes_on_where_it_was(whole, tmp_path, caplog):
    folder = tmp_path / "s"
    shares(folder, count=2)
    (folder / "responses-00001.npy").unlink()
    cut = folder / "prompts-00001.npy"
    cut.write_bytes(cut.read_bytes()[:-8])
    for _ in range(2):  # the first share has nothing to do with what is missing
        with pytest.raises(InputError, match="2 shards are missing"):
            write_store(small_table(), tiny_backbone(), folder, merge=True, **SMALL)
        write_shards(small_table(), tiny_backbone(), folder, shard=0, num_shards=2, **SMALL)
    with caplog.at_level(logging.INFO):
        write_shards(small_table(), tiny_backbone(), folder, shard=1, num_shards=2, **SMALL)
    assert "prompts-00001.npy" in caplog.text  # that it was damaged
    write_store(small_table(), tiny_backbone(), folder, merge=True, **SMALL)
    assert files(folder) == whole


def test_merging_nothing_and_other_rows_are_errors(tmp_path):
    with pytest.raises(InputError, match="holds no shards to merge"):
        write_store(small_table(), tiny_backbone(), tmp_path / "s", merge=True, **SMALL)
    shares(tmp_path / "s", count=2)
    with pytest.raises(InputError, match="different rows"):
        shares(tmp_path / "s", count=2, table=small_table(9))
