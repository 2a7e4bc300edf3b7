"""Train a reward model: the same as ``vrm-pyro train``, with the same options."""

import sys

from vrm_pyro.cli import main

if __name__ == "__main__":
    sys.exit(main(["train", *sys.argv[1:]]))
