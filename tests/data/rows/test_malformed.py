import pytest
from helpers.malformed_rows import FILES, ROWS

from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError


def ids(cases):
    return [case[0] for case in cases]


@pytest.mark.parametrize(("name", "build", "fragments"), ROWS + FILES, ids=ids(ROWS + FILES))
def test_message_names_place_and_fix(tmp_path, name, build, fragments):
    with pytest.raises(InputError) as caught:
        load_table(build(tmp_path))
    message = str(caught.value)
    assert [part for part in fragments if part not in message] == [], message


@pytest.mark.parametrize(("name", "build", "fragments"), ROWS, ids=ids(ROWS))
def test_bad_rows_can_be_skipped_and_are_counted(tmp_path, name, build, fragments):
    table = load_table(build(tmp_path), skip_invalid=True)
    report = table.report
    assert table.num_pairs + report.rated_responses >= 1
    assert sum(report.invalid.values()) == report.rows_read - report.rows_kept >= 1


@pytest.mark.parametrize(("name", "build", "fragments"), FILES, ids=ids(FILES))
def test_broken_files_cannot_be_skipped(tmp_path, name, build, fragments):
    with pytest.raises(InputError):
        load_table(build(tmp_path), skip_invalid=True)
