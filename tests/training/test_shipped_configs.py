"""Every shipped config trains a few steps on rows with ratings, is saved and loaded."""

import math

import pytest
import torch
from helpers.problems import Arrays, small_batch

from vrm_pyro.cli.settings import read_settings, run_parser
from vrm_pyro.models.checkpoint import load_model, save_model
from vrm_pyro.training.run.config_files import CONFIGS
from vrm_pyro.training.train import train


@pytest.mark.parametrize("name", sorted(path.stem for path in CONFIGS.glob("*.yaml")))
def test_a_few_steps(name, tmp_path):
    read = read_settings(run_parser("train", "test"), ["--config", name])
    arguments = read.arguments
    arguments.output_dir, arguments.max_steps = str(tmp_path / "run"), 3
    arguments.use_cpu, arguments.disable_tqdm, arguments.num_train_epochs = True, True, 1
    arguments.eval_strategy = arguments.save_strategy = "no"
    arguments.load_best_model_at_end, arguments.early_stopping_patience = False, 0
    batch = small_batch(20, dtype=torch.float32)
    source = Arrays(batch)
    found = train(read.model, arguments, source, source)
    assert math.isfinite(found.metrics["eval_log_loss"])
    assert all(math.isfinite(entry["loss"]) for entry in found.log_history if "loss" in entry)
    save_model(found.loaded, tmp_path)
    again = load_model(tmp_path).model
    with torch.no_grad():
        chance = again.predict_pairs(batch)
    assert ((chance > 0) & (chance < 1)).all()
