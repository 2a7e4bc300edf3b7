"""Routes of inference engines that host reward models: vLLM, SGLang, TEI."""

import base64
import math
import struct
import time
import uuid
from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vrm_pyro.errors import InputError
from vrm_pyro.serve.routes.native import usage, with_empties
from vrm_pyro.serve.schemas import (
    ClassifyRequest,
    EmbeddingRequest,
    PoolingRequest,
    PoolRequest,
    PredictRequest,
)
from vrm_pyro.serve.service import Service, service_of
from vrm_pyro.serve.work import Ask, Group

router = APIRouter()

ALL = Ask(frozenset({"mean", "sd", "weights", "scores"}))
"""What the routes of other projects say beside the reward."""


@router.post("/classify", summary="Reward as a class probability (vLLM, SGLang)")
async def classify(request: Request, body: ClassifyRequest) -> Response:
    """Score whole texts, token ids or one conversation.

    With `input` or `messages` the reply has vLLM's shape, with `text` SGLang's. The reward is the
    only number of `probs` or `embedding`, raw unless `use_activation` or `activation` is true.
    """
    service = service_of(request)
    service.check_model(body.model)
    if body.text is not None:
        texts = [body.text] if isinstance(body.text, str) else body.text
        rewards, extras, _ = await _scored(
            request, lambda: [service.reader.text(text, ALL) for text in texts], None, body.text
        )
        made = [
            {"embedding": [_activated(reward, body)], "meta_info": {}, "vrm": extra}
            for reward, extra in zip(rewards, extras, strict=True)
        ]
        return JSONResponse(made[0] if isinstance(body.text, str) else made)
    rewards, extras, groups = await _pooled(request, body)
    data = [
        {
            "index": i,
            "label": "LABEL_0",
            "probs": [_activated(reward, body)],
            "num_classes": 1,
            "vrm": extra,
        }
        for i, (reward, extra) in enumerate(zip(rewards, extras, strict=True))
    ]
    return _listed(service, "classify", data, groups)


@router.post("/pooling", summary="Reward as pooled data (vLLM)")
async def pooling(request: Request, body: PoolRequest) -> Response:
    """Score whole texts, token ids or one conversation; `data` of each holds the reward alone."""
    service = service_of(request)
    service.check_model(body.model)
    rewards, extras, groups = await _pooled(request, body)
    data = [
        {"index": i, "object": "pooling", "data": [_activated(reward, body)], "vrm": extra}
        for i, (reward, extra) in enumerate(zip(rewards, extras, strict=True))
    ]
    return _listed(service, "pool", data, groups)


@router.post("/v1/embeddings", summary="Reward as an embedding (verl over SGLang)")
async def embeddings(request: Request, body: EmbeddingRequest) -> Response:
    """Score whole texts or token ids; `embedding` of each holds the reward alone."""
    service = service_of(request)
    service.check_model(body.model)
    rewards, extras, groups = await _scored(
        request, lambda: read_input(service, body.input), None, body.input
    )

    def coded(reward: float) -> list[float] | str:
        if body.encoding_format == "float":
            return [reward]
        return base64.b64encode(struct.pack("<f", reward)).decode("ascii")

    data = [
        {"index": i, "object": "embedding", "embedding": coded(reward), "vrm": extra}
        for i, (reward, extra) in enumerate(zip(rewards, extras, strict=True))
    ]
    return _listed(service, "embd", data, groups)


@router.post("/predict", summary="Reward as a prediction (TEI)")
async def predict(request: Request, body: PredictRequest) -> Response:
    """Score a whole text, a pair of prompt and response, or a batch of lists of one or two texts.

    The score is raw unless `raw_scores` is false.
    """
    service = service_of(request)
    given = body.inputs
    single = isinstance(given, str) or not given or isinstance(given[0], str)
    rows: Sequence[Any] = [[given] if isinstance(given, str) else given] if single else given
    if any(not 1 <= len(row) <= 2 for row in rows):
        raise InputError("inputs hold lists of one text, or of two: prompt and response.")

    def make() -> list[Group]:
        reader = service.reader
        return [
            reader.text(row[0], ALL) if len(row) == 1 else reader.pair(row[0], row[1], ALL)
            for row in rows
        ]

    rewards, extras, _ = await _scored(request, make, body.truncate, given)
    made = [
        [{"score": _sigmoid(r) if body.raw_scores is False else r, "label": "LABEL_0", "vrm": e}]
        for r, e in zip(rewards, extras, strict=True)
    ]
    return JSONResponse(made[0] if single else made)


async def _pooled(
    request: Request, body: PoolingRequest
) -> tuple[list[float], list[dict[str, Any]], list[Group]]:
    """Return rewards of what vLLM's clients send."""
    service = service_of(request)

    def make() -> list[Group]:
        if body.messages is not None:
            template = {"tools": body.tools, "template_kwargs": body.chat_template_kwargs}
            return [service.reader.messages(body.messages, ALL, **template)]
        assert body.input is not None
        return read_input(service, body.input)

    truncate = None if body.truncate_prompt_tokens is None else True
    return await _scored(request, make, truncate, body.messages or body.input)


async def _scored(
    request: Request, make: Any, truncate: bool | None, texts: Any
) -> tuple[list[float], list[dict[str, Any]], list[Group]]:
    """Return reward and extras of each group, which has one response."""
    service = service_of(request)
    groups = await service.groups(request, make, truncate=truncate, texts=texts)
    answers = await service.answers(request, groups)
    rewards, extras = [], []
    for answer in answers:
        (response,) = with_empties(answer, False, service)["responses"]
        rewards.append(response["mean"])
        more = {k: v for k, v in response.items() if k != "mean"}
        extras.append({**more, "weights": answer.get("weights")})
    return rewards, extras, groups


def read_input(
    service: Service, given: str | list[str] | list[int] | list[list[int]]
) -> list[Group]:
    """Return the groups of ``input``: a text, texts, token ids, or several lists of these.

    Raises:
        InputError: If it is empty.
    """
    if isinstance(given, str):
        return [service.reader.text(given, ALL)]
    if not given:
        raise InputError("input is empty; give a text, token ids, or a list of these.")
    if isinstance(given[0], int):
        return [service.reader.ids(given, ALL)]  # type: ignore[arg-type]
    reader = service.reader
    return [
        reader.text(part, ALL) if isinstance(part, str) else reader.ids(part, ALL)  # type: ignore[arg-type]
        for part in given
    ]


def _listed(
    service: Service, prefix: str, data: list[dict[str, Any]], groups: list[Group]
) -> Response:
    return JSONResponse(
        {
            "id": f"{prefix}-{uuid.uuid4().hex}",
            "object": "list",
            "created": int(time.time()),
            "model": service.name,
            "data": data,
            "usage": usage(groups),
        }
    )


def _activated(reward: float, body: PoolingRequest) -> float:
    return _sigmoid(reward) if body.activated else reward


def _sigmoid(value: float) -> float:
    if value >= 0:
        return 1 / (1 + math.exp(-value))
    return math.exp(value) / (1 + math.exp(value))
