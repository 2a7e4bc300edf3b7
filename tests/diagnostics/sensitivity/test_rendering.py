"""A sensitivity prints as the table of psense."""

from html import escape
from pathlib import Path

from vrm_pyro.diagnostics.sensitivity import sensitivity, table

POSTERIOR = Path(__file__).parents[2] / "artefacts" / "posterior.nc"


def test_a_sensitivity_shows_its_table():
    found = sensitivity(POSTERIOR)
    assert str(found) == table(found)
    assert found._repr_html_() == f"<pre>{escape(table(found))}</pre>"
    head = str(found).splitlines()[0]
    prompts = found.khat.sizes["prompt"]
    assert head.startswith(f"power-scaling of {prompts} prompts, {found.num_draws} draws; ")
    assert repr(found).startswith(f"Sensitivity({prompts} prompts, {found.num_draws} draws; ")
