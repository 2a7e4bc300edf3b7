"""Texts in place of states."""

import pytest
from helpers.tuned_backbones import losses, tuned

from vrm_pyro.training.finetuning import TuningConfig


def test_shared_prompts_give_the_same_training(tables, tmp_path):
    runs = [
        tuned(
            tables, tmp_path / str(share),
            tuning=TuningConfig("full", learning_rate=1e-4, share_prompts=share),
            max_steps=4,
        )
        for share in (True, False)
    ]  # fmt: skip
    assert losses(runs[0][0]) == pytest.approx(losses(runs[1][0]), rel=1e-4)
    assert runs[0][0].metrics["eval_log_loss"] == pytest.approx(
        runs[1][0].metrics["eval_log_loss"], rel=1e-4
    )
