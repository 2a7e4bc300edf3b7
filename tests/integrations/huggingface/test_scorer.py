"""An exported model scores texts as the run that it came from."""

import pytest
from helpers.tiny_backbones import text

from vrm_pyro.integrations.huggingface.scorer import is_export, scorer_of_export

TURNS = [{"role": "system", "content": "be brief"}, {"role": "user", "content": "why"}]
ANSWERS = [text(1, 5), text(2, 300)]  # the second is cut


@pytest.mark.parametrize("kind", ["llama-chat", "llama", "bert", "roberta"])
def test_it_gives_the_rewards_of_the_run(kind, exported):
    made = exported(kind)
    assert is_export(made.folder)
    assert not is_export(made.run)
    assert not is_export(made.folder.parent)
    scorer = scorer_of_export(made.folder, device="cpu", dtype="float32")
    assert scorer.loaded.objectives == made.scorer.loaded.objectives
    for prompt in (text(0, 6), TURNS):
        lines = made.scorer(prompt, ANSWERS)
        for found, line in zip(scorer(prompt, ANSWERS), lines, strict=True):
            for key in ("reward_mean", "reward_sd", "weights", "scores"):
                assert found[key] == pytest.approx(line[key], abs=2e-5), key
