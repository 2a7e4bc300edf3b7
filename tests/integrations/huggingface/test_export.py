"""``export_model``: from a trained model to a folder, from Python."""

import os

import pytest
import torch
from helpers.reward_models import save_reward_model
from helpers.text_rows import write_rows
from helpers.tiny_backbones import text

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.integrations.huggingface.export import export_model


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return save_reward_model(tmp_path_factory.mktemp("run"), "bert")


def test_a_scorer_is_exported_and_left_as_it_is(run, tmp_path):
    rows = write_rows(tmp_path / "rows.jsonl", 6, 0)
    scorer = vrm_pyro.Scorer.from_pretrained(run, device="cpu", dtype="float32")
    prompts, responses = [text(0, 6), text(1, 6)], [text(50, 9), text(51, 9)]
    before = scorer(prompts, responses)
    done = export_model(scorer, tmp_path / "hf", rows, dtype="bfloat16", device="cpu")
    assert os.fspath(done) == str(tmp_path / "hf")
    assert done.evaluation == vrm_pyro.evaluate(scorer, rows)
    assert repr(done) == f"Export({os.fspath(done)!r}: {done.evaluation!r})"
    assert scorer(prompts, responses) == before
    assert {p.dtype for p in scorer.backbone.model.parameters()} == {torch.float32}
    held = {path.name for path in done.path.iterdir()}
    assert {"README.md", "reliability.png", "config.json", "model.safetensors"} <= held


def test_without_rows_there_is_no_figure(run, tmp_path):
    done = export_model(run, tmp_path / "hf", device="cpu")
    assert done.evaluation is None
    assert repr(done) == f"Export({str(tmp_path / 'hf')!r})"
    assert not (done.path / "reliability.png").exists()


def test_the_folder_of_the_run_is_safe(run):
    with pytest.raises(InputError, match="lies in the folder of the run"):
        export_model(run, run / "hf")
    with pytest.raises(InputError, match="lies in the folder of the run"):
        export_model(vrm_pyro.Scorer.from_pretrained(run, device="cpu"), run.parent)
    with pytest.raises(InputError, match="adapter is 'keep'"):
        export_model(run, run.parent / "out", adapter="keep")
