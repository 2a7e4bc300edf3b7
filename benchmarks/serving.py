"""Measure the server of ``vrm-pyro serve``: throughput, sharing, latency, overload, soak.

    python benchmarks/serving.py --out serving.json
    python benchmarks/serving.py --checks soak --soak_s 1800

A model with random heads on a random Llama (--width, --layers), or on the backbone of a run
(--model DIR). The server is a process with one thread for computing, and so is the offline scorer
it is compared with; this program sends the requests. Ratios are of one run, one after the other.
Other work on the machine moves them: run it on an idle one.
"""

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import httpx2
import psutil
import torch
from transformers import LlamaConfig, LlamaModel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
from helpers.reward_models import OBJECTIVES, facts_of
from helpers.tiny_backbones import llama_tokenizer, text

from vrm_pyro.backbone import load_backbone
from vrm_pyro.models.checkpoint import LoadedModel, save_model
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.prediction.scorer import Scorer

CHECKS = ("equality", "throughput", "sharing", "latency", "long", "overload", "soak")


def make_model(folder: Path, width: int, layers: int, max_length: int) -> Path:
    """Write a random Llama with a chat template, and a model of random heads on it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=width,
        intermediate_size=4 * width,
        num_hidden_layers=layers,
        num_attention_heads=max(1, width // 64),
        max_position_embeddings=max_length,
    )
    tokenizer = llama_tokenizer(True)
    tokenizer.model_max_length = max_length
    LlamaModel(config).save_pretrained(folder / "llama")
    tokenizer.save_pretrained(folder / "llama")
    where = str(folder / "llama")
    backbone = load_backbone(where, pooling="last", layer=None, max_length=max_length)
    model = build_model(ModelConfig(dtype="float32"), backbone.hidden_size, 3, True)
    loaded = LoadedModel(
        model.eval(), ModelConfig(dtype="float32"), OBJECTIVES, True, facts_of(backbone, where)
    )
    save_model(loaded, folder / "model")
    return folder / "model"


class Server:
    """A server in a process of its own."""

    def __init__(self, model: Path, *options: object) -> None:
        command = [sys.executable, "-m", "vrm_pyro.cli", "serve", "--model", str(model)]
        command += ["--port", "0", "--device", "cpu", "--dtype", "float32", *map(str, options)]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        assert self.process.stdout is not None
        self.address = self.process.stdout.readline().split()[-1]

    def memory(self) -> int:
        """Return the resident memory, in bytes."""
        return psutil.Process(self.process.pid).memory_info().rss

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        assert self.process.wait(120) == 0


def body(prompt: str, *responses: str, **more: object) -> dict[str, object]:
    """Return a request."""
    return {"prompt": prompt, "responses": list(responses), **more}


async def send(client: httpx2.AsyncClient, request: dict[str, object]) -> tuple[int, float, float]:
    """Return status, seconds and reward of a request; NaN without one."""
    start = time.perf_counter()
    reply = await client.post("/score", json=request)
    seconds = time.perf_counter() - start
    if reply.status_code != 200:
        return reply.status_code, seconds, float("nan")
    return 200, seconds, reply.json()["results"][0]["responses"][0]["mean"]


def connected(server: Server) -> httpx2.AsyncClient:
    """Return a client with as many connections as it needs."""
    limits = httpx2.Limits(max_connections=1000, max_keepalive_connections=1000)
    return httpx2.AsyncClient(base_url=server.address, timeout=120, limits=limits)


async def closed(server: Server, requests: list[dict[str, object]], clients: int):
    """Send requests from clients that each wait for their answer; return seconds and results."""
    waiting = iter(enumerate(requests))
    found: list[tuple[int, float, float]] = [(0, 0.0, 0.0)] * len(requests)
    async with connected(server) as client:

        async def one() -> None:
            for i, request in waiting:
                found[i] = await send(client, request)

        start = time.perf_counter()
        await asyncio.gather(*(one() for _ in range(clients)))
        return time.perf_counter() - start, found


async def paced(server: Server, requests: list[dict[str, object]], rate: float):
    """Send requests at random times, ``rate`` a second, whatever the answers do."""
    rng = random.Random(1)
    async with connected(server) as client:
        start, calls = time.perf_counter(), []
        for request in requests:
            calls.append(asyncio.create_task(send(client, request)))
            await asyncio.sleep(rng.expovariate(rate))
        found = await asyncio.gather(*calls)
        return time.perf_counter() - start, found


def quantile(values: list[float], level: float) -> float:
    """Return an empirical quantile."""
    return sorted(values)[min(len(values) - 1, int(level * len(values)))]


def texts(number: int, words: int, seed: int) -> list[str]:
    """Return texts of about so many words, all different."""
    rng = random.Random(seed)
    return [text(seed + i, rng.randint(words // 2, words * 3 // 2)) for i in range(number)]


def main() -> None:
    """Run the checks and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--checks", nargs="*", default=[c for c in CHECKS if c != "soak"])
    parser.add_argument("--model", type=Path)
    parser.add_argument("--width", type=int, default=256)
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--max_length", type=int, default=2500)
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--soak_s", type=float, default=180.0)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        folder = options.model or make_model(
            Path(place), options.width, options.layers, options.max_length
        )
        found = measure(folder, options)
    found["load_average"] = os.getloadavg()[0]
    print(json.dumps(found, indent=1))
    if options.out:
        options.out.write_text(json.dumps(found, indent=1) + "\n")


