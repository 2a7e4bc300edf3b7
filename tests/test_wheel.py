"""The built wheel works where the repository is not."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(p.name for p in (ROOT / "vrm_pyro" / "configs").rglob("*.yaml"))

pytestmark = pytest.mark.slow


def pip(*arguments):
    command = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    # No isolation and no dependencies: nothing is downloaded.
    pip("wheel", "--no-deps", "--no-build-isolation", "--no-index", "-w", str(folder), str(ROOT))
    (built,) = folder.glob("vrm_pyro-*.whl")
    return built


@pytest.fixture(scope="module")
def outside(wheel, tmp_path_factory):
    """Run Python on the installed wheel, in a folder and with a path that know no repository."""
    site, folder = tmp_path_factory.mktemp("site"), tmp_path_factory.mktemp("elsewhere")
    pip("install", "--no-deps", "--no-index", "--target", str(site), str(wheel))

    def run(*arguments):
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(site)},
            capture_output=True,
            text=True,
            check=False,
        )

    run.site = site
    return run


def test_wheel_holds_the_package_and_nothing_else(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert tops == {"vrm_pyro", f"{'-'.join(wheel.name.split('-')[:2])}.dist-info"}
    assert {
        "vrm_pyro/py.typed",
        "vrm_pyro/report/page/page.html",
        "vrm_pyro/report/page/page.css",
    } <= set(names)
    assert sorted(n.rpartition("/")[2] for n in names if n.endswith(".yaml")) == CONFIGS
    modules = {str(p.relative_to(ROOT)) for p in (ROOT / "vrm_pyro").rglob("*.py")}
    assert {n for n in names if n.endswith(".py")} == modules
    left_over = [n for n in names if "__pycache__" in n or n.endswith(".gitkeep")]
    assert left_over == []


def test_every_module_of_the_wheel_imports(outside):
    code = (
        "import pkgutil, importlib, vrm_pyro\n"
        "for m in pkgutil.walk_packages(vrm_pyro.__path__, 'vrm_pyro.'):\n"
        "    m.name.endswith('__main__') or importlib.import_module(m.name)\n"
        "print(vrm_pyro.__file__)\n"
    )
    run = outside("-W", "error", "-c", code)
    assert run.returncode == 0, run.stderr
    assert run.stdout.strip() == str(outside.site / "vrm_pyro" / "__init__.py")


def test_installed_configs_are_found_and_read(outside):
    code = (
        "import yaml\n"
        "from importlib.resources import files\n"
        "found = [f for f in files('vrm_pyro').joinpath('configs').rglob('*') if f.is_file()]\n"
        "assert all(yaml.safe_load(f.read_text()) for f in found)\n"
        "print(*sorted(f.name for f in found if f.name.endswith('.yaml')))\n"
    )
    run = outside("-c", code)
    assert run.returncode == 0, run.stderr
    assert CONFIGS, "no shipped configs"
    assert run.stdout.split() == CONFIGS


def test_console_script_of_the_wheel_runs(outside):
    script = outside.site / "bin" / "vrm-pyro"
    run = outside(str(script), "--help")
    assert run.returncode == 0, run.stderr
    assert "simulate" in run.stdout
    assert "train" in run.stdout


def test_version_is_written_once(wheel, outside):
    run = outside("-c", "import vrm_pyro; print(vrm_pyro.__version__)")
    assert wheel.name.split("-")[1] == run.stdout.strip()
