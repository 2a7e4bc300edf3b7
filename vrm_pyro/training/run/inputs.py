"""Read the rows and states that a run trains and validates on."""

import logging
import warnings
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.backbone import Backbone, TransformerBackbone
from vrm_pyro.data.rows import LabelCheck, PreferenceTable, check_label_identification, prompt_key
from vrm_pyro.data.rows.splits import prompt_positions
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs, without_pairs
from vrm_pyro.features.reading import DataLike, backbone_facts, read_data, rows_of, store_reading
from vrm_pyro.features.refused import without_refused
from vrm_pyro.features.sharing import write_together
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.models.checkpoint import STATES_FOLDER
from vrm_pyro.models.settings.config import (
    DataFacts,
    ModelConfig,
    check_data,
    objective_names,
    uses_ratings,
)
from vrm_pyro.models.settings.row_checks import check_rankings
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.finetuning import read_texts
from vrm_pyro.training.preparation import check_validation, data_facts

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NamedRows:
    """The rows of ``data.train`` or ``data.validation``, before anything is computed.

    Args:
        table: The rows.
        store: Their states, if the setting named a store.
    """

    table: PreferenceTable
    store: FeatureStore | None

    @classmethod
    def read(cls, data: DataLike, skip_invalid: bool, split: str) -> "NamedRows":
        """Read rows, or open a store.

        Raises:
            InputError: If they cannot be read, or have states in memory and no store.
        """
        rows = read_data(data, skip_invalid=skip_invalid, split=split)
        if isinstance(rows, Inputs):
            raise InputError(
                f"the {split} rows come with states in memory, which do not say which backbone "
                "made them. Give the rows, or a store that write_store wrote."
            )
        return cls(rows_of(rows), rows if isinstance(rows, FeatureStore) else None)

    def limited(self, max_prompts: int, seed: int) -> "NamedRows":
        """Return the rows of some prompts, selected by a hash of their texts; 0 keeps all."""
        if not 0 < max_prompts < self.table.num_prompts or self.store is not None:
            return self
        return NamedRows(self.table.select_prompts(_first(self.table, max_prompts, seed)), None)

    def encoded(
        self, backbone: Backbone | None, folder: Path, progress: bool = True
    ) -> FeatureStore:
        """Return the store of the rows: the given one, or one computed into ``folder``."""
        if self.store is not None:
            return self.store
        assert backbone is not None
        return write_together(self.table, backbone, folder, progress=progress, cache=True)


@dataclass(frozen=True)
class TrainingStates:
    """Training and validation rows of a run, with states.

    Args:
        train: Training rows.
        validation: Validation rows.
        backbone: Description of the backbone that computed the states, for the checkpoint.
    """

    train: FeatureSource
    validation: Inputs
    backbone: dict[str, Any]


@dataclass(frozen=True)
class TrainingRows:
    """All rows of a run, read and checked, before anything is written.

    Args:
        data: Data settings.
        train: Training rows, including those of held-out prompts if ``validation`` is None.
        validation: Validation rows.
        check: Result of the check whether labels are a function of ratings.
    """

    data: DataConfig
    train: NamedRows
    validation: NamedRows | None
    check: LabelCheck

    @classmethod
    def read(
        cls, data: DataConfig, train: DataLike | None = None, validation: DataLike | None = None
    ) -> "TrainingRows":
        """Read the rows that the settings name, or use the rows given instead.

        Raises:
            InputError: If rows or a store are not usable.
        """
        given = data.train if train is None else train
        held_out = (data.validation or None) if validation is None else validation
        assert given is not None
        known = NamedRows.read(data.read_as(given), data.skip_invalid, "train")
        known = known.limited(data.max_prompts, data.split_seed)
        other = None
        if held_out is not None:
            other = NamedRows.read(data.read_as(held_out), data.skip_invalid, "validation")
            warn_overlap(known.table, other.table, "validation", "training prompts")
        return cls(data, known, other, _check_labels(known.table, data))

    @property
    def stores(self) -> list[FeatureStore]:
        """The stores among the inputs."""
        both = (self.train, self.validation)
        return [item.store for item in both if item is not None and item.store is not None]

    @property
    def needs_backbone(self) -> bool:
        """Whether some rows have no states."""
        both = (self.train, self.validation)
        return any(item is not None and item.store is None for item in both)

    def without_refused(self, backbone: Backbone) -> "TrainingRows":
        """Return the rows without those that the backbone's chat template does not take."""

        def kept(rows: NamedRows | None) -> NamedRows | None:
            if rows is None or rows.store is not None:
                return rows
            return NamedRows(without_refused(rows.table, backbone), None)

        train = kept(self.train)
        assert train is not None
        return replace(self, train=train, validation=kept(self.validation))

    def check_learnable(self, model: ModelConfig) -> None:
        """Raise InputError unless a model with these settings can learn from the rows."""
        table = self.train.table
        if 0 < self.data.max_prompts < table.num_prompts:
            table = table.select_prompts(
                _first(table, self.data.max_prompts, self.data.split_seed)
            )
        if self.validation is None:
            held_out = self._held_out(table)
            validation, table = table.select_prompts(held_out), table.select_prompts(~held_out)
        else:
            validation = self.validation.table
        check_rankings(model, cast(FeatureSource, table))
        check_data(model, self.facts(table))
        trained = data_facts(cast(FeatureSource, table))  # dropped pairs still stop training
        check_validation(model, trained, cast(FeatureSource, validation))

    def facts(self, table: PreferenceTable | None = None) -> DataFacts:
        """Return what settings of a model have to fit in some rows (default: training rows)."""
        rows = self.train.table if table is None else table
        facts = data_facts(cast(FeatureSource, rows))  # it has what is looked at
        if self.drops("drop_ratings"):
            facts = replace(facts, objectives=())
        if self.drops("drop_preferences"):
            facts = replace(facts, num_pairs=0, max_pairs_per_response=0)
        return facts

    def identified(self, model: ModelConfig) -> str:
        """Return what labels and ratings identify together where one follows the other."""
        facts = self.facts()
        both = model.has_latents and uses_ratings(model, facts) and facts.num_pairs > 0
        if not both or not self.check.is_function:
            return ""
        return self.check.identified(objective_names(model, facts))

    def drops(self, choice: str) -> bool:
        """Whether this option is set, and the labels are a function of the ratings."""
        return self.check.is_function and self.data.on_unidentified == choice

    def encoded(
        self, backbone: Backbone | None, run: Path, progress: bool = True
    ) -> TrainingStates:
        """Return the rows with their states, computed where they are missing.

        Args:
            backbone: Backbone that encodes texts; None if all rows have states.
            run: Folder of the run; stores are written below it.
            progress: Whether to show a bar while texts are encoded.
        """
        store = self.train.encoded(backbone, run / STATES_FOLDER / "train", progress)
        train = self.limited(Inputs.of(store))
        if self.validation is None:
            held_out = self._held_out(train.table)
            validation = train.select(held_out)
            train = train.select(~held_out)
        else:
            folder = run / STATES_FOLDER / "validation"
            validation = Inputs.of(self.validation.encoded(backbone, folder, progress))
        return TrainingStates(self.kept(train.source), validation, backbone_facts(store))

    def limited(self, train: Inputs) -> Inputs:
        """Return the states of at most ``data.max_prompts`` prompts of ``data.train``."""
        limit = self.data.max_prompts
        if not 0 < limit < train.table.num_prompts:
            return train
        return train.select(_first(train.table, limit, self.data.split_seed))

    def texts(self, backbone: TransformerBackbone) -> TrainingStates:
        """Return the rows with tokenized texts instead of states, for a backbone that is trained.

        Args:
            backbone: Backbone that encodes them.
        """
        table, limit = self.train.table, self.data.max_prompts
        if 0 < limit < table.num_prompts:
            table = table.select_prompts(_first(table, limit, self.data.split_seed))
        if self.validation is None:
            held_out = self._held_out(table)
            validation = table.select_prompts(np.flatnonzero(held_out))
            table = table.select_prompts(np.flatnonzero(~held_out))
        else:
            validation = self.validation.table
        source = self.kept(Inputs.of(read_texts(table, backbone)).source)
        return TrainingStates(source, Inputs.of(read_texts(validation, backbone)), {})

    def kept(self, source: FeatureSource) -> FeatureSource:
        """Return the training rows without those that ``data.on_unidentified`` drops."""
        if self.drops("drop_ratings"):
            source = with_objectives(source, ())
        if self.drops("drop_preferences"):
            source = without_pairs(source)
        return source

    def _held_out(self, table: PreferenceTable) -> NDArray[np.bool_]:
        """Return which prompts are held out for validation, independent of file and order."""
        share = self.data.validation_fraction
        held_out = prompt_positions(table, self.data.split_seed) >= 1 - share
        if held_out.all() or not held_out.any():
            raise InputError(
                f"data.validation_fraction {share} of {table.num_prompts} prompts leaves none to "
                f"{'train on' if held_out.all() else 'validate on'}. Name rows with "
                "--data.validation, or change data.validation_fraction or data.split_seed."
            )
        return held_out


