"""Run notebooks top to bottom and keep what they show, without the marks of this machine.

    python notebooks/execute.py            # all of them, in place
    python notebooks/execute.py 2 5        # those whose names start with these numbers

With ``VRM_PYRO_QUICK=1`` everything is small and nothing is kept: it shows that they run.
"""

import base64
import io
import os
import sys
import time
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

from vrm_pyro.atomic import write_file

FOLDER = Path(__file__).resolve().parent
CELL_SECONDS = 1800
PICTURE = "image/png"
# What the kernel's libraries say about the machine and is of no use to a reader.
QUIET = {"TRANSFORMERS_VERBOSITY": "error", "PYTHONWARNINGS": "ignore:IProgress not found"}


def execute(path: Path) -> nbformat.NotebookNode:
    """Return a notebook with the outputs of a fresh run in its own folder."""
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        record_timing=False,
        resources={"metadata": {"path": str(FOLDER)}},
    )
    os.environ.update(QUIET)
    client.execute()
    notebook.metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    for cell in notebook.cells:
        cell.metadata = {}
        for output in cell.get("outputs", []):
            if PICTURE in output.get("data", {}):
                output.data[PICTURE] = _smaller(output.data[PICTURE])
    return notebook


def _smaller(picture: str) -> str:
    """Return a PNG with 128 colours: lines and text need no more, and take a third."""
    with Image.open(io.BytesIO(base64.b64decode(picture))) as image:
        plain = image.convert("RGB").quantize(128, dither=Image.Dither.NONE)
    content = io.BytesIO()
    plain.save(content, format="png", optimize=True)
    return base64.b64encode(content.getvalue()).decode("ascii")


def main(starts: list[str]) -> None:
    """Run those whose names start so; all when none is named."""
    for path in sorted(FOLDER.glob("*.ipynb")):
        if starts and not path.name.startswith(tuple(starts)):
            continue
        start = time.perf_counter()
        notebook = execute(path)
        if os.environ.get("VRM_PYRO_QUICK") != "1":
            with write_file(path) as partial:
                nbformat.write(notebook, partial)
        print(f"{path.name}: {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
