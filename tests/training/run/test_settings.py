"""Settings of a run."""

from helpers.text_rows import write_rows

from vrm_pyro.cli import main


def test_the_heads_are_not_compiled(tmp_path, capsys):
    rows = write_rows(tmp_path / "t.jsonl", 4, 0)
    assert main(["train", "--data.train", rows, "--train.torch_compile", "true"]) == 2
    assert "tuning.compile" in capsys.readouterr().err
