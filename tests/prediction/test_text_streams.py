"""Random streams of Thompson draws: one for each text, the same on every process."""

import torch

from vrm_pyro.prediction.text_streams import text_streams

ASKED = [[{"role": "user", "content": word}] for word in ("why", "how")]


def first_numbers(streams):
    return [torch.rand((), generator=stream).item() for stream in streams]


def test_each_prompt_and_each_response_has_its_own_stream():
    answers = [(0, "so"), (0, "yes"), (1, "so")]
    drawn = text_streams(1, 2, ASKED, answers)
    numbers = [*first_numbers([drawn.head]), *first_numbers(drawn.prompts)]
    numbers += first_numbers(drawn.responses)
    assert len(set(numbers)) == 6


def test_streams_follow_seed_step_and_text_alone():
    answers = [(0, "so"), (1, "yes")]
    numbers = [
        first_numbers([found.head, *found.prompts, *found.responses])
        for found in (text_streams(*key, ASKED, answers) for key in ((1, 2), (1, 3), (2, 2)))
    ]
    assert not set(numbers[0]) & set(numbers[1])
    assert not set(numbers[0]) & set(numbers[2])
    other = text_streams(1, 2, ASKED[::-1], [(0, "yes"), (1, "so")])
    assert first_numbers(other.prompts)[::-1] == numbers[0][1:3]
    assert first_numbers(other.responses)[::-1] == numbers[0][3:]
