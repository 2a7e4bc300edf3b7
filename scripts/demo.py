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
    parser.add_argument("--backbone", help="another backbone, such as smollm2")
    parser.add_argument(
        "--lora_prompts",
        type=int,
        default=0,
        help="also train the backbone, with adapters, on this many prompts",
    )
    options = parser.parse_args()
    with guard("demo") as outcome:
        made = run_demo(
            options.out, options.pairs, options.seed, options.backbone, options.lora_prompts
        )
        print(summary(made))
    return outcome.code


if __name__ == "__main__":
    sys.exit(main())
