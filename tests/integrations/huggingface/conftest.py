"""What the tests of exported models start from."""

from typing import NamedTuple

import pytest
from helpers.reward_models import save_reward_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import vrm_pyro.integrations.huggingface  # noqa: F401 - registers the class
from vrm_pyro.backbone import quiet_transformers
from vrm_pyro.integrations.huggingface.writing import ExportSettings, write_export
from vrm_pyro.prediction.scorer import Scorer

KINDS = ("bert", "llama", "llama-chat", "qwen3", "roberta")


class Exported(NamedTuple):
    run: object
    folder: object
    model: object
    tokenizer: object
    scorer: object

    def tokens(self, prompts, responses, **options):
        chats = [
            [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
            for p, r in zip(prompts, responses, strict=True)
        ]
        texts = [self.tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
        options = {"padding": True, "add_special_tokens": False, **options}
        return self.tokenizer(texts, return_tensors="pt", **options)


def export(run, folder, **settings):
    """Export a run; return everything about it."""
    folder.mkdir(parents=True)
    with quiet_transformers():
        scorer = Scorer.from_pretrained(run, dtype="float32", device="cpu")
        write_export(scorer, folder, ExportSettings(**settings))
        model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    scorer = Scorer.from_pretrained(run, dtype="float32", device="cpu")
    return Exported(run, folder, model, tokenizer, scorer)


@pytest.fixture(scope="session")
def export_run():
    """The function that exports a run."""
    return export


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """Models of each kind of backbone, exported once when first asked for."""
    made = {}

    def of(kind):
        if kind not in made:
            folder = tmp_path_factory.mktemp(kind)
            made[kind] = export(save_reward_model(folder, kind), folder / "hf")
        return made[kind]

    return of
