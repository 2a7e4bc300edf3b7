"""The trials of a search in Optuna's SQLite storage, shared by several processes.

A trial counts once it has a number. That of a process that has ended is taken over by another,
with its settings, so no trial is lost and none counts twice.
"""

import logging
import time
import uuid
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from vrm_pyro.errors import InputError
from vrm_pyro.training.search.space import Space

if TYPE_CHECKING:
    import optuna

STORAGE = "search.db"
#: Its name is that of a temporary file, so that claim_directory takes the folder for empty.
LOCK = ".lock.partial"
WORKERS = "workers"
POLL_SECONDS = 0.5
#: Seconds that a process waits for another one's write to the storage.
BUSY_SECONDS = 120
# Optuna's median pruner compares the lowest value that a trial has reported so far with others
# at the same step. Folds differ in difficulty, so an easy first fold would always be the lowest.
# A drop that no log loss reaches (at most 16.7 nats) makes it the value of the current step.
_DROP = 20.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """What is stored about a trial.

    Args:
        config: Name of its config.
        number: From 0, in the order of the start.
        state: ``complete``, ``pruned``, ``failed`` or ``running``.
        values: Its settings by dotted key.
        cells: Names of its results, one for each seed and fold that was run.
        error: Why it failed.
    """

    config: str
    number: int
    state: str
    values: Mapping[str, Any]
    cells: tuple[str, ...] = ()
    error: str | None = None


class Claim:
    """A trial that this process runs.

    Args:
        config: Name of its config.
        trial: Optuna's trial.
        values: Its settings by dotted key.
        reported: Steps that were reported before a kill.
    """

    def __init__(
        self, config: str, trial: "optuna.Trial", values: dict[str, Any], reported: set[int]
    ) -> None:
        self.config, self.values, self._trial, self._reported = config, values, trial, reported
        self.number: int = trial.number

    def report(self, step: int, loss: float) -> bool:
        """Report the mean loss up to a step; return whether the trial is to be pruned."""
        if step not in self._reported:
            self._trial.report(loss - _DROP * step, step)
        return self._trial.should_prune()

    def finish(
        self,
        state: str,
        *,
        loss: float | None = None,
        cells: Sequence[str] = (),
        error: str | None = None,
    ) -> None:
        """Store the result: ``complete`` with a loss, ``pruned``, or ``failed`` with an error."""
        from optuna.trial import TrialState  # as in Trials

        self._trial.set_user_attr("cells", list(cells))
        if error is not None:
            self._trial.set_user_attr("error", error)
        states = {
            "complete": TrialState.COMPLETE,
            "pruned": TrialState.PRUNED,
            "failed": TrialState.FAIL,
        }
        self._trial.study.tell(self._trial, loss, state=states[state])


