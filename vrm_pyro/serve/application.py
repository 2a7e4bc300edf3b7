"""The application: routes and errors over a service."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

import vrm_pyro
from vrm_pyro.errors import InputError
from vrm_pyro.serve.errors import Refusal, documented, error_body, refusal_of
from vrm_pyro.serve.front import Front
from vrm_pyro.serve.queue import QueueFull, TooLarge
from vrm_pyro.serve.routes import engines, native, operations, trainers
from vrm_pyro.serve.service import ClientGone, Service, UnknownModel


def build_application(service: Service) -> FastAPI:
    """Return the application of a service; its threads run while the application does.

    Args:
        service: The service, not started.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            service.draining = True
            service.stop()

    app = FastAPI(
        title="vrm_pyro",
        version=vrm_pyro.__version__,
        summary=f"Rewards of {service.name}, with their spread and reasons.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
    )
    app.state.service = service
    for part in (native, trainers, engines):
        app.include_router(part.router, responses=documented())
    app.include_router(operations.router, responses=documented(401, 503))
    for kind in (InputError, QueueFull, TooLarge, UnknownModel, ClientGone, Exception):
        app.add_exception_handler(kind, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_middleware(Front, service=service)
    return app


async def _refused(request: Request, error: Exception) -> Response:
    found = refusal_of(error)
    return JSONResponse(error_body(found), found.status, found.headers)


async def _invalid(request: Request, error: Exception) -> Response:
    """Say what does not fit, without repeating texts of the request."""
    assert isinstance(error, RequestValidationError)
    said = []
    for problem in error.errors()[:3]:
        where = ".".join(str(part) for part in problem["loc"] if part != "body")
        said.append(f"{where}: {problem['msg']}" if where else str(problem["msg"]))
    kinds = {problem["type"] for problem in error.errors()}
    status = 400 if "json_invalid" in kinds else 422
    words = "; ".join(said).encode("utf-8", "replace").decode("utf-8")
    return JSONResponse(error_body(Refusal(status, "invalid_request_error", words)), status)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    refusal = Refusal(error.status_code, "invalid_request_error", str(error.detail))
    return JSONResponse(error_body(refusal), error.status_code, error.headers)
