"""The diagnostic of docs/howto/new_diagnostic.md: its file and its lines, run as they stand."""

import importlib.util
import sys

import numpy as np
from helpers.pages import ROOT, applied, blocks
from helpers.right_runs import check_inputs

from vrm_pyro.diagnostics import checks

PAGE = "howto/new_diagnostic.md"


def test_one_file_and_its_entry_add_a_diagnostic(tmp_path, monkeypatch):
    name = "vrm_pyro.diagnostics.checks.undecided"
    (file,) = blocks(PAGE, "python")
    (diff,) = blocks(PAGE, "diff")
    (tmp_path / "undecided.py").write_text(file, "utf-8")
    spec = importlib.util.spec_from_file_location(name, tmp_path / "undecided.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr(checks, "undecided", module, raising=False)
    # The table as it is with the page's lines in it.
    source = (ROOT / "vrm_pyro" / "diagnostics" / "checks" / "__init__.py").read_text("utf-8")
    package = {"__name__": checks.__name__, "__path__": checks.__path__}
    exec(compile(applied(source, diff), "checks/__init__.py", "exec"), package)

    assert set(package["DIAGNOSTICS"]) == {*checks.DIAGNOSTICS, "undecided"}
    run = check_inputs(0, num_prompts=44, num_draws=20)
    found = package["run_checks"](run, ["undecided"])["undecided"]
    near = np.abs(run.predictions.p_first - 0.5) < module.WIDTH
    assert found.value == near.mean()
    # The standard error of a mean of prompts' sums, by hand.
    sums = [
        (near - near.mean())[run.rows.pair_prompt == prompt].sum()
        for prompt in np.unique(run.rows.pair_prompt)
    ]
    np.testing.assert_allclose(found.uncertainty, np.linalg.norm(sums) / len(near))
    assert found.alarm is None
    assert found.to_json()["verdict"] == found.verdict