class Trials:
    """All trials of a search.

    Args:
        folder: Folder of the search.
        spaces: The space of each config.
        budget: Trials of each config, those of all processes and restarts together.
        start: Settings of the first trial of each config that lie in its space.
        seed: Seed of the sampler.
        prune: Whether to stop trials early.

    Raises:
        InputError: If Optuna is not installed.
    """

    def __init__(
        self,
        folder: Path,
        spaces: Mapping[str, Space],
        budget: int,
        start: Mapping[str, Mapping[str, Any]],
        *,
        seed: int = 0,
        prune: bool = True,
    ) -> None:
        optuna = load_optuna()
        self._folder, self._spaces, self._budget = folder, spaces, budget
        self._start, self._seed = start, seed
        self._lock = FileLock(folder / LOCK)
        with self._lock:  # two processes must not both create the tables
            storage = optuna.storages.RDBStorage(
                f"sqlite:///{(folder / STORAGE).resolve()}",
                engine_kwargs={"connect_args": {"timeout": BUSY_SECONDS}},
            )
            pruner = optuna.pruners.MedianPruner() if prune else optuna.pruners.NopPruner()
            self._studies = {
                name: optuna.create_study(
                    study_name=name,
                    storage=storage,
                    pruner=pruner,
                    direction="minimize",
                    load_if_exists=True,
                )
                for name in spaces
            }

    def claims(self) -> Generator[Claim, None, None]:
        """Yield trials to run until all budgets are used and no process runs one any more."""
        with self._worker() as worker:
            while True:
                with self._lock:
                    claim, running = self._next(worker)
                if claim is not None:
                    yield claim
                elif running:
                    time.sleep(POLL_SECONDS)
                else:
                    return

    def entries(self, config: str) -> list[Entry]:
        """Return what is stored about the trials of a config, in order."""
        found = []
        for trial in self._studies[config].get_trials(deepcopy=False):
            attributes = trial.user_attrs
            if trial.state.name == "WAITING":
                continue
            state = {"FAIL": "failed"}.get(trial.state.name, trial.state.name.lower())
            found.append(
                Entry(
                    config,
                    trial.number,
                    state,
                    attributes.get("values", {}),
                    tuple(attributes.get("cells", ())),
                    attributes.get("error"),
                )
            )
        return found

    def num_finished(self) -> int:
        """Return how many trials of all configs have ended."""
        return sum(
            entry.state != "running" for name in self._studies for entry in self.entries(name)
        )

    def _next(self, worker: str) -> tuple[Claim | None, bool]:
        """Return a trial to run, if there is one, and whether another process runs one."""
        from optuna.trial import Trial, TrialState  # as in __init__

        counts, running = {}, False
        for name, study in self._studies.items():
            trials = study.get_trials(deepcopy=False)
            for trial in trials:
                if trial.state != TrialState.RUNNING:
                    continue
                if self._is_alive(trial.user_attrs.get("worker")):
                    running = True
                    continue
                log.info("%s: trial %d of an ended process is resumed", name, trial.number)
                own = Trial(study, trial._trial_id)  # Optuna has no public way to resume a trial
                return self._claim(name, own, worker, set(trial.intermediate_values)), running
            counts[name] = sum(trial.state != TrialState.WAITING for trial in trials)
        name = min(counts, key=lambda name: counts[name])
        if counts[name] >= self._budget:
            return None, running
        study = self._studies[name]
        if not study.trials:
            study.enqueue_trial(dict(self._start[name]))
        return self._claim(name, study.ask(), worker, set()), running

    def _claim(self, name: str, trial: "optuna.Trial", worker: str, reported: set[int]) -> Claim:
        from optuna.samplers import TPESampler  # as in __init__

        trial.set_user_attr("worker", worker)
        # A seed for each trial: processes draw different values, and a resumed search the same.
        trial.study.sampler = TPESampler(seed=self._seed + trial.number)
        values = self._spaces[name].suggest(trial)
        trial.set_user_attr("values", values)
        return Claim(name, trial, values, reported)

    @contextmanager
    def _worker(self) -> Iterator[str]:
        """Hold a lock for as long as this process works; the system frees it at a kill."""
        (self._folder / WORKERS).mkdir(exist_ok=True)
        worker = uuid.uuid4().hex
        path = self._folder / WORKERS / worker
        with FileLock(path):
            try:
                yield worker
            finally:
                path.unlink(missing_ok=True)

    def _is_alive(self, worker: str | None) -> bool:
        if worker is None:  # killed before it could say who it was
            return False
        path = self._folder / WORKERS / worker
        if not path.is_file():
            return False
        try:
            with FileLock(path, timeout=0):
                pass
        except Timeout:
            return True
        path.unlink(missing_ok=True)
        return False


def load_optuna() -> Any:
    """Return Optuna, without its messages about each trial.

    Raises:
        InputError: If it is not installed.
    """
    try:
        import optuna  # optional
    except ImportError as error:
        raise InputError(
            'a search needs Optuna, which is not installed: pip install "vrm-pyro[search]".'
        ) from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna
