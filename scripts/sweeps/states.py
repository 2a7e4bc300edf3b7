"""Rows of a sweep with states, split by prompt into training, validation and test."""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from demo_run import PAIRS_PER_PROMPT, RESPONSES_PER_PROMPT
from numpy.typing import NDArray

from sweeps.options import SweepData, SweepSettings
from vrm_pyro.data.rows.splits import prompt_positions
from vrm_pyro.data.simulation import SPLITS, simulate_texts, write_simulation
from vrm_pyro.data.source import FeatureSource, select_pairs, with_objectives
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs, Ints, without_pairs
from vrm_pyro.features.reading import read_backbone
from vrm_pyro.training.run.inputs import NamedRows, TrainingRows, adopt_store, warn_overlap

#: What is withheld from a smaller training set: whole prompts, or preference labels.
Withheld = Literal["prompts", "labels"]


@dataclass(frozen=True)
class Split:
    """Prompts of one split.

    Args:
        train: Training rows.
        validation: Validation rows.
        test: Test rows.
        test_pair: Index of each test pair in the rows before the split, shape (N,).
        test_prompt: Index of its prompt in the rows before the split, shape (N,).
    """

    train: Inputs
    validation: Inputs
    test: Inputs
    test_pair: Ints
    test_prompt: Ints


class SweepStates:
    """All rows of a sweep with their states.

    Args:
        data: Data settings.
        rows: Training and validation rows, checked.
        train: Training rows, including validation and test rows that are split off them.
        validation: Validation rows, if given.
        test: Test rows, if given.
        identity: JSON values that identify these rows and states.
    """

    def __init__(
        self,
        data: SweepData,
        rows: TrainingRows,
        train: Inputs,
        validation: Inputs | None,
        test: Inputs | None,
        identity: dict[str, Any],
    ) -> None:
        self.data, self.rows, self.identity = data, rows, identity
        self._train, self._validation, self._test = train, validation, test
        self.split = cache(self._split)

    @property
    def rated(self) -> tuple[str, ...]:
        """Rated objectives of the training rows."""
        return self.rows.facts().objectives

    def _split(self, seed: int) -> Split:
        """Return the split of a seed; given parts are the same for every seed.

        Raises:
            InputError: If a part has no pair.
        """
        table, data = self._train.table, self.data
        position = prompt_positions(table, data.split_seed + seed)
        tested = position < (0.0 if self._test else data.test_fraction)
        validated = position >= (1.0 if self._validation else 1 - data.validation_fraction)
        validation = self._validation or _cut(self._train, validated, "validation_fraction")
        if self._test:
            test, kept = self._test, np.ones(self._test.table.num_pairs, dtype=bool)
            whole = test.table
        else:
            test = _cut(self._train, tested, "test_fraction")
            whole, kept = table, tested[table.pair_prompt]
        train = _cut(self._train, ~(tested | validated), "test_fraction")
        return Split(
            train, validation, test, np.flatnonzero(kept), whole.pair_prompt[kept].astype(np.int64)
        )

    def training(
        self, seed: int, split_seed: int, share: float = 1.0, withhold: Withheld = "prompts"
    ) -> FeatureSource:
        """Return a share of the training rows of a split.

        With the same seed, a larger share includes a smaller one.

        Args:
            seed: Seed of the selection.
            split_seed: Seed of the split.
            share: Share of prompts, or of labelled pairs.
            withhold: ``prompts`` withholds whole prompts; ``labels`` withholds preferences only,
                so that all responses keep their ratings.

        Raises:
            InputError: If nothing is left.
        """
        train = self.split(split_seed).train
        count = train.table.num_prompts if withhold == "prompts" else train.table.num_pairs
        kept = np.random.default_rng(seed).permutation(count)[: round(share * count)]
        if len(kept) == 0:
            raise InputError(
                f"a share of {share:g} of {count} {withhold} leaves none to train on; give a "
                "larger one."
            )
        kept = np.sort(kept)
        if share < 1 and withhold == "prompts":
            train = train.select(kept)
        source = train.source
        if share < 1 and withhold == "labels":
            source = select_pairs(source, kept)
        if self.rows.drops("drop_ratings"):
            source = with_objectives(source, ())
        if self.rows.drops("drop_preferences"):
            source = without_pairs(source)
        return source


def read_states(settings: SweepSettings) -> SweepStates:
    """Return the rows that the options name, or simulated rows, with their states.

    Missing states are computed and stored in ``features/`` of the sweep.

    Raises:
        InputError: If rows or stores are not usable, or do not fit each other.
    """
    data, model, out = settings.data, settings.model, settings.out
    features = out / "features"
    if settings.simulated:
        name = f"{settings.given.pairs}-{settings.given.simulation_seed}"
        data = replace(data, train=_simulated(settings, out / "data" / name))
        features = features / name
    rows = TrainingRows.read(data)
    test = None
    if data.test:
        test = NamedRows.read(data.read_as(data.test), data.skip_invalid, "test")
    parts = {"train": rows.train, "validation": rows.validation, "test": test}
    given = {name: part for name, part in parts.items() if part is not None}
    adopt_store(model, [part.store for part in given.values() if part.store is not None])
    backbone = None
    if any(part.store is None for part in given.values()):
        backbone = read_backbone(
            model.backbone,
            pooling=model.pooling,
            layer=model.layer,
            max_length=model.max_length,
            dtype=model.dtype,
            device="cpu" if settings.run.arguments.use_cpu else "auto",
        )
    stores = {name: part.encoded(backbone, features / name) for name, part in given.items()}
    for store in stores.values():
        shared = {k: v for k, v in stores["train"].meta["key"].items() if k != "rows"}
        store.check_key(shared)
    inputs = {name: Inputs.of(store) for name, store in stores.items()}
    if test is not None:
        _check_test(rows, inputs["test"])
    total = inputs["train"].table.num_prompts
    if 0 < data.max_prompts < total:  # rows without states were limited before they were encoded
        order = np.argsort(prompt_positions(inputs["train"].table, data.split_seed), kind="stable")
        some = np.sort(order[: data.max_prompts])
        inputs["train"] = inputs["train"].select(some)
    identity = {name: store.meta["key"] for name, store in stores.items()}
    return SweepStates(
        data, rows, inputs["train"], inputs.get("validation"), inputs.get("test"), identity
    )


def _simulated(settings: SweepSettings, folder: Path) -> list[str]:
    """Return files of simulated rows of all splits, which are split again."""
    if not folder.is_dir():
        simulation = simulate_texts(
            settings.given.pairs,
            settings.given.simulation_seed,
            pairs_per_prompt=PAIRS_PER_PROMPT,
            shared_responses=RESPONSES_PER_PROMPT,
        )
        write_simulation(simulation, folder)
    return [str(folder / f"{split}.jsonl") for split in SPLITS]


def _cut(inputs: Inputs, prompts: NDArray[np.bool_], name: str) -> Inputs:
    table = inputs.table
    if not prompts[table.pair_prompt].any():
        raise InputError(
            f"data.{name}: none of the pairs of {table.num_prompts} prompts falls into this part. "
            "Raise it, change data.split_seed, or name rows for it."
        )
    return inputs.select(prompts)


def _check_test(rows: TrainingRows, test: Inputs) -> None:
    if test.table.num_pairs == 0:
        raise InputError("--data.test holds no pair; name rows with preferences.")
    warn_overlap(rows.train.table, test.table, "test", "training prompts")
