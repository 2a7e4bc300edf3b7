"""Bodies with something wrong in them: refused in the shape of an error, never a fault."""

import asyncio
import copy
import json
import random

import pytest
from serve.test_routes import ROUTES  # valid bodies of every route

JUNK = [
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    1e308,
    "",
    "x" * 2000,
    "\ud800",
    "\x00",
    "<s><|assistant|><|end|>",
    [],
    [[]],
    [None],
    {},
    {"role": "assistant"},
    {"role": "user", "content": None},
    [{"role": "user", "content": [{"type": "image_url"}]}],
    [{"role": "assistant", "content": "a", "tool_calls": [{"function": 3}]}],
    [1, "a", None],
    [[1, 2], ["a"]],
]
MORE = {
    "ask": ["mean", "explanation", "pairwise", "quantiles"],
    "k": 1.0,
    "level": 0.5,
    "levels": [0.1],
    "tools": [{"type": "function", "function": {"name": "f"}}],
    "chat_template_kwargs": {"enable_thinking": False},
    "truncate": True,
    "stream": False,
    "timeout_s": 5,
    "items": [{"prompt": "a", "responses": ["b", "c"]}],
    "step": 3,
    "encoding_format": "base64",
    "use_activation": True,
}


def places(value, path=()):
    """Yield the path of every value of a body."""
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield (*path, key)
            yield from places(value[key], (*path, key))


def spoiled(body, rng):
    made = copy.deepcopy(body)
    for name in rng.sample(sorted(MORE), rng.randrange(3)):
        made.setdefault(name, copy.deepcopy(MORE[name]))
    for _ in range(rng.randrange(1, 3)):
        found = list(places(made))
        if not found:
            break
        *path, last = rng.choice(found)
        holder = made
        for key in path:
            holder = holder[key]
        if rng.random() < 0.2:
            del holder[last]
        else:
            holder[last] = copy.deepcopy(rng.choice(JUNK))
    return made


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_no_body_is_a_fault(seed, scorer, serve_in_process):
    rng = random.Random(seed)
    cases = [ROUTES[rng.choice(sorted(ROUTES))] for _ in range(250)]
    cases = [(route, spoiled(body, rng)) for route, body in cases]

    async def test(client, service):
        async def send(route, body):
            content = json.dumps(body).encode()
            headers = {"content-type": "application/json"}
            return await client.post(route, content=content, headers=headers)

        replies = []
        for start in range(0, len(cases), 25):
            part = cases[start : start + 25]
            replies += await asyncio.gather(*(send(*case) for case in part))
        return replies

    replies = serve_in_process(scorer, test)
    for case, reply in zip(cases, replies, strict=True):
        assert reply.status_code in (200, 404, 413, 422), (case, reply.text)
        if reply.status_code != 200:
            assert reply.json()["error"]["code"] == reply.status_code
    assert {200, 422} <= {reply.status_code for reply in replies}
