"""The benchmarks by name. To add one, write a file beside this one and its line here."""

from typing import Final

from vrm_pyro.diagnostics.suites import judgebench, ppe, rewardbench, rewardbench2, rm_bench, rmb
from vrm_pyro.diagnostics.suites.suite import Suite

SUITES: Final[dict[str, Suite]] = {
    "rewardbench": rewardbench.SUITE,
    "rewardbench2": rewardbench2.SUITE,
    "rm_bench": rm_bench.SUITE,
    "judgebench": judgebench.SUITE,
    "rmb": rmb.SUITE,
    "ppe": ppe.SUITE,
}
"""Benchmarks by the name that ``vrm-pyro benchmark`` takes."""
