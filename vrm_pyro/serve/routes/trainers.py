"""Routes of RL trainers: OpenRLHF, slime and miles."""

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from vrm_pyro.errors import InputError
from vrm_pyro.serve.routes.native import with_empties
from vrm_pyro.serve.schemas import OpenRLHFRequest, RemoteRMRequest
from vrm_pyro.serve.service import service_of
from vrm_pyro.serve.work import Ask, Group

router = APIRouter()


@router.post("/get_reward", summary="Rewards of samples (OpenRLHF)")
async def get_reward(request: Request, body: OpenRLHFRequest) -> Response:
    """Score samples that a policy wrote in its chat template; empty lists get empty lists.

    `scores` are the rewards: OpenRLHF's dynamic filtering reads them as correctness between 0 and
    1, which they are not, so leave it off.
    """
    service = service_of(request)
    if len(body.prompts) != len(body.query):
        raise InputError(
            f"{len(body.prompts)} prompts for {len(body.query)} queries: give one for each, so "
            "that it is known where a response begins."
        )
    ask = Ask()
    groups = await service.groups(
        request,
        lambda: [
            service.reader.policy(query, prompt, ask)
            for query, prompt in zip(body.query, body.prompts, strict=True)
        ],
        texts=body.query,
    )
    answers = await service.answers(request, groups)
    found = [with_empties(answer, False, service)["responses"][0] for answer in answers]
    rewards = [response["mean"] for response in found]
    logs = {"vrm_sd": [response["sd"] for response in found]}
    return JSONResponse({"rewards": rewards, "scores": rewards, "extra_logs": logs})


@router.post("/rm", summary="Reward of a sample (slime, miles)")
async def remote_rm(request: Request, body: RemoteRMRequest, detail: bool = False) -> Response:
    """Score one sample: the reply is the reward, a number.

    With `?detail=true` it is an object of `score` and `vrm_sd`, for `--reward-key score`.
    """
    service = service_of(request)

    def make() -> list[Group]:
        prompt, ask = body.prompt, Ask()
        if isinstance(prompt, str):
            return [service.reader.policy(prompt + body.response, prompt, ask)]
        return [service.reader.conversation(prompt, [body.response], ask)]

    groups = await service.groups(request, make, texts=[body.prompt, body.response])
    (answer,) = await service.answers(request, groups)
    (response,) = with_empties(answer, False, service)["responses"]
    if detail:
        return JSONResponse({"score": response["mean"], "vrm_sd": response["sd"]})
    return JSONResponse(response["mean"])
