"""The notebooks: what is committed is whole and says nothing it should not; each still runs."""

import ast
import gzip
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

import vrm_pyro

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
# The hook on large files refuses more.
MOST_BYTES = 500_000
PICTURE = "image/png"
# Home folders, temporary ones and environments; a URL's path does not count.
MACHINE_PATH = re.compile(
    r"(?<![\w:/.])/(?:home|root|tmp|usr|opt|work|Users|mnt|var|builds)/\S+|site-packages"
)
# What notebooks import of the package, apart from its public names.
NAMESPACES = {
    "vrm_pyro.diagnostics": {"metrics", "recovery", "sensitivity"},
    "vrm_pyro.models": {"conjugate", "guides", "predictive", "priors", "ratings"},
    "vrm_pyro.prediction": {"posterior", "scorer"},
    "vrm_pyro.report": {"plots"},
}
SHINGLE = 8  # words in a row that no output may share with a text of the sets

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def words_of(notebook):
    """Return every text a reader sees: sources and outputs, pictures apart."""
    for cell in notebook.cells:
        yield cell.source
        for output in cell.get("outputs", []):
            yield output.get("text", "")
            for kind, value in output.get("data", {}).items():
                if kind != PICTURE:
                    yield value if isinstance(value, str) else json.dumps(value)


def shingles(text):
    words = re.findall(r"\w+", text.lower())
    return {" ".join(words[i : i + SHINGLE]) for i in range(len(words) - SHINGLE + 1)}


def test_there_are_seven():
    assert [path.name[:2] for path in NOTEBOOKS] == [f"{number}_" for number in range(1, 8)]


@each_notebook
def test_text_is_text_and_only_titles_are_headings(path):
    cells = [c.source.splitlines() for c in read(path).cells if c.cell_type == "markdown"]
    headings = [line for lines in cells for line in lines if line.startswith("#")]
    text = [line for lines in cells for line in lines if line and not line.startswith("#")]
    assert cells[0][0].startswith(f"# {path.name[0]}. ")
    assert all(re.fullmatch(r"#{1,3} [A-Z0-9].{1,70}", line) for line in headings), headings
    assert len(headings) < len(text) / 2


@each_notebook
def test_every_cell_ran_once_in_order(path):
    notebook = read(path)
    nbformat.validate(notebook)
    counts = [cell.execution_count for cell in code_cells(notebook) if cell.source.strip()]
    assert counts == list(range(1, len(counts) + 1))
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert not [o.text for o in outputs if o.get("name") == "stderr"]
    assert any(PICTURE in o.get("data", {}) for o in outputs)
    # A figure that was not drawn leaves its name.
    assert not [
        o
        for o in outputs
        if "<Figure" in str(o.get("data", {}).get("text/plain", "")) and PICTURE not in o.data
    ]


@each_notebook
def test_only_public_names_and_namespaces_are_used(path):
    sources = [re.sub(r"^%.*$", "", cell.source, flags=re.M) for cell in code_cells(read(path))]
    nodes = list(ast.walk(ast.parse("\n".join(sources))))
    plain = {a.name for node in nodes if isinstance(node, ast.Import) for a in node.names}
    assert {name for name in plain if name.startswith("vrm_pyro")} == {"vrm_pyro"}
    for node in nodes:
        if isinstance(node, ast.ImportFrom) and node.module.startswith("vrm_pyro"):
            assert {a.name for a in node.names} <= NAMESPACES[node.module], ast.unparse(node)
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "vrm_pyro":
            assert node.attr in vrm_pyro.__all__
    # No module of the folder is imported: a notebook can be copied and runs alone.
    modules = plain | {node.module for node in nodes if isinstance(node, ast.ImportFrom)}
    assert not modules & {file.stem for file in path.parent.glob("*.py")}


@each_notebook
def test_what_prints_or_shows_has_an_output(path):
    for cell in code_cells(read(path)):
        shows = re.search(r"^(print|show)\(", cell.source, re.MULTILINE)
        last = cell.source.rstrip().splitlines()[-1] if cell.source.strip() else ""
        if shows or last == ")":
            assert cell.outputs, cell.source


@each_notebook
def test_no_trace_of_the_machine(path):
    notebook = read(path)
    assert path.stat().st_size < MOST_BYTES
    assert set(notebook.metadata) == {"kernelspec", "language_info"}
    assert all(not cell.metadata for cell in notebook.cells)
    for text in words_of(notebook):
        assert not MACHINE_PATH.search(text), MACHINE_PATH.search(text)


@each_notebook
def test_figures_are_announced_and_read(path):
    """A sentence stands before each figure and one after it."""
    cells = read(path).cells
    for i, cell in enumerate(cells):
        if any(PICTURE in output.get("data", {}) for output in cell.get("outputs", [])):
            # A cell that computes, or prints the numbers behind it, may stand between.
            around = cells[max(0, i - 2) : i], cells[i + 1 : i + 3]
            for near in around:
                assert "markdown" in {other.cell_type for other in near}, cell.source
            words = [other.source for other in cells if other.cell_type == "markdown"]
            # Not a sentence still to be written.
            assert not re.search(r"@[A-Z]+@", "".join(words))


def test_no_text_of_the_sets(data_dir):
    shown = {s for path in NOTEBOOKS for text in words_of(read(path)) for s in shingles(text)}
    assert shown
    for name in ("cohere_feedback", "hellobench"):
        for split in ("train", "validation", "test"):
            with gzip.open(data_dir / name / f"{split}.jsonl.gz", "rt", encoding="utf-8") as rows:
                seen = set()
                for row in map(json.loads, rows):
                    texts = {str(row["prompt"]), row["chosen"], row["rejected"]} - seen
                    seen |= texts
                    for text in texts:
                        # The beginning of a text is what a slip would print.
                        assert not shingles(text[:1500]) & shown


@pytest.mark.slow
@each_notebook
def test_runs_top_to_bottom(path, tmp_path):
    """A small run in a fresh kernel; states of texts are kept between notebooks under runs/."""
    script = (
        "import sys; sys.path.insert(0, 'notebooks'); import execute, pathlib, nbformat; "
        "nbformat.write(execute.execute(pathlib.Path(sys.argv[1])), sys.argv[2])"
    )
    out = tmp_path / path.name
    done = subprocess.run(
        [sys.executable, "-c", script, str(path), str(out)],
        cwd=ROOT,
        env=os.environ | {"VRM_PYRO_QUICK": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    outputs = [output for cell in code_cells(read(out)) for output in cell.outputs]
    pictures = [o for o in outputs if PICTURE in o.get("data", {})]
    committed = [
        o for cell in code_cells(read(path)) for o in cell.outputs if PICTURE in o.get("data", {})
    ]
    assert len(pictures) == len(committed)
