"""Artefacts and options that somebody changed: exit code 2 with the place, never a traceback."""

import pytest
from helpers.tampered import GROUPS, make_tampered_workspace
from helpers.tampering import judge
from helpers.workspace import shared_by_workers

#: Groups that need no more than the workspace of other tests; every run tries one of each.
QUICK = (
    "description",
    "weights",
    "store",
    "arrays",
    "texts",
    "manifest",
    "score parts",
    "options",
)


@pytest.fixture(scope="session")
def tampered(place, tmp_path_factory):
    """The workspace with draws, findings and an export."""
    return shared_by_workers(
        tmp_path_factory, "tampered", lambda folder: make_tampered_workspace(place, folder)
    )


def wrong(trials, place, folder):
    """Return what went wrong, by the name of the trial."""
    found = {}
    for number, trial in enumerate(trials):
        own = folder / str(number)
        own.mkdir()
        problem = judge(trial, place, own)
        if problem is not None:
            found[trial.name] = problem
    return found


@pytest.mark.parametrize("group", QUICK)
def test_one_is_refused(group, place, tmp_path):
    assert wrong(GROUPS[group](place)[1:2], place, tmp_path) == {}


@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_all_are_refused(group, tampered, tmp_path):
    assert wrong(GROUPS[group](tampered), tampered, tmp_path) == {}


@pytest.mark.slow
def test_there_are_many(tampered):
    names = [trial.name for make in GROUPS.values() for trial in make(tampered)]
    assert len(names) >= 600
