"""Measure the time of imports and --help, and compare it with that of the libraries they need.

``python benchmarks/start_up.py`` runs every command several times, alternating, each in a new
process. It prints median and range of CPU time and wall time. Use CPU time on a busy machine.
"""

import argparse
import resource
import statistics
import subprocess
import sys
import time

LIBRARIES = (
    "import torch, pyro, transformers; from transformers import AutoConfig, AutoModel, "
    "AutoTokenizer"
)
HELP = "from vrm_pyro.cli import main; main([{!r}, '--help'])"
COMMANDS = {
    "python": "pass",
    "import vrm_pyro": "import vrm_pyro",
    "import torch": "import torch",
    "import torch, pyro": "import torch, pyro",
    "score --help": HELP.format("score"),
    "diagnose --help": HELP.format("diagnose"),
    "train --help": HELP.format("train"),
    "libraries of the scoring path": LIBRARIES,
    "scoring path": "from vrm_pyro.prediction.scorer import Scorer",
}
BASES = {
    "train --help": "import torch, pyro",
    "scoring path": "libraries of the scoring path",
}


def measure(code: str) -> tuple[float, float]:
    """Run code in a new process; return CPU and wall seconds."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    wall = time.perf_counter() - start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return cpu, wall


def shown(values: list[float]) -> str:
    """Return the median and the range."""
    return f"{statistics.median(values):5.2f} ({min(values):.2f} to {max(values):.2f})"


def main() -> None:
    """Measure all commands and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=5)
    repeats = parser.parse_args().repeats
    for code in COMMANDS.values():  # warms the file cache
        measure(code)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in COMMANDS}
    for _ in range(repeats):
        for name, code in COMMANDS.items():
            found[name].append(measure(code))
    print(f"{'':32} {'CPU s':>22} {'wall s':>22}  CPU over its base")
    for name, values in found.items():
        cpu, wall = ([pair[i] for pair in values] for i in (0, 1))
        ratio = ""
        if name in BASES:
            base = statistics.median(pair[0] for pair in found[BASES[name]])
            ratio = f"{statistics.median(cpu) / base:.2f}"
        print(f"{name:32} {shown(cpu):>22} {shown(wall):>22}  {ratio}")


if __name__ == "__main__":
    main()
