"""Compare the VRM with a scalar reward model over training steps and training set sizes."""

import sys

from sweeps import vrm_against_rm

from vrm_pyro.cli.console import guard


def main() -> int:
    """Run the sweep and return the exit code."""
    with guard("curves_vrm_rm") as outcome:
        vrm_against_rm.run(sys.argv[1:])
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
