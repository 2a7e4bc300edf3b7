"""Backbone and heads in one module: gradients, precision, frozen start."""

import numpy as np
import pytest
import torch
from helpers.tiny_backbones import tiny_model
from helpers.tuned_backbones import VRM, Gradients, losses, tuned
from transformers import TrainerCallback

from vrm_pyro.training.finetuning import TuningConfig


@pytest.mark.parametrize("sizes", [(4, 4), (6, 3)])
def test_accumulated_batches_equal_the_large_one(tables, tmp_path, sizes):
    """Also where the last batch of a step is smaller than the others (16 = 6 + 6 + 4)."""
    size, accumulated = sizes
    found = []
    for name, batch, steps in (("large", 16, 1), ("small", size, accumulated)):
        kept = Gradients()
        tuned(
            tables, tmp_path / name, callbacks=[kept], max_steps=1,
            per_device_train_batch_size=batch, gradient_accumulation_steps=steps,
        )  # fmt: skip
        found.append(kept.found)
    assert found[0].keys() == found[1].keys()
    for name, large in found[0].items():
        torch.testing.assert_close(found[1][name], large, rtol=1e-3, atol=1e-6)


def test_gradient_checkpointing_changes_nothing(tables, tmp_path):
    found = []
    for on in (False, True):
        kept = Gradients()
        tuned(
            tables, tmp_path / str(on), callbacks=[kept], max_steps=1, activation_checkpointing=on
        )
        found.append(kept.found)
    for name, plain in found[0].items():
        torch.testing.assert_close(found[1][name], plain, rtol=1e-4, atol=1e-7)


def test_heads_stay_in_float32_where_the_backbone_computes_in_bfloat16(tables, tmp_path):
    seen = set()

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            seen.update(p.dtype for p in model.parameters())

    kept = []
    handle = torch.nn.modules.module.register_module_forward_hook(
        lambda module, inputs, output: kept.append((type(module).__name__, output))
    )
    try:
        result, _ = tuned(tables, tmp_path, model=VRM, bf16=True, max_steps=1, callbacks=[Look()])
    finally:
        handle.remove()
    assert seen == {torch.float32}
    half = {name for name, out in kept if getattr(out, "dtype", None) == torch.bfloat16}
    assert "Linear" in half  # those of the backbone
    priors = [out for name, out in kept if isinstance(out, torch.distributions.Distribution)]
    assert priors
    assert all(p.mean.dtype == torch.float32 for p in priors)
    assert np.isfinite(losses(result)).all()


def test_a_frozen_start_trains_the_heads_alone(tables, tmp_path):
    kept = []

    class Look(TrainerCallback):
        def on_step_end(self, args, state, control, model=None, **kwargs):
            kept.append({n: p.detach().clone() for n, p in model.named_parameters()})

    tuned(
        tables, tmp_path, tuning=TuningConfig("full", learning_rate=1e-3, frozen_fraction=0.5),
        max_steps=4, callbacks=[Look()], weight_decay=0.0,
    )  # fmt: skip
    names = [name for name in kept[0] if name.startswith("backbone.")]
    first = {f"backbone.{k}": v for k, v in tiny_model("qwen3").named_parameters()}
    assert all(torch.equal(kept[1][name], first[name]) for name in names)
    assert any(not torch.equal(kept[2][name], first[name]) for name in names)
    heads = [name for name in kept[0] if name.startswith("heads.")]
    assert any(not torch.equal(kept[0][name], kept[1][name]) for name in heads)
