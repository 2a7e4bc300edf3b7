"""The package stays small at its root, and no file grows past what one can read.

The layers between packages are contracts in ``pyproject.toml``, which ``make lint`` checks.
"""

from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "vrm_pyro"
MAX_LINES = 400
PACKAGES = {
    "data",
    "backbone",
    "features",
    "models",
    "prediction",
    "diagnostics",
    "training",
    "report",
    "integrations",
    "serve",
    "cli",
}


def test_the_root_holds_eleven_packages_and_few_modules():
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == PACKAGES
    assert len(list(PACKAGE.glob("*.py"))) <= 6


@pytest.mark.parametrize("package", ["data", "features", "models"])
def test_the_init_of_a_low_package_imports_nothing(package):
    assert "import" not in (PACKAGE / package / "__init__.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("folder", ["vrm_pyro", "scripts"])
def test_no_file_is_too_long(folder):
    lengths = {
        str(path.relative_to(ROOT)): path.read_text(encoding="utf-8").count("\n")
        for path in (ROOT / folder).rglob("*.py")
    }
    assert lengths
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}
