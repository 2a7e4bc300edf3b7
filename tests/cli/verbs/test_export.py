"""vrm-pyro export, from rows to a folder that transformers reads."""

import json
import stat

import pytest
import torch
from helpers.text_rows import write_rows
from helpers.tiny_backbones import save_tiny_backbone, text
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import vrm_pyro.integrations.huggingface  # noqa: F401 - registers the class
from vrm_pyro.cli import main
from vrm_pyro.prediction.scorer import Scorer


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rows")
    paths = {}
    for name, size, seed in (("train", 10, 0), ("validation", 6, 90_000)):
        path = folder / f"{name}.jsonl"
        paths[name] = write_rows(path, size, seed, ratings=True)
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        for line in lines[::3]:  # labels that are a function of the ratings bring a warning
            ratings = line["chosen_ratings"], line["rejected_ratings"]
            line["rejected_ratings"], line["chosen_ratings"] = ratings
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return paths


@pytest.fixture(scope="module")
def run_of(rows, tmp_path_factory):
    """Runs that trained a low-rank adapter, all weights, or the heads alone."""
    made = {}

    def of(method):
        if method not in made:
            folder = tmp_path_factory.mktemp(method)
            save_tiny_backbone(folder / "qwen", "qwen3")
            code = main([
                "train", "--data.train", rows["train"], "--data.validation", rows["validation"],
                "--model.backbone", str(folder / "qwen"), "--model.max_length", "100",
                "--tuning.method", method, "--tuning.learning_rate", "0.01",
                "--train.num_train_epochs", "2", "--train.per_device_train_batch_size", "5",
                "--train.use_cpu", "true", "--train.output_dir", str(folder / "run"),
            ])  # fmt: skip
            assert code == 0
            made[method] = folder / "run"
        return made[method]

    return of


def assert_same_rewards(run, folder):
    prompts, responses = [text(i // 2, 6) for i in range(6)], [text(50 + i, 9) for i in range(6)]
    scorer = Scorer.from_pretrained(run, device="cpu", dtype="float32")
    expected = torch.tensor([line["reward_mean"] for line in scorer(prompts, responses)])
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    chats = [
        [{"role": "user", "content": p}, {"role": "assistant", "content": r}]
        for p, r in zip(prompts, responses, strict=True)
    ]
    texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
    batch = tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    found = model(**batch).logits[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert expected.std() > 1e-3
    return model


@pytest.mark.parametrize(
    ("method", "adapter"),
    [
        ("lora", "merge"),
        ("lora", "beside"),
        pytest.param("full", "merge", marks=pytest.mark.slow),
        pytest.param("frozen", "merge", marks=pytest.mark.slow),
    ],
)
def test_rewards_are_those_of_the_run(run_of, rows, tmp_path, capsys, method, adapter):
    run, out = run_of(method), tmp_path / "hf"
    options = ["--model", str(run), "--out", str(out), "--adapter", adapter, "--device", "cpu"]
    assert main(["export", *options, "--data", rows["validation"]]) == 0
    assert "compared with the run's own rewards" in capsys.readouterr().out
    model = assert_same_rewards(run, out)
    layers = [name for name, _ in model.named_parameters() if "lora_" in name]
    assert bool(layers) == (adapter == "beside")
    modes = {stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()}
    assert len(modes) == 1


def test_the_card_says_what_is_known(run_of, rows, tmp_path):
    run, out = run_of("lora"), tmp_path / "card"
    options = ["--model", str(run), "--out", str(out), "--device", "cpu", "--dtype", "bfloat16"]
    assert (
        main(["export", *options, "--data", rows["validation"], "--max_shard_size", "60KB"]) == 0
    )
    card = (out / "README.md").read_text()
    metrics = json.loads((run / "metrics.json").read_text())
    assert (
        card.count(f"| accuracy | {metrics['accuracy']:.3f} | {metrics['accuracy_se']:.3f}") == 2
    )
    assert card.count("18 comparisons on 6 prompts") == 2
    assert "30 comparisons on 10 prompts, with ratings of a, b" in card
    assert "Files or data sets: `train.jsonl`." in card
    assert "`validation.jsonl`, given for this card" in card
    assert "(reliability.png)" in card
    assert (out / "reliability.png").read_bytes()[:4] == b"\x89PNG"
    assert "stored in bfloat16" in card
    assert "\nlicense:" not in card
    assert "None is stated" in card
    assert len(list(out.glob("*.safetensors"))) > 1
    for path in (out / "README.md", *out.glob("*.json")):
        assert str(run.parent) not in path.read_text()


def test_what_cannot_be_exported(run_of, tmp_path, capsys):
    run = str(run_of("lora"))

    def refused(*options):
        assert main(["export", "--model", run, *options]) == 2
        return capsys.readouterr().err

    out = str(tmp_path / "out")
    assert "adapter is 'keep', but must be one of" in refused("--out", out, "--adapter", "keep")
    assert "dtype is 'int8'" in refused("--out", out, "--dtype", "int8")
    assert "lies in the folder of the run" in refused("--out", run, "--overwrite")
    assert "lies in the folder of the run" in refused("--out", f"{run}/hf")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("")
    assert "holds files already" in refused("--out", str(tmp_path / "full"))
    assert not (tmp_path / "out").exists()
