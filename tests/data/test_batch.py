import numpy as np
import pytest
import torch
from helpers.problems import Arrays, small_batch

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset, collate
from vrm_pyro.data.source import FeatureSource


@pytest.fixture
def source():
    return Arrays(small_batch(9, dtype=torch.float32))


def test_arrays_are_a_feature_source(source):
    assert isinstance(source, FeatureSource)
    assert not isinstance(object(), FeatureSource)


def test_whole_set_in_order_is_the_source(source):
    batch = PromptDataset(source).batch()
    reference = small_batch(9, dtype=torch.float32)
    for name, value in batch.as_dict().items():
        if name == "ratings":
            value = torch.where(batch.rating_mask, value, 0.0)
            assert torch.equal(value, torch.where(reference.rating_mask, reference.ratings, 0.0))
        else:
            assert torch.equal(value, getattr(reference, name)), name


def test_chosen_prompts_bring_their_own_rows(source):
    """Every pair still points at the states, ratings and label it had in the source."""
    prompts = [7, 2, 5]
    batch = PromptDataset(source).batch(prompts)
    assert torch.equal(batch.prompts, torch.from_numpy(source.prompts[prompts]))
    pair_prompt = source.response_prompt[source.pair_first]
    pairs = np.concatenate([np.flatnonzero(pair_prompt == p) for p in prompts])
    assert batch.num_pairs == len(pairs)
    for row, pair in enumerate(pairs):
        for side in ("pair_first", "pair_second"):
            here, there = getattr(batch, side)[row], getattr(source, side)[pair]
            assert np.array_equal(batch.responses[here].numpy(), source.responses[there])
            mask = ~np.isnan(source.ratings[there])
            assert np.array_equal(batch.rating_mask[here].numpy(), mask)
            assert np.allclose(batch.ratings[here].numpy()[mask], source.ratings[there][mask])
        assert batch.preference[row] == np.float32(source.preference[pair])
        assert batch.pair_weight[row] == np.float32(source.pair_weight[pair])
        assert prompts[int(batch.pair_prompt[row])] == pair_prompt[pair]
    assert [prompts[p] for p in batch.response_prompt.tolist()] == [
        p for p in prompts for _ in range((source.response_prompt == p).sum())
    ]


def test_scattered_responses_are_gathered(source):
    """Rows of one prompt need not lie together in the source."""
    order = np.random.default_rng(0).permutation(len(source.response_prompt))
    inverse = np.argsort(order)
    source.responses = source.responses[order]
    source.response_prompt = source.response_prompt[order]
    source.ratings = source.ratings[order]
    first, second = source.pair_first, source.pair_second
    source.pair_first, source.pair_second = inverse[first], inverse[second]
    batch = PromptDataset(source).batch([4, 0, 8])
    reference = PromptDataset(Arrays(small_batch(9, dtype=torch.float32))).batch([4, 0, 8])
    for side in ("pair_first", "pair_second"):
        assert torch.equal(
            batch.responses[getattr(batch, side)], reference.responses[getattr(reference, side)]
        )
    assert torch.equal(batch.response_prompt, reference.response_prompt)
    assert torch.equal(batch.preference, reference.preference)


def test_ratings_share_one_unit(source):
    raw = PromptDataset(source).batch()
    standard = PromptDataset(source, rating_loc=2.0, rating_scale=4.0).batch()
    expected = torch.where(raw.rating_mask, (raw.ratings - 2) / 4, 0.0)
    assert torch.allclose(standard.ratings, expected, atol=1e-6)
    assert standard.ratings.isfinite().all()
    assert torch.equal(standard.rating_mask, raw.rating_mask)


def test_items_are_prompts(source):
    dataset = PromptDataset(source, prompts=np.array([3, 1, 6]))
    assert len(dataset) == 3
    assert [dataset[i].prompt for i in range(3)] == [3, 1, 6]
    loaded = FeatureBatch(**collate([dataset[2], dataset[0]]))
    direct = dataset.batch([6, 3])
    for name, value in loaded.as_dict().items():
        assert torch.equal(value, getattr(direct, name)), name


def test_prompts_without_pairs_or_responses(source):
    keep = source.response_prompt[source.pair_first] != 4
    for name in ("pair_first", "pair_second", "preference", "pair_weight"):
        setattr(source, name, getattr(source, name)[keep])
    alone = PromptDataset(source).batch([4])
    assert (alone.num_prompts, alone.num_pairs) == (1, 0)
    assert alone.num_responses == (source.response_prompt == 4).sum()
    among = PromptDataset(source).batch([4, 5])
    assert set(among.pair_prompt.tolist()) == {1}
    empty = PromptDataset(source).batch([])
    assert (empty.num_prompts, empty.num_responses, empty.num_pairs) == (0, 0, 0)


def test_swap_twice_is_the_same_data():
    batch = small_batch()
    once, twice = batch.swap_pairs(), batch.swap_pairs().swap_pairs()
    assert torch.equal(once.pair_first, batch.pair_second)
    assert torch.equal(once.preference, 1 - batch.preference)
    for name, value in twice.as_dict().items():
        assert torch.allclose(value.double(), getattr(batch, name).double()), name


def test_dtype_conversion_leaves_indices_and_masks():
    batch = small_batch().to(torch.float32)
    assert batch.ratings.dtype == batch.prompts.dtype == torch.float32
    assert batch.pair_first.dtype == torch.int64
    assert batch.rating_mask.dtype == torch.bool
    assert batch.to("cpu").num_prompts == 5
    assert batch.has_ratings
    assert not small_batch(ratings=False).has_ratings