def adopt_store(model: ModelConfig, stores: list[FeatureStore]) -> None:
    """Set backbone, pooling, layer and maximum length to those that stores were computed with.

    Raises:
        InputError: If a given setting differs from that of a store, or two stores differ.
    """
    defaults = {item.name: item.default for item in fields(ModelConfig)}
    free: dict[str, tuple[Any, ...]] = {name: (value,) for name, value in defaults.items()}
    free["max_length"] += (None,)  # what the backbone takes; the store has the number
    for store in stores:
        key = store.meta["key"]
        found = {
            "backbone": store.meta["backbone"]["name"],
            "pooling": key["pooling"],
            "layer": key.get("layer"),
            "max_length": key["max_length"],
        }
        for name, value in found.items():
            given = getattr(model, name)
            if given not in (*free[name], value):
                raise InputError(
                    f"model.{name} is {given}, but the states in {store.path} were made with "
                    f"{value}. Leave the setting out, or write another store."
                )
            setattr(model, name, value)
        store.check_key({k: v for k, v in stores[0].meta["key"].items() if k != "rows"})


def adopt_reading(data: DataConfig, stores: list[FeatureStore]) -> None:
    """Set reasoning and date to those that stores were computed with.

    Raises:
        InputError: If a given setting differs from that of a store.
    """
    given = data.reading
    for store in stores:
        found = store_reading(store.path)
        assert found is not None
        for name, usual in (("reasoning", "keep"), ("date", None)):
            asked, there = getattr(given, name), getattr(found, name)
            if asked not in (usual, there):
                raise InputError(
                    f"data.{name} is {asked}, but the states in {store.path} were made with "
                    f"{there}. Leave the setting out, or write another store."
                )
            setattr(data, name, there)


def _first(table: PreferenceTable, count: int, seed: int) -> NDArray[np.int64]:
    order = np.argsort(prompt_positions(table, seed), kind="stable")
    return np.sort(order[:count])


def _check_labels(table: PreferenceTable, data: DataConfig) -> LabelCheck:
    check = check_label_identification(table)
    if not check.is_function:
        return check
    chosen = {
        "warn": "Labels and ratings are both used. Keep one of the two with "
        "--data.on_unidentified drop_ratings or drop_preferences",
        "drop_ratings": "The ratings are left out",
        "drop_preferences": "The preferences are left out of training",
    }
    log.warning("%s (%s of the pairs rated).", chosen[data.on_unidentified], check.finding)
    return check


def warn_overlap(known: PreferenceTable, other: PreferenceTable, split: str, told: str) -> None:
    """Warn of prompts of a split that are among the known ones; ``told`` says what those are."""
    keys = {prompt_key(prompt) for prompt in known.prompts}
    shared = sum(prompt_key(prompt) in keys for prompt in other.prompts)
    if shared:
        warnings.warn(
            f"{shared:,} of the {other.num_prompts:,} {split} prompts are {told} too: {split} "
            "metrics will look better than they are.",
            UserWarning,
            stacklevel=2,
        )
