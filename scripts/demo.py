"""Simulate texts, train a reward model, and compare it with the known truth."""

import argparse
import sys

from demo_run import DEFAULT_OUT, DEFAULT_PAIRS, run_demo
from demo_summary import summary

from vrm_pyro.cli.console import guard


def main() -> int:
    """Run the demo and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--out", default=DEFAULT_OUT, help="folder to write")
    parser.add_argument("--pairs", type=int, default=DEFAULT_PAIRS, help="simulated comparisons")
    parser.add_argument("--seed", type=int, default=0, help="seed of simulation and training")
    options = parser.parse_args()
    with guard("demo") as outcome:
        print(summary(run_demo(options.out, options.pairs, options.seed)))
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
