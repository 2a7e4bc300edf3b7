"""Parts of rows with states, and the same rows with other labels."""

import numpy as np
import pytest
from helpers.malformed_stores import small_table
from helpers.tiny_backbones import tiny_backbone

from vrm_pyro.data.source import PAIR_COLUMNS
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.memory import encode_table


@pytest.fixture(scope="module")
def inputs():
    return Inputs.of(encode_table(small_table(), tiny_backbone()))


@pytest.mark.parametrize("as_mask", [False, True])
def test_some_pairs_of_all_responses(inputs, as_mask):
    chosen = np.array([3, 1])
    mask = np.isin(np.arange(inputs.table.num_pairs), chosen)
    part = inputs.select_pairs(mask if as_mask else chosen)
    for name in PAIR_COLUMNS:
        for found in (part.source, part.table):
            expected = getattr(inputs.table, name)[mask]
            np.testing.assert_array_equal(getattr(found, name), expected)
    assert part.table.responses == inputs.table.responses
    assert part.source.responses is inputs.source.responses
    assert part.table.report.dropped["label withheld"] == inputs.table.num_pairs - 2


def test_other_labels_stand_in_rows_and_states(inputs):
    labels = np.linspace(0, 1, inputs.table.num_pairs)
    found = inputs.with_labels(labels)
    np.testing.assert_array_equal(found.source.preference, labels)
    np.testing.assert_array_equal(found.table.preference, labels)
    assert not np.array_equal(inputs.table.preference, labels)  # the rows given stay
    assert found.source.prompts is inputs.source.prompts


@pytest.mark.parametrize("label", [1.5, -0.1, np.nan])
def test_labels_that_are_no_probabilities_are_refused(inputs, label):
    with pytest.raises(InputError, match="one number from 0 to 1 for each of the"):
        inputs.with_labels(np.full(inputs.table.num_pairs, label))


def test_a_label_is_needed_for_each_pair(inputs):
    with pytest.raises(InputError, match=f"each of the {inputs.table.num_pairs} pairs"):
        inputs.with_labels([0.5])
