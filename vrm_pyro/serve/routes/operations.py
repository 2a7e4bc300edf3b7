"""Routes of whoever runs the server: models, health, metrics, the page."""

from importlib import resources

from fastapi import APIRouter
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response

from vrm_pyro.serve.service import service_of

router = APIRouter()


@router.get("/v1/models", summary="The served model")
async def models(request: Request) -> Response:
    """Return the model in the shape that OpenAI's clients know, with its objectives."""
    return JSONResponse({"object": "list", "data": [service_of(request).describe()]})


@router.get("/health", summary="Whether the process works")
async def health(request: Request) -> Response:
    """Return 200 as long as the threads that compute are there, 503 otherwise."""
    alive = service_of(request).engine.is_alive
    return JSONResponse({"status": "ok" if alive else "failed"}, 200 if alive else 503)


@router.get("/ready", summary="Whether requests are answered")
async def ready(request: Request) -> Response:
    """Return 200 when requests are answered, 503 while the server stops."""
    service = service_of(request)
    status = "ready" if service.is_ready else "stopping" if service.draining else "failed"
    return JSONResponse({"status": status}, 200 if service.is_ready else 503)


@router.get("/metrics", summary="Metrics for Prometheus")
async def metrics(request: Request) -> Response:
    """Return all metrics as text."""
    return Response(service_of(request).metrics.text(), media_type=CONTENT_TYPE_LATEST)


@router.get("/", summary="The page", include_in_schema=False)
async def page(request: Request) -> Response:
    """Return the page on which two responses are compared."""
    text = resources.files("vrm_pyro.serve").joinpath("page.html").read_text(encoding="utf-8")
    policy = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; "
    policy += "script-src 'unsafe-inline'; "
    return HTMLResponse(
        text,
        headers={
            "content-security-policy": f"{policy}connect-src 'self'; form-action 'none'",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        },
    )
