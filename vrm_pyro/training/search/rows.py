"""The rows of a search: folds by prompt, and states that trials share."""

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from filelock import FileLock
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt
from vrm_pyro.data.rows.splits import prompt_positions
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.reading import DataLike, store_reading
from vrm_pyro.features.store import FeatureStore, open_store
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.run.backbone import backbone_of
from vrm_pyro.training.run.inputs import NamedRows, TrainingRows, adopt_store, warn_overlap
from vrm_pyro.training.run.settings import RunSettings

#: Settings of the model that decide its states: each combination is computed once.
STATE_SETTINGS = tuple(
    item.name
    for item in fields(ModelConfig)
    if item.name in ("backbone", "layer", "pooling", "max_length", "dtype")
)
STATES_LOCK = ".states.lock"

Ints = NDArray[np.int64]
Mask = NDArray[np.bool_]


class Plan(NamedTuple):
    """How rows are divided.

    Attributes:
        folds: Number of folds; every pair is held out once by each seed.
        seeds: Number of seeds; each has other folds and other initial values.
    """

    folds: int
    seeds: int


@dataclass(frozen=True)
class Part:
    """The rows of one training: to train on, to stop by, and to measure on.

    Args:
        name: Identifies it among the parts of a search.
        seed: Index of the seed.
        train: Training rows.
        validation: Rows for early stopping.
        held_out: Rows that this training does not see.
        position: Place of each of their pairs among those of the table, shape (N,). Pairs whose
            responses the backbone cannot tell apart have no states, and are missing.
        pairs: All held-out pairs of the table, rising, shape (M,).
    """

    name: str
    seed: int
    train: FeatureSource
    validation: FeatureSource
    held_out: FeatureSource
    position: Ints
    pairs: Ints


class _States(NamedTuple):
    """States of a table, and the index of each of their pairs in the table."""

    inputs: Inputs
    pairs: Ints


