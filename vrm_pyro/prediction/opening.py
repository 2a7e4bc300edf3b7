"""Open a trained model, and rows with the states that it reads, in whatever form they come.

Every function of the library that takes a model calls :func:`as_model` or :func:`as_scorer`; every
one that takes rows for a model calls :func:`read_inputs`. So each accepts the same things.
"""

import logging
import os
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple, TypeAlias, cast

import numpy as np
import torch
from torch import nn

from vrm_pyro.backbone import Backbone
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.reading import (
    DataLike,
    backbone_facts,
    backbone_name,
    differing_facts,
    read_data,
    rows_of,
)
from vrm_pyro.features.store import FeatureStore
from vrm_pyro.features.tokens import cut_summary
from vrm_pyro.models.checkpoint import LoadedModel, load_model
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.models.settings.row_checks import warn_ignored_margins
from vrm_pyro.prediction.scorer import Scorer, backbone_of

log = logging.getLogger(__name__)

ModelLike: TypeAlias = str | os.PathLike[str] | LoadedModel | Scorer
"""A trained model in any form: the folder of its run (a path, or the
:class:`~vrm_pyro.training.run.run.Run` that ``fit`` returns), a loaded model, or a scorer."""


def as_model(
    model: ModelLike, *, classes: Sequence[type] = (), backbone: str | Backbone | None = None
) -> LoadedModel:
    """Return a trained model with its settings; its backbone is not loaded.

    Args:
        model: The model in any form.
        classes: A user's own prior, guide or likelihood classes, for a model in a folder.
        backbone: Where the model's backbone is now, if it was moved; or the backbone itself.

    Raises:
        InputError: If a folder holds no model, or one that is damaged.
    """
    if isinstance(model, Scorer):
        return model.loaded
    loaded = model if isinstance(model, LoadedModel) else load_model(os.fspath(model), classes)
    if backbone is None or isinstance(backbone, Backbone):
        return loaded
    return replace(loaded, backbone={**loaded.backbone, "name": backbone_name(backbone)})


def model_name(model: ModelLike) -> str:
    """Return what a model is called in tables: its folder."""
    loaded = model.loaded if isinstance(model, Scorer) else model
    folder = loaded.directory if isinstance(loaded, LoadedModel) else loaded
    return "model" if folder is None else str(folder)


def as_scorer(
    model: ModelLike,
    *,
    classes: Sequence[type] = (),
    backbone: str | Backbone | None = None,
    device: str | torch.device = "auto",
    dtype: str | None = None,
) -> Scorer:
    """Return a trained model with its backbone, ready to read text.

    Args:
        model: The model in any form. A scorer is returned as it is.
        classes: See :func:`as_model`.
        backbone: See :func:`as_model`.
        device: Where to run; ``auto`` is the GPU when there is one.
        dtype: Precision of the backbone; that of training when omitted.

    Raises:
        InputError: If model or backbone is missing, damaged, or they do not fit.
    """
    if isinstance(model, Scorer):
        return model
    loaded = as_model(model, classes=classes, backbone=backbone)
    if isinstance(backbone, Backbone):
        return Scorer(loaded, backbone)
    try:
        found = backbone_of(loaded, device=device, dtype=dtype or loaded.config.dtype)
    except RuntimeError as error:
        if device == "auto":
            raise
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error
    return Scorer(loaded, found)


def read_inputs(
    model: ModelLike,
    data: DataLike,
    *,
    needs_pairs: bool = False,
    needs_outcomes: bool = False,
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    progress: bool = False,
    cache: bool = True,
) -> Inputs:
    """Return rows with the states that a model reads, computed where they are missing.

    Logs how many texts were cut to the length that the backbone reads, and how many pairs were
    dropped because they became equal.

    Args:
        model: The model in any form.
        data: Rows in any form, or inputs, which are returned as they are.
        needs_pairs: Refuse rows without a comparison, before any text is encoded.
        needs_outcomes: Refuse rows with neither a comparison nor a rating that the model
            foretells.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        device: Where the backbone runs, if it has to.
        dtype: Its precision; that of training when omitted.
        progress: Whether to show a progress bar while texts are encoded.
        cache: Whether to look for the states of texts on disk, and to keep them there for later
            calls (:mod:`vrm_pyro.features.cache`). The numbers are the same.

    Raises:
        InputError: If rows or model cannot be read, or a store holds states of another backbone.
    """
    loaded = as_model(model)
    rows = read_data(data, skip_invalid=skip_invalid, split=split)
    table = rows_of(rows)
    if needs_pairs:
        check_pairs(table)
    if needs_outcomes:
        check_outcomes(table, loaded.model, loaded.objectives)
    if isinstance(rows, Inputs):
        return rows
    if isinstance(rows, FeatureStore):
        check_store(rows, loaded)
        warn_ignored_margins(loaded.config, cast(FeatureSource, rows))
        log_losses(table, str(rows.path))
        return Inputs(cast(FeatureSource, rows), table)
    warn_ignored_margins(loaded.config, cast(FeatureSource, table))
    scorer = as_scorer(model if isinstance(model, Scorer) else loaded, device=device, dtype=dtype)
    states = encode_table(
        table, scorer.backbone, progress=progress, cache=cache, skip_invalid=skip_invalid
    )
    inputs = Inputs.of(states)
    log_losses(inputs.table, "texts")
    return inputs


