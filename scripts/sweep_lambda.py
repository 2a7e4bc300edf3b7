"""Sweep lambda, the power on ratings; write a figure, a table and all numbers."""

import sys

from sweeps import rating_power

from vrm_pyro.cli.console import guard


def main() -> int:
    """Run the sweep and return the exit code."""
    with guard("sweep_lambda") as outcome:
        rating_power.run(sys.argv[1:])
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
