"""Routes of whoever runs the server: models, health, metrics, the pages."""

import json
from html import escape
from importlib import resources
from typing import Any

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
    return _html(text, "script-src 'unsafe-inline'; connect-src 'self'; ")


@router.get("/docs", summary="The routes", include_in_schema=False)
async def docs(request: Request) -> Response:
    """Return the OpenAPI document as a page; FastAPI's own takes scripts from the network."""
    document = request.app.openapi()
    title = f"Routes of {document['info']['title']} {document['info']['version']}"
    parts = [
        '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" '
        f'content="width=device-width"><title>{title}</title><h1>{title}</h1>'
        '<p>The same as JSON: <a href="openapi.json">openapi.json</a></p>'
    ]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            parts.append(f"<h2>{method.upper()} {path}</h2>{_details(operation)}")
    for name, schema in document["components"]["schemas"].items():
        parts.append(f"<h2>{name}</h2>{_details(schema)}")
    return _html("".join(parts))


def _details(value: dict[str, Any]) -> str:
    said = " ".join(value[key] for key in ("summary", "description") if key in value)
    shown = json.dumps(value, indent=2, ensure_ascii=False)
    return f"<p>{escape(said)}</p><details><pre>{escape(shown)}</pre></details>"


def _html(text: str, policy: str = "") -> Response:
    allowed = f"img-src data:; style-src 'unsafe-inline'; {policy}form-action 'none'"
    return HTMLResponse(
        text,
        headers={
            "content-security-policy": f"default-src 'none'; {allowed}",
            "x-content-type-options": "nosniff",
            "referrer-policy": "no-referrer",
        },
    )
