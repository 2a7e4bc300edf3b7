"""Measure false alarm rate and power of the diagnostics on simulated data.

Each run simulates texts, a model, and outcomes from the model's program. The guide is the best of
its family (full covariance) for each prompt. Every alarm is a test at level 1%: in 100 correct
runs, expect one alarm per diagnostic; more than 5 indicate a bug. With ``--fault``, the runs have
that fault (listed in ``tests/helpers/right_runs.py``), and the alarm rate is the power.

    python benchmarks/false_alarms.py --runs 100 --out runs/false_alarms.json
"""

import argparse
import json
import sys
from collections import Counter
from pathlib import Path

import torch
from emit import write_result
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

from helpers.right_runs import check_inputs

from vrm_pyro.diagnostics.checks import DIAGNOSTICS, run_checks

# These diagnostics never raise an alarm, by design.
WITHOUT_TEST = ("sensitivity", "units")


def main() -> None:
    """Simulate runs, diagnose them and count alarms."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--first", type=int, default=0, help="seed of the first run")
    parser.add_argument("--prompts", type=int, default=80)
    parser.add_argument("--draws", type=int, default=400)
    parser.add_argument("--fault", default="", help="fault planted in every run")
    parser.add_argument("--only", nargs="+", default=None, help="diagnostics to run")
    parser.add_argument("--out", default=None, help="JSON file for the result")
    args = parser.parse_args()
    torch.set_num_threads(1)
    names = args.only or [name for name in DIAGNOSTICS if name not in WITHOUT_TEST]
    alarms: Counter = Counter()
    applied: Counter = Counter()
    for done, seed in enumerate(tqdm(range(args.first, args.first + args.runs), desc="runs")):
        run = check_inputs(seed, args.prompts, args.draws, args.fault)
        for name, finding in run_checks(run, names).items():
            applied[name] += finding.alarm is not None
            alarms[name] += bool(finding.alarm)
            if finding.alarm and not args.fault:
                tqdm.write(f"run {seed}, {name}: p = {finding.p_value:.2g}, {finding.verdict}")
        result = {
            "runs": done + 1, "prompts": args.prompts, "draws": args.draws, "fault": args.fault,
            "alarms": {name: alarms[name] for name in names},
            "runs_it_applied_to": {name: applied[name] for name in names},
        }  # fmt: skip
        write_result(result, args.out)  # keep the counts of an interrupted benchmark
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
