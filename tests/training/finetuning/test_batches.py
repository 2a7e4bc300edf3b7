"""Batches of prompts with about equally many tokens."""

import numpy as np
from helpers.tuned_backbones import arguments, tuned
from transformers import TrainerCallback

from vrm_pyro.training.finetuning import TuningConfig, read_texts


def test_token_budget_bounds_every_batch(tables, tmp_path):
    sizes = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, **kwargs):
            sizes.append(state.global_step)

    budget = 300
    result, tuner = tuned(
        tables, tmp_path, tuning=TuningConfig("full", max_batch_tokens=budget), callbacks=[Look()],
        num_train_epochs=1,
    )  # fmt: skip
    data = tuner.dataset(read_texts(tables[0], tuner.backbone), 0.0, 1.0, np.arange(16))
    batches = tuner.batches(data, arguments(tmp_path))
    assert len(sizes) == len(batches.batches)
    assert sorted(i for batch in batches.batches for i in batch) == list(range(16))
    for batch in batches.batches:
        ids = data.collate(data.items[batch])["input_ids"]
        assert ids.numel() <= budget or len(batch) == 1