class Opened(NamedTuple):
    """A model and rows with states, ready for a computation.

    Attributes:
        model: The module.
        source: States and comparisons.
        table: The rows; None where states came without texts.
    """

    model: RewardModel
    source: FeatureSource
    table: PreferenceTable | None


def open_both(
    model: ModelLike | RewardModel, data: DataLike | FeatureSource, *, needs_outcomes: bool = False
) -> Opened:
    """Return module and states of a model and rows in any form.

    A model that was built by hand, and belongs to no run, takes rows that have states already:
    :class:`~vrm_pyro.features.inputs.Inputs` or a feature source.

    Args:
        model: A trained model in any form, or a module.
        data: Rows in any form; for a module rows with states.
        needs_outcomes: See :func:`read_inputs`.

    Raises:
        InputError: As :func:`read_inputs`; or if a module is given rows without states.
    """
    if not isinstance(model, nn.Module):
        inputs = read_inputs(model, cast(DataLike, data), needs_outcomes=needs_outcomes)
        return Opened(as_model(model).model, inputs.source, inputs.table)
    if isinstance(data, Inputs):
        return Opened(model, data.source, data.table)
    if isinstance(data, PreferenceTable) or not hasattr(data, "pair_first"):
        raise InputError(
            f"a {type(model).__name__} that was built by hand reads states, not texts. Encode the "
            "rows with encode_table, or give a folder that fit wrote."
        )
    return Opened(model, cast(FeatureSource, data), None)


def log_losses(table: PreferenceTable, name: str) -> None:
    """Log how many texts were cut and how many pairs were dropped.

    Args:
        table: Rows whose texts were tokenized.
        name: What the message calls them.
    """
    log.info("%s: %s", name, cut_summary(table.report))


def check_pairs(rows: PreferenceTable | FeatureSource) -> None:
    """Raise InputError unless some comparison has a positive weight."""
    if not (np.asarray(rows.pair_weight) > 0).any():
        raise InputError(
            "the rows hold no comparison with a positive weight. Give rows with "
            '"prompt", "chosen" and "rejected".'
        )


def check_outcomes(
    rows: PreferenceTable | FeatureSource, model: RewardModel, objectives: Sequence[str]
) -> None:
    """Raise InputError unless some comparison counts, or some rating is of a model's objectives.

    Args:
        rows: The rows.
        model: The model; ratings count if its scores are ratings.
        objectives: Its objectives.
    """
    known = [rows.objectives.index(name) for name in objectives if name in rows.objectives]
    if not model.scores_are_ratings or np.isnan(np.asarray(rows.ratings)[:, known]).all():
        check_pairs(rows)


def check_store(store: FeatureStore, loaded: LoadedModel) -> None:
    """Raise InputError unless a store holds the states that a model was trained on."""
    facts, found = loaded.backbone, backbone_facts(store)
    differing = differing_facts(facts, found)
    if differing:
        lines = [
            f"{k} is {str(found.get(k))[:12]} there and {str(facts.get(k))[:12]} in the model"
            for k in differing
        ]
        raise InputError(
            f"{store.path}: its states come from another backbone or setting than those that "
            f"{loaded.directory or 'the model'} was trained on: {'; '.join(lines)}. Give rows, or "
            f"write a store with --model.backbone {facts.get('name')} --model.pooling "
            f"{facts.get('pooling')} --model.layer {facts.get('layer', 'null')} "
            f"--model.max_length {facts.get('max_length')}."
        )
    if store.hidden_size != loaded.hidden_size:
        raise InputError(
            f"{store.path}: its states have size {store.hidden_size}, the model was trained on "
            f"size {loaded.hidden_size}."
        )
