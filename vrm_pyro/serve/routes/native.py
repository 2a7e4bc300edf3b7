"""``POST /score``: everything that a model says of responses to a prompt."""

import json
from collections.abc import AsyncIterator
from typing import Any, Final

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.serve.errors import error_body
from vrm_pyro.serve.schemas import ScoreItem, ScoreRequest
from vrm_pyro.serve.service import Answer, Service, service_of
from vrm_pyro.serve.work import Ask, Group

router = APIRouter()

# What grows with the square of the number of responses.
_MOST: Final = {"pairwise": 64, "explanation": 16}


@router.post("/score", summary="Rewards, spread and reasons (native)")
async def score(request: Request, body: ScoreRequest) -> Response:
    """Score the responses to one prompt or to many.

    `ask` names what is wanted: `mean`, `sd`, `quantiles` (at `levels`), `weights`, `scores`,
    `contributions`, `pairwise` (probability that the row's response is preferred to the
    column's), `p_best`, `lower_bound` (with `k`), `reward` (the `aggregation` of
    vrm_pyro.VRMReward over the group), `explanation`. With `stream`, each item is a line of
    NDJSON as soon as it is done.
    """
    service = service_of(request)
    service.check_model(body.model)
    ask = _ask(body)
    items = body.all_items()
    groups = await service.groups(
        request,
        lambda: [_group(service, item, ask) for item in items],
        truncate=body.truncate,
        empty=True if body.allow_empty else None,
        timeout_s=body.timeout_s,
        texts=[item.model_dump(exclude_none=True) for item in items],
    )
    if body.stream:
        lines = service.stream(request, groups, body.timeout_s)
        first = await anext(lines, None)  # a full queue is an error, not a stream
        return StreamingResponse(_ndjson(service, first, lines), media_type="application/x-ndjson")
    answers = await service.answers(request, groups, body.timeout_s)
    return JSONResponse(
        {
            "object": "list",
            "model": service.name,
            "version": vrm_pyro.__version__,
            "objectives": list(service.scorer.loaded.objectives),
            "score_unit": service.scorer.score_unit,
            "results": [
                {"index": i, **with_empties(answer, body.allow_empty, service)}
                for i, answer in enumerate(answers)
            ],
            "usage": usage(groups),
        }
    )


def _ask(body: ScoreRequest) -> Ask:
    return Ask(
        fields=frozenset(body.ask),
        k=body.k,
        level=body.level,
        levels=tuple(body.levels),
        aggregation=body.aggregation,
        seed=body.seed,
        step=body.step,
        num_draws=body.num_draws,
        interval=body.interval,
    )


def _group(service: Service, item: ScoreItem, ask: Ask) -> Group:
    template = {"tools": item.tools, "template_kwargs": item.chat_template_kwargs}
    if item.messages is not None:
        group = service.reader.messages(item.messages, ask, **template)
    else:
        group = service.reader.conversation(item.prompt, item.responses or [], ask, **template)
    for name, most in _MOST.items():
        if name in ask.fields and len(group.place) > most:
            raise InputError(
                f"{name} of {len(group.place)} responses; at most {most} to a prompt. Leave it "
                "out, or ask for fewer responses."
            )
    return group


async def _ndjson(
    service: Service, first: Any, rest: AsyncIterator[tuple[int, Any]]
) -> AsyncIterator[str]:
    """Yield a line for each item: its answer, or its error."""
    if first is None:
        return

    def line(index: int, found: Any) -> str:
        if isinstance(found, Exception):
            return json.dumps({"index": index, **error_body(found)}) + "\n"
        kept = with_empties(found, True, service)
        return json.dumps({"index": index, **kept}, allow_nan=False) + "\n"

    yield line(*first)
    try:
        async for index, found in rest:
            yield line(index, found)
    except Exception as error:  # noqa: BLE001 - the status is sent; the last line says it
        yield json.dumps(error_body(error)) + "\n"


def with_empties(answer: Answer, allowed: bool, service: Service) -> Answer:
    """Return an answer in which responses without text have the server's reward for them."""
    if allowed or None not in answer["responses"]:
        return answer
    reward = service.settings.empty_reward
    empty = {"mean": reward, "reward": reward, "sd": 0.0, "empty": True}
    return {**answer, "responses": [r if r is not None else empty for r in answer["responses"]]}


def usage(groups: list[Group]) -> dict[str, Any]:
    """Return the tokens of a request, as inference engines count them."""
    tokens = sum(group.tokens for group in groups)
    return {
        "prompt_tokens": tokens,
        "total_tokens": tokens,
        "completion_tokens": 0,
        "prompt_tokens_details": None,
    }
