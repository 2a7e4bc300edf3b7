"""The backbones of docs/howto/own_backbone.md, run as they stand there."""

import numpy as np
import pytest
from helpers.pages import blocks

from vrm_pyro.backbone import Backbone, Text
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.store import open_store
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.prediction.opening import as_scorer, read_inputs
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.finetuning import Tuner, TuningConfig
from vrm_pyro.training.run.fit import fit

PAGE = "howto/own_backbone.md"
ROWS = [{"prompt": "2 + 2?", "chosen": "It is 4.", "rejected": "It is 5."}]


def run(block):
    """What a block of the page defines."""
    names = {"__name__": "own_backbone"}
    exec(compile(blocks(PAGE, "python")[block], PAGE, "exec"), names)
    return names


class Lengths(Backbone):
    """Number of words and of characters of a response."""

    def __init__(self, version="1", hidden_size=2):
        super().__init__(name="lengths", hidden_size=hidden_size, version=version)
        self.batches = []

    def embed(self, sequences):
        self.batches.append(len(sequences))
        texts = [text.response or text.prompt for text in sequences]
        return np.array([[len(text.split()), len(text)] for text in texts], dtype=np.float32)


def test_rows_to_states_to_a_model_to_scores(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = run(0)
    assert names["kind"]["reward_mean"] > names["curt"]["reward_mean"] + 1
    printed = capsys.readouterr().out.splitlines()[-1]
    assert " against " in printed
    backbone, store = names["backbone"], open_store("states")
    assert store.meta["backbone"]["class"] == "own_backbone.HashedWords"
    # A state counts words: "a fact" once in the prompt, nothing of a response.
    state = backbone.encode_prompts(["Tell me a fact"])[0].reshape(2, -1)
    assert (state[0].sum(), state[1].sum()) == (4, 0)
    # The run is tied to the backbone.
    loaded = load_model("model")
    with pytest.raises(
        InputError,
        match=r"of your own, own_backbone.HashedWords .*Pass it: Scorer.from_pretrained",
    ):
        as_scorer(loaded)
    with pytest.raises(InputError, match="its weights changed"):
        Scorer(loaded, names["HashedWords"](32))
    inputs = read_inputs(Scorer(loaded, backbone), names["rows"])
    np.testing.assert_array_equal(inputs.source.responses, store.responses[:])
    assert read_inputs(loaded, "states").table.num_pairs == len(names["rows"])


def test_fit_takes_rows_and_the_backbone(tmp_path):
    rows = [
        {"prompt": f"{i} + 1?", "chosen": "It is " + "so " * i, "rejected": "No"}
        for i in range(1, 30)
    ]
    settings = {"train.num_train_epochs": 2, "train.disable_tqdm": True}
    run = fit(rows, backbone=Lengths(), output_dir=tmp_path / "run", settings=settings)
    assert run.trained
    scorer = as_scorer(run.path, backbone=Lengths())
    assert len(scorer("1 + 1?", ["It is so", "No"])) == 2
    with pytest.raises(InputError, match="lengths is no model of transformers"):
        fit(
            rows,
            backbone=Lengths(),
            output_dir=tmp_path / "tuned",
            settings={"tuning.method": "full"},
        )


def test_a_service_is_asked_for_each_text_once():
    asked = []

    def ask(texts):
        asked.extend(texts)
        return [[float(len(text)), 1.0] for text in texts]

    backbone = run(1)["ServiceEmbeddings"](ask, "large", 2)
    found = encode_table(load_table([*ROWS, {**ROWS[0], "chosen": "4"}]), backbone)
    assert sorted(asked) == sorted(
        ["2 + 2?", "2 + 2?\n\nIt is 4.", "2 + 2?\n\nIt is 5.", "2 + 2?\n\n4"]
    )
    assert found.responses[0].tolist() == [len("2 + 2?\n\nIt is 4."), 1.0]


def test_equal_texts_are_computed_once_in_batches_of_the_budget():
    backbone = Lengths()
    backbone.token_budget = 4
    done = []
    texts = ["one", "one two", "one", "a b c"]
    states = backbone.encode_prompts(texts, done.append)
    assert states.tolist() == [[1, 3], [2, 7], [1, 3], [3, 5]]
    assert backbone.batches == [1, 2]  # the longest first, then two that fit the budget
    assert sum(done) == len(texts)
    assert backbone.encode_prompts([]).shape == (0, 2)


def test_states_of_another_shape_are_refused():
    with pytest.raises(InputError, match=r"lengths: embed returned shape \(1, 2\) .*not \(1, 3\)"):
        Lengths(hidden_size=3).encode_prompts(["one"])


def test_version_and_name_tell_backbones_apart():
    assert Lengths().key() == Lengths().key()
    assert Lengths("2").key() != Lengths().key()
    assert set(Lengths().key()) == {"template", "tokenizer", "weights", "pooling", "max_length"}


def test_what_needs_a_transformer_says_so():
    with pytest.raises(InputError, match="lengths is no model of transformers"):
        Tuner(TuningConfig(method="lora"), Lengths())
    with pytest.raises(InputError, match="cuts texts by its own rule"):
        Lengths().with_max_length(5)


def test_texts_are_equal_to_a_backbone_when_messages_and_response_are():
    prompt = [{"role": "user", "content": "Hi"}]
    assert Text(prompt).digest == Text([dict(prompt[0])]).digest
    assert len({Text(prompt).digest, Text(prompt, "").digest, Text(prompt, "a").digest}) == 3
    (text,) = Lengths().sequences([[{"role": "system", "content": "Be kind."}, *prompt]])
    assert text.prompt == "system: Be kind.\nuser: Hi"
    with pytest.raises(InputError, match="1 responses came with 2 prompt indices"):
        Lengths().sequences(["a", "b"], ["c"])
