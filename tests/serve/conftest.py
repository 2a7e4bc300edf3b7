"""What the tests of the server start from: small models, and an application in this process."""

import asyncio
import threading
from contextlib import asynccontextmanager

import pytest
from helpers.reward_models import save_reward_model

pytest.importorskip("fastapi", reason="needs the extra serve")
pytest.importorskip("prometheus_client", reason="needs the extra serve")
pytest.importorskip("uvicorn", reason="needs the extra serve")
httpx2 = pytest.importorskip("httpx2")

from vrm_pyro.prediction.scorer import Scorer  # noqa: E402
from vrm_pyro.serve.application import build_application  # noqa: E402
from vrm_pyro.serve.service import Service  # noqa: E402
from vrm_pyro.serve.settings import ServeSettings  # noqa: E402


@pytest.fixture(scope="session")
def chat_dir(tmp_path_factory):
    """A folder with a model on a decoder with a chat template."""
    return save_reward_model(tmp_path_factory.mktemp("served"), "llama-chat")


@pytest.fixture(scope="session")
def bert_dir(tmp_path_factory):
    """The same on an encoder without a chat template."""
    return save_reward_model(tmp_path_factory.mktemp("served_bert"), "bert")


@pytest.fixture(scope="session")
def scorer(chat_dir):
    return Scorer.from_pretrained(chat_dir, dtype="float32", device="cpu")


@asynccontextmanager
async def running(scorer, **settings):
    """Serve a model in this process; yields a client and the service."""
    settings.setdefault("max_wait_ms", 1.0)
    service = Service(scorer, ServeSettings(**settings), "tiny")
    app = build_application(service)
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app, raise_app_exceptions=False)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            yield client, service


class Served:
    """Models that are served in a thread of this process, each with its settings once."""

    def __init__(self):
        self.loop, self.open = asyncio.new_event_loop(), {}
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def run(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(60)

    def __call__(self, scorer, test, **settings):
        """Run ``async def test(client, service)``; the same model and settings start once."""
        key = (id(scorer), *sorted(settings.items()))
        if key not in self.open:
            context = running(scorer, **settings)
            self.open[key] = (context, self.run(context.__aenter__()), scorer)
        return self.run(test(*self.open[key][1]))

    def close(self):
        for context, _, _ in self.open.values():
            self.run(context.__aexit__(None, None, None))
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(10)
        self.loop.close()


@pytest.fixture(scope="module")
def serve_in_process():
    served = Served()
    yield served
    served.close()