class SearchRows:
    """All rows of a search.

    Args:
        base: Settings that say which rows to read; those of all configs agree.
        test: Rows that no trial sees.
        plan: How rows are divided.
        folder: Folder of the search; states are written below it.
        progress: Whether to show a bar while texts are encoded.

    Raises:
        InputError: If rows are not usable, or some part of them would hold no pair.
    """

    def __init__(
        self,
        base: RunSettings,
        test: DataLike | None,
        plan: Plan,
        folder: Path,
        progress: bool = False,
    ) -> None:
        self.plan, self._data, self._folder, self._progress = plan, base.data, folder, progress
        self._rows = _read(base)
        self._test = None if test is None else _read_test(test, self._rows, base)
        self.table = self._table()
        self.stores = self._rows.stores
        if self._test is not None and self._test.store is not None:
            self.stores.append(self._test.store)
        self._known: dict[str, _States] = {}
        self.held_out = cache(self._held_out)
        self.stopping = cache(self._stopping)
        self._check()

    @property
    def test_table(self) -> PreferenceTable | None:
        """The test rows."""
        return None if self._test is None else self._test.table

    def identity(self) -> dict[str, Any]:
        """Return JSON values that identify rows and folds, test rows apart."""
        data = self._data
        return {
            "rows": self.table.content_hash(),
            "folds": self.plan.folds,
            "seeds": self.plan.seeds,
            "split_seed": data.split_seed,
            "validation_fraction": data.validation_fraction,
            "on_unidentified": data.on_unidentified if self._rows.check.is_function else None,
        }

    def adopt(self, settings: RunSettings) -> None:
        """Set what a store decides in the settings of a trial.

        Raises:
            InputError: If a setting differs from that of a store.
        """
        adopt_store(settings.model, self.stores)
        for name in set(STATE_SETTINGS) & set(settings.values["model"]):
            settings.values["model"][name] = getattr(settings.model, name)

    def check_learnable(self, settings: RunSettings) -> None:
        """Raise InputError unless a model with these settings can learn from the rows."""
        self._rows.check_learnable(settings.model)

    def steps(self) -> list[tuple[int, int]]:
        """Return seed and fold of every training of a trial, in order."""
        return [(s, k) for s in range(self.plan.seeds) for k in range(self.plan.folds)]

    def held_out_pairs(self, seed: int, fold: int) -> Ints:
        """Return the pairs of a fold, rising, shape (M,)."""
        return np.flatnonzero(self.held_out(seed, fold)[self.table.pair_prompt])

    def part(self, settings: RunSettings, seed: int, fold: int) -> Part:
        """Return the rows of a training on all folds but one."""
        states, held_out = self._states(settings, "train"), self.held_out(seed, fold)
        stopping = self.stopping(seed, fold)
        inputs = states.inputs
        kept = np.flatnonzero(held_out[inputs.table.pair_prompt])
        pairs = self.held_out_pairs(seed, fold)
        return Part(
            f"seed {seed}, fold {fold}",
            seed,
            self._rows.kept(inputs.select(~held_out & ~stopping).source),
            inputs.select(stopping).source,
            inputs.select(held_out).source,
            np.searchsorted(pairs, states.pairs[kept]),
            pairs,
        )

    def test_part(self, settings: RunSettings, seed: int) -> Part:
        """Return the rows of a training on all folds, to measure on the test rows."""
        assert self._test is not None
        train, test = self._states(settings, "train"), self._states(settings, "test")
        stopping = self.stopping(seed, -1)
        return Part(
            f"test {self._test.table.content_hash()}, seed {seed}",
            seed,
            self._rows.kept(train.inputs.select(~stopping).source),
            train.inputs.select(stopping).source,
            test.inputs.source,
            test.pairs,
            np.arange(self._test.table.num_pairs),
        )

    def prepare(self, settings: RunSettings) -> None:
        """Compute the states that these settings need, unless they are there."""
        for name in ("train", *(() if self._test is None else ("test",))):
            self._states(settings, name)

    def _table(self) -> PreferenceTable:
        given = self._rows.train
        if given.store is None:
            return given.table
        return self._rows.limited(Inputs.of(given.store)).table

    def _held_out(self, seed: int, fold: int) -> Mask:
        """Return which prompts a fold holds out, shape (P,)."""
        return fold_by_prompt(self.table, self.plan.folds, self._data.split_seed + seed) == fold

    def _stopping(self, seed: int, fold: int) -> Mask:
        """Return which prompts stop training, shape (P,); fold -1 holds out none."""
        # Other prompts for each fold: the same ones would never be trained on.
        salt = (self._data.split_seed + seed) * (self.plan.folds + 1) + fold + 1
        chosen = prompt_positions(self.table, salt) >= 1 - self._data.validation_fraction
        return chosen & ~self.held_out(seed, fold)

    def _check(self) -> None:
        owner = self.table.pair_prompt[self.table.pair_weight > 0]
        last = [(seed, -1) for seed in range(self.plan.seeds) if self._test is not None]
        for seed, fold in [*self.steps(), *last]:
            held_out, stopping = self.held_out(seed, fold), self.stopping(seed, fold)
            for name, prompts, remedy in (
                ("to measure on", held_out, "Use fewer folds"),
                ("to stop training by", stopping, "Raise data.validation_fraction"),
                ("to train on", ~(held_out | stopping), "Lower data.validation_fraction"),
            ):
                if not prompts[owner].any() and not (fold < 0 and prompts is held_out):
                    raise InputError(
                        f"{self.plan.folds} folds of {self.table.num_prompts} prompts: fold "
                        f"{fold + 1} of seed {seed + 1} has no pair {name}. {remedy}, or give "
                        "more rows."
                    )

    def _states(self, settings: RunSettings, name: str) -> _States:
        key = {item: getattr(settings.model, item) for item in STATE_SETTINGS}
        given = self._rows.train if name == "train" else self._test
        assert given is not None
        key["rows"] = given.table.content_hash()
        text = json.dumps(key, sort_keys=True)
        if text not in self._known:
            digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
            store = self._store(settings, given, self._folder / "states" / f"{name}-{digest}")
            inputs, pairs = Inputs.of(store), np.asarray(store.table_pairs, dtype=np.int64)
            if given.store is not None:  # the table is that of the store
                inputs = self._rows.limited(inputs) if name == "train" else inputs
                pairs = np.arange(inputs.table.num_pairs)
            self._known[text] = _States(inputs, pairs)
        return self._known[text]

    def _store(self, settings: RunSettings, given: NamedRows, folder: Path) -> FeatureStore:
        if given.store is not None:
            return given.store
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(self._folder / STATES_LOCK):  # other processes wait, then find the states
            try:
                return open_store(folder)
            except InputError:
                made = (store_reading(path) for path in folder.parent.glob("*"))
                kept = next((found for found in made if found is not None), None)
                if kept is not None:  # a search that goes on another day
                    settings.data.date = settings.data.date or kept.date
                backbone = backbone_of(settings)
                for store in self.stores:
                    store.check_key(backbone.key())
                return given.encoded(backbone, folder, self._progress)


def _read(base: RunSettings) -> TrainingRows:
    named = base.data.train if base.train_rows is None else base.train_rows
    assert named is not None  # checked before
    given = NamedRows.read(base.data.read_as(named), base.data.skip_invalid, "train")
    if given.table.num_pairs == 0:
        raise InputError(
            "data.train holds no pair, but a search measures how well pairs are predicted. Name "
            "rows with preferences."
        )
    return TrainingRows.read(base.data, given.store or given.table)


def _read_test(test: DataLike, rows: TrainingRows, base: RunSettings) -> NamedRows:
    found = NamedRows.read(base.data.read_as(test), base.data.skip_invalid, "test")
    if found.table.num_pairs == 0:
        raise InputError("--test holds no pair; name rows with preferences.")
    warn_overlap(rows.train.table, found.table, "test", "prompts of the search")
    return found
