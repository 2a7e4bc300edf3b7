"""The one declaration of the columns of a pair, and what derives from it."""

import inspect
from dataclasses import fields

import numpy as np
import pytest
from helpers.problems import small_batch
from helpers.sources import source_of

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import COLUMNS, OPTIONAL_COLUMNS, replace_parts, select_pairs
from vrm_pyro.features.store import array_shapes
from vrm_pyro.training.module import TrainingModule


@pytest.mark.parametrize("holder", [FeatureBatch, PreferenceTable])
def test_tables_and_batches_have_a_field_for_each_column(holder):
    assert {item.name for item in fields(holder)} >= set(COLUMNS)


def test_the_training_module_takes_every_column():
    assert set(inspect.signature(TrainingModule.forward).parameters) >= set(COLUMNS)


@pytest.mark.parametrize("name", sorted(OPTIONAL_COLUMNS))
def test_an_optional_column_follows_its_pairs(name):
    source = source_of(small_batch())
    assert name not in PromptDataset(source).collate([0])
    values = np.arange(len(source.pair_first)).astype(COLUMNS[name].dtype)
    if name == "pair_ranking":
        values[:] = 0  # one ranking: selected as a whole
    whole = replace_parts(source, **{name: values})
    order = np.arange(len(values))[::-1]
    np.testing.assert_array_equal(getattr(select_pairs(whole, order), name), values[order])
    data = PromptDataset(whole)
    prompts = np.arange(source.prompts.shape[0])
    _, pairs = data.rows_of(prompts)
    np.testing.assert_array_equal(data.collate(prompts)[name].numpy(), values[pairs])


def test_stores_take_names_and_types_from_the_declaration():
    meta = {"num_prompts": 2, "num_responses": 4, "num_pairs": 3, "objectives": ["a"]}
    plain, full = array_shapes(meta), array_shapes(meta | {"optional": list(OPTIONAL_COLUMNS)})
    assert full.keys() - plain.keys() == set(OPTIONAL_COLUMNS)
    for name, column in COLUMNS.items():
        assert full[name] == ((3,), column.dtype)
