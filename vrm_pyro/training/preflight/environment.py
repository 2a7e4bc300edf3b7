"""Check this machine: versions, devices, threads, precision."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

import torch

import vrm_pyro
from vrm_pyro.backbone import has_native_bfloat16
from vrm_pyro.training.preflight.check import Check

PACKAGES: Final = (
    "torch",
    "pyro-ppl",
    "transformers",
    "datasets",
    "accelerate",
    "numpy",
    "xarray",
    "arviz-base",
    "arviz-stats",
    "arviz-plots",
    "matplotlib",
    "jsonargparse",
)


class Environment(NamedTuple):
    """Facts about this machine.

    Attributes:
        versions: Version of each package; None if it is not installed.
        python: Version of Python.
        system: Operating system and processor.
        cores: Number of cores this process may use.
        threads: Number of threads torch uses.
        devices: Names of torch devices, the CPU first.
        native_bfloat16: Whether each device computes in bfloat16 without emulation.
    """

    versions: dict[str, str | None]
    python: str
    system: str
    cores: int
    threads: int
    devices: tuple[str, ...]
    native_bfloat16: tuple[bool, ...]


def environment() -> Environment:
    """Return the facts about this machine."""
    devices, native = ["cpu"], [has_native_bfloat16(torch.device("cpu"))]
    for index in range(torch.cuda.device_count()):
        devices.append(f"cuda:{index} {torch.cuda.get_device_name(index)}")
        native.append(has_native_bfloat16(torch.device("cuda", index)))
    return Environment(
        {"vrm-pyro": vrm_pyro.__version__, **{name: _version(name) for name in PACKAGES}},
        platform.python_version(),
        f"{platform.system()} {platform.machine()}",
        _cores(),
        torch.get_num_threads(),
        tuple(devices),
        tuple(native),
    )


def check_environment(facts: Environment) -> list[Check]:
    """Return checks of this machine: what prevents a run, and what slows it down."""
    missing = [name for name, held in facts.versions.items() if held is None]
    listed = ", ".join(f"{name} {held}" for name, held in facts.versions.items() if held)
    checks = [Check("versions", "ok", f"Python {facts.python}, {listed}")]
    if missing:
        checks = [
            Check(
                "versions",
                "fail",
                f"not installed: {', '.join(missing)}",
                "Install vrm-pyro with its dependencies: pip install -c constraints.txt vrm-pyro.",
            )
        ]
    plots = facts.versions.get("matplotlib") or ""
    if _numbers(plots) >= (3, 11):
        checks.append(
            Check(
                "matplotlib",
                "fail",
                f"{plots}, with which arviz-plots 0.8 cannot be imported",
                'Install an earlier one: pip install "matplotlib<3.11".',
            )
        )
    named = ", ".join(
        f"{name} ({'native' if fast else 'no native'} bfloat16)"
        for name, fast in zip(facts.devices, facts.native_bfloat16, strict=True)
    )
    if len(facts.devices) > 1 or facts.native_bfloat16[0]:
        checks.append(Check("devices", "ok", named))
    else:
        checks.append(
            Check(
                "devices",
                "warn",
                f"{named}: backbones run in float32 on the CPU",
                "Fine for small encoders; for large backbones use a GPU, and write the features "
                "once with `vrm-pyro features`.",
            )
        )
    checks.append(_check_threads(facts))
    return checks


def _check_threads(facts: Environment) -> Check:
    finding = f"torch uses {facts.threads} of {facts.cores} cores"
    if facts.threads > facts.cores:
        return Check(
            "threads",
            "warn",
            finding + ": threads wait for each other",
            f"Set OMP_NUM_THREADS={facts.cores}.",
        )
    if facts.threads * 2 <= facts.cores and len(facts.devices) == 1:
        return Check(
            "threads",
            "warn",
            finding + ": encoding texts could be faster",
            f"Set OMP_NUM_THREADS={facts.cores}, unless other work runs beside it.",
        )
    return Check("threads", "ok", finding)


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdigit())
