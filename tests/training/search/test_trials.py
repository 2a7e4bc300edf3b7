"""Trials in a shared storage: equal budgets, none lost or counted twice, hopeless ones stopped."""

from contextlib import closing

import pytest

from vrm_pyro.training.search.dimension import Choices, Range
from vrm_pyro.training.search.space import Space
from vrm_pyro.training.search.trials import Trials

SPACE = Space((Range("train.learning_rate", 1e-4, 1.0, log=True),))


def make(folder, budget, *names, **changes):
    """Return trials of some configs that are searched in one range."""
    names = names or ("one",)
    given = {"spaces": dict.fromkeys(names, SPACE), "start": dict.fromkeys(names, {})} | changes
    return Trials(folder, given.pop("spaces"), budget, given.pop("start"), **given)


def values(trials, name="one"):
    """Return the settings of all trials of a config."""
    return [entry.values["train.learning_rate"] for entry in trials.entries(name)]


def test_processes_share_equal_budgets(tmp_path):
    first, second = (make(tmp_path, 3, "one", "two") for _ in range(2))
    order = []
    with closing(first.claims()) as ours, closing(second.claims()) as theirs:
        for turn in range(3):
            pair = [next(ours), next(theirs)]
            order += [(claim.config, claim.number) for claim in pair]
            for claim in pair:
                claim.finish("complete", loss=1.0)
            assert first.num_finished() == 2 * turn + 2
        assert next(ours, None) is None
        assert next(theirs, None) is None
    assert sorted(order) == [(name, number) for name in ("one", "two") for number in range(3)]
    assert len(set(values(first))) == 3
    assert not list((tmp_path / "workers").iterdir())


def test_a_trial_of_an_ended_process_is_taken_over_with_its_settings(tmp_path):
    ended = make(tmp_path, 2)
    with closing(ended.claims()) as claims:
        lost = next(claims)
        assert not lost.report(0, 0.5)
        living = make(tmp_path, 2)
        with closing(living.claims()) as others:
            assert next(others).number == 1  # the other one lives
            claims.close()  # as a kill: the system frees the lock
            (entry, _) = living.entries("one")
            assert entry.state == "running"
            resumed = next(make(tmp_path, 2).claims())
    assert (resumed.number, resumed.values) == (0, lost.values)
    assert not resumed.report(0, 0.5)  # known already: no warning
    resumed.finish("complete", loss=0.5)
    assert [e.state for e in living.entries("one")] == ["complete", "running"]


def test_a_larger_budget_goes_on_with_the_draws_of_an_uninterrupted_search(tmp_path):
    def run(folder, budget):
        folder.mkdir(exist_ok=True)
        trials = make(folder, budget, seed=3)
        for claim in trials.claims():
            claim.finish("complete", loss=claim.values["train.learning_rate"])
        return values(trials)

    whole = run(tmp_path / "whole", 14)  # the sampler learns from the eleventh on
    assert run(tmp_path / "parts", 5) == whole[:5]
    assert run(tmp_path / "parts", 14) == whole


def test_the_first_trial_has_the_settings_of_the_config(tmp_path):
    space = Space((*SPACE.dimensions, Choices("model.scores", ("linear", "identity"))))
    start = space.stored({"model.scores": "identity", "train.learning_rate": 7.0})
    trials = make(tmp_path, 1, spaces={"one": space}, start={"one": start})
    claim = next(trials.claims())
    assert claim.values["model.scores"] == "identity"
    assert claim.values["train.learning_rate"] < 1  # 7 does not lie in the space


@pytest.mark.parametrize("prune", [True, False])
def test_a_trial_above_the_median_of_its_folds_is_stopped(tmp_path, prune):
    trials = make(tmp_path, 8, prune=prune)
    # The first fold is easy, so the lowest value so far would say nothing.
    losses = [[0.2, 0.5, 0.6]] * 5 + [[0.2, 0.6, 0.7], [0.3, 0.3, 0.3], [0.1, 0.4, 0.5]]
    stopped = {}
    for claim in trials.claims():
        for step, loss in enumerate(losses[claim.number]):
            if claim.report(step, loss):
                stopped[claim.number] = step
                claim.finish("pruned", cells=["a"])
                break
        else:
            claim.finish("complete", loss=loss)
    assert stopped == ({5: 1, 6: 0} if prune else {})
    assert [e.number for e in trials.entries("one") if e.state == "pruned"] == list(stopped)
