"""Data flows down the package; imports run one way, and no file grows past what one can read."""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / "vrm_pyro"

# A module imports what stands above it, or to its left. A package stands here once; its parts may
# import each other as long as no circle results.
LAYERS = """
sites errors atomic processes sharding
rows
chat
backbone
features
rankings
batch passes sources
laws
networks priors
bayesian_head laplace_head
reward
likelihood
ratings
heads
conjugate
guides
predictive information
uncertainty
model baseline
head_information
evidence
elbo
refine
simulate
config
compatibility
build pair_checks
reward_draws group_rewards contributions
checkpoint
callbacks manifest training_module tuning global_batches validation
resume step_shares stopping trainer sharded_trainer train
posterior
to_xarray
diagnostics
certificates
scorer doctor evaluate recovery
diagnose
explanation
report
export
rl
cli
"""
RANKS = {name: rank for rank, name in enumerate(LAYERS.split())}
# Verbs load what they need when they run: `vrm-pyro --help` should not wait for torch.
LAZY = {"cli"}
MAX_LINES = 400


def read_package() -> dict[str, str]:
    """Return source text by dotted name below the package; ``rows`` is ``rows/__init__.py``."""
    sources = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        sources[".".join(p for p in parts if p != "__init__")] = path.read_text(encoding="utf-8")
    return sources


def own_imports(tree: ast.AST, known: set[str]) -> Iterator[str]:
    """Yield the modules of the package that ``tree`` imports, below ``vrm_pyro``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "write imports in full: from vrm_pyro.data.rows import ..."
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            head, _, rest = name.partition(".")
            if head != "vrm_pyro":
                continue
            # "rows.schema.Row" names a class: the module is the longest part that is one.
            while rest and rest not in known:
                rest = rest.rpartition(".")[0]
            yield rest


def violations(sources: dict[str, str]) -> list[str]:
    """Return what is wrong with the imports of a package, one sentence each."""
    found, graph = [], {}
    for module, text in sources.items():
        tree, unit = ast.parse(text), module.split(".")[0]
        graph[module] = set(own_imports(tree, set(sources))) - {""}
        if not module:
            found += [f"__init__ imports {other}; it is loaded first" for other in graph[module]]
            continue
        if unit not in RANKS:
            found.append(f"{unit} has no place in LAYERS of {Path(__file__).name}; add it there")
            continue
        for other in graph[module]:
            other_unit = other.split(".")[0]
            if other_unit != unit and RANKS.get(other_unit, -1) > RANKS[unit]:
                found.append(f"{module} imports {other}, which stands below it")
        if unit not in LAZY:
            functions = (n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef))
            late = {other for f in functions for other in own_imports(f, set(sources))}
            found += [f"{module} imports {other} inside a function" for other in late]
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        found.append(f"imports run in a circle: {' -> '.join(error.args[1])}")
    return found


def test_imports_run_one_way():
    found = violations(read_package())
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("sources", "message"),
    [
        ({"batch": "from vrm_pyro import model", "model": ""}, "batch imports model, which"),
        (
            {"batch": "import vrm_pyro.models.objectives.base", "elbo.base": ""},
            "batch imports elbo.base, which",
        ),
        ({"batch": "from vrm_pyro.cli import main", "cli": ""}, "batch imports cli, which"),
        ({"utils": ""}, "utils has no place"),
        ({"": "from vrm_pyro.data.rows import load_table", "rows": ""}, "__init__ imports rows"),
        (
            {"model": "def f():\n    from vrm_pyro import sites", "sites": ""},
            "model imports sites inside a function",
        ),
        (
            {
                "rows.a": "from vrm_pyro.data.rows import b",
                "rows.b": "import vrm_pyro.data.rows.a",
            },
            "circle",
        ),
    ],
)
def test_wrong_imports_are_found(sources, message):
    found = violations(sources)
    assert len(found) == 1
    assert message in found[0]


def test_right_imports_are_let_through():
    sources = {
        "sites": "",
        "rows": "from vrm_pyro.data.rows.table import Table",
        "rows.table": "from vrm_pyro import sites",
        "cli": "def main():\n    from vrm_pyro.data.rows import Table",
    }
    assert violations(sources) == []


def test_no_file_is_too_long():
    lengths = {name: text.count("\n") for name, text in read_package().items()}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}
