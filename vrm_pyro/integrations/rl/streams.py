"""Random streams seeded by seed, step and text alone."""

import hashlib
import json
from collections.abc import Sequence

import torch

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.prediction.reward_draws import TextStreams


def text_streams(
    seed: int, step: int, prompts: Sequence[Messages], responses: Sequence[tuple[int, str]]
) -> TextStreams:
    """Return the streams of one Thompson draw.

    Every process of a run makes the same draw of the parameters at a step, of w for a prompt and
    of z for a response, without communication: a group that is spread over ranks shares its w,
    and order, batch and number of ranks do not matter.

    Args:
        seed: Of the run.
        step: Another step is another draw.
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
