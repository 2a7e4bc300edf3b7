"""Seed a block and restore the caller's random state afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch on the CPU and on GPUs in use for a block, then restore both.

    ``torch.manual_seed`` alone would also change GPUs that ``fork_rng(devices=[])`` does not put
    back, or queue a seed for one that is used later: a policy would then sample the same again.
    """
    in_use = torch.cuda.is_initialized()
    with torch.random.fork_rng(devices=range(torch.cuda.device_count()) if in_use else []):
        torch.default_generator.manual_seed(seed)
        if in_use:
            torch.cuda.manual_seed_all(seed)
        yield
