import pytest
from helpers.published import ROWS
from helpers.tiny_backbones import save_tiny_backbone
from helpers.workspace import succeed, write_rows

from vrm_pyro.cli import main
from vrm_pyro.cli.options import add_row_options, rows_of
from vrm_pyro.cli.parsing import new_parser, parse
from vrm_pyro.data.rows import ReadAs, load_table
from vrm_pyro.data.schemas.table import SCHEMAS
from vrm_pyro.prediction.overlap import training_overlap
from vrm_pyro.training.data_config import DataConfig, check_data_settings


def test_schemas_are_listed_and_shown(capsys):
    assert main(["schemas"]) == 0
    listed = capsys.readouterr().out
    assert [name for name in SCHEMAS if f"{name} " not in listed] == []
    assert main(["schemas", "--name", "shp"]) == 0
    shown = capsys.readouterr().out
    for part in ("Columns: history (text), human_ref_A", "Published:", "Label: labels 1 means"):
        assert part in shown
    assert main(["schemas", "--name", "shpp"]) == 2
    assert "did you mean 'shp'" in capsys.readouterr().err


@pytest.mark.parametrize("spelling", ["--data.columns", "--columns"])
def test_verbs_with_data_take_schema_and_columns(spelling):
    parser = new_parser("some", "Some verb.")
    add_row_options(parser)
    options = parse(parser, ["--data", "a.jsonl", spelling, "prompt=q,chosen=a"])
    assert rows_of(options) == ReadAs("a.jsonl", None, "prompt=q,chosen=a")
    options = parse(parser, ["--data", "a.jsonl", "--data.schema=shp"])
    assert rows_of(options) == ReadAs("a.jsonl", "shp", None)
    assert rows_of(parse(parser, ["--data", "a.jsonl"])) == "a.jsonl"


def test_settings_of_the_data_are_checked_before_rows_are_read():
    for wrong in ({"schema": "nosuch"}, {"columns": "prompt"}):
        with pytest.raises(ValueError, match=r"data\.(schema|columns)"):
            check_data_settings(DataConfig(train="rows.jsonl", **wrong))


def test_training_prompts_are_found_with_the_columns_of_the_run(tmp_path):
    path = write_rows(tmp_path / "rows.jsonl", [ROWS["stack_exchange"]])
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(
        f"data:\n  train: {path}\n  columns: {{prompt: question, chosen: response_j, "
        "rejected: response_k}\n"
    )
    table = load_table([ROWS["shp"]])
    assert training_overlap(run, table).count == 1


def test_features_reads_by_columns(tmp_path):
    rows = [{"q": "Sky?", "good": "Blue.", "bad": "Green."}]
    path = write_rows(tmp_path / "rows.jsonl", rows)
    columns = "prompt=q,chosen=good,rejected=bad"
    backbone = save_tiny_backbone(tmp_path / "bert")
    options = ["--data.columns", columns, "--model.backbone", backbone]
    options += ["--model.max_length", 64]
    printed = succeed("features", "--data", path, "--out", tmp_path / "store", *options).out
    assert "states of 1 prompts and 2 responses in 1 pairs" in printed
