"""``python -m vrm_pyro.cli``: the same as ``vrm-pyro``, for launchers such as torchrun."""

import sys

from vrm_pyro.cli import main

if __name__ == "__main__":
    sys.exit(main())
