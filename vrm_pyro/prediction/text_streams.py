"""Random streams that depend only on seed, step and text."""

import hashlib
import json
from collections.abc import Sequence

import torch

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.prediction.reward_draws import TextStreams


def text_streams(
    seed: int, step: int, prompts: Sequence[Messages], responses: Sequence[tuple[int, str]]
) -> TextStreams:
    """Return the random streams of one Thompson draw.

    Without communication, every process makes the same draw of the parameters at a step, of w
    for a prompt and of z for a response. So a group that is split over ranks shares its w, and
    order, batches and number of ranks do not matter.

    Args:
        seed: Seed of the run.
        step: Step of the trainer; each step is a new draw.
        prompts: P prompts.
        responses: Prompt and text of R responses.
    """
    keys = [json.dumps(prompt, sort_keys=True) for prompt in prompts]
    return TextStreams(
        _stream(seed, step, "head"),
        [_stream(seed, step, "prompt", key) for key in keys],
        [_stream(seed, step, "response", keys[owner], text) for owner, text in responses],
    )


def _stream(seed: int, step: int, *words: str) -> torch.Generator:
    digest = hashlib.sha256(json.dumps([seed, step, *words]).encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "little") >> 1)