class Found(dict):
    """Results by check; each is printed as it comes."""

    def __setitem__(self, name: str, value: object) -> None:
        super().__setitem__(name, value)
        print(name, json.dumps(value), file=sys.stderr, flush=True)


def measure(folder: Path, options: argparse.Namespace) -> dict[str, object]:
    """Return what each check found."""
    number, found = options.requests, Found()
    prompts, answers = texts(number, 20, 0), texts(number, 30, 10_000)
    singles = [body(p, a) for p, a in zip(prompts, answers, strict=True)]
    scorer = Scorer.from_pretrained(folder, device="cpu", dtype="float32")
    scorer(prompts[:4], answers[:4])
    with Server(folder) as server:
        start = time.perf_counter()
        lines = scorer(prompts, answers)
        offline = time.perf_counter() - start
        expected = [line["reward_mean"] for line in lines]
        asyncio.run(closed(server, singles[:8], 8))
        if "equality" in options.checks or "throughput" in options.checks:
            worst = 0.0
            for clients in (1, 64):
                seconds, results = asyncio.run(closed(server, singles, clients))
                pairs = zip(results, expected, strict=True)
                worst = max(worst, max(abs(r[2] - e) for r, e in pairs))
            found["equality"] = {"largest_difference": worst}
            found["throughput"] = {
                "of_offline": offline / seconds,
                "responses_per_s": number / seconds,
            }
        if "sharing" in options.checks:
            found["sharing"] = sharing(server, number)
        alone, results = asyncio.run(closed(server, singles[:32], 1))
        service = statistics.median(r[1] for r in results)
        seconds, _ = asyncio.run(closed(server, singles, 64))
        capacity = number / seconds
        if "latency" in options.checks:
            _, results = asyncio.run(paced(server, singles, capacity / 2))
            p99 = quantile([r[1] for r in results], 0.99)
            found["latency"] = {"service_ms": 1000 * service, "p99_over_service": p99 / service}
        if "long" in options.checks:
            found["long"] = long_text(server, singles, capacity)
        if "overload" in options.checks:
            found["overload"] = overload(server, singles, capacity)
        if "soak" in options.checks:
            found["soak"] = soak(server, singles, expected, capacity, options.soak_s)
    return found


def sharing(server: Server, number: int) -> dict[str, float]:
    """Compare 16 responses a prompt over 16 requests with as many prompts of the same length."""
    long_prompts = texts(number // 16, 120, 50_000)
    answers = texts(number, 15, 60_000)
    shared = [body(long_prompts[i // 16], answers[i]) for i in range(number)]
    other = [text(70_000 + i, len(long_prompts[i // 16].split())) for i in range(number)]
    apart = [body(other[i], answers[i]) for i in range(number)]
    seconds = [asyncio.run(closed(server, bodies, 64))[0] for bodies in (apart, shared)]
    return {"times_without_sharing": seconds[0] / seconds[1]}


def long_text(server: Server, singles: list, capacity: float) -> dict[str, float]:
    """Compare the p99 of short texts with and without a text of 2,000 tokens among them."""
    _, before = asyncio.run(paced(server, singles, capacity / 2))
    giant = body("why", text(1, 650))
    mixed = [*singles[: len(singles) // 3], giant, *singles[len(singles) // 3 :]]
    _, after = asyncio.run(paced(server, mixed, capacity / 2))
    place = len(singles) // 3
    status, seconds, _ = after.pop(place)
    assert status == 200
    times = [quantile([r[1] for r in results], 0.99) for results in (before, after)]
    return {"p99_ratio": times[1] / times[0], "long_s": seconds}


def overload(server: Server, singles: list, capacity: float) -> dict[str, object]:
    """Send four times what the server can do, with 10 seconds for each request."""
    requests = [{**s, "timeout_s": 10} for s in singles] * 8
    before = server.memory()
    seconds, results = asyncio.run(paced(server, requests, 4 * capacity))
    done = sum(status == 200 for status, *_ in results)
    return {
        "throughput_of_peak": done / seconds / capacity,
        "statuses": sorted({status for status, *_ in results}),
        "answered": done,
        "refused": len(results) - done,
        "slowest_s": max(r[1] for r in results),
        "memory_growth": server.memory() / before - 1,
    }


def soak(
    server: Server, singles: list, expected: list[float], capacity: float, duration: float
) -> dict[str, object]:
    """Send a mixed load for a while; count wrong answers, errors and growth of memory."""
    wrong, errors, total = 0, 0, 0
    asyncio.run(closed(server, singles, 16))
    before, end = server.memory(), time.monotonic() + duration
    while time.monotonic() < end:
        _, results = asyncio.run(paced(server, singles, 0.6 * capacity))
        wrong += sum(
            abs(r[2] - e) > 1e-4 for r, e in zip(results, expected, strict=True) if r[0] == 200
        )
        errors += sum(status != 200 for status, *_ in results)
        total += len(results)
    growth = server.memory() / before - 1
    return {"requests": total, "wrong": wrong, "errors": errors, "memory_growth": growth}


if __name__ == "__main__":
    main()
