"""Every route gives the scorer's rewards, in the shape of its client."""

import asyncio
import base64
import json
import math
import struct

import numpy as np
import pytest
from helpers.tiny_backbones import text

from vrm_pyro.data.rows import load_table
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.prediction.explanation.explain import explain

PROMPT, RESPONSES = text(0, 6), [text(10 + i, 4 + i) for i in range(4)]
OPENED = f"<s><|user|>{PROMPT}<|end|><|assistant|>"
WHOLE = f"{OPENED}{RESPONSES[0]}<|end|>"
CHAT = [{"role": "user", "content": PROMPT}, {"role": "assistant", "content": RESPONSES[0]}]
ALL = [
    "mean",
    "sd",
    "quantiles",
    "weights",
    "scores",
    "contributions",
    "pairwise",
    "p_best",
    "lower_bound",
    "reward",
]


@pytest.fixture(scope="module")
def expected(scorer):
    return scorer(PROMPT, RESPONSES)


@pytest.fixture(scope="module")
def ids(scorer):
    return scorer.backbone.tokenizer(WHOLE, add_special_tokens=False)["input_ids"]


def near(value):
    return pytest.approx(value, abs=1e-5)


ROUTES = {
    "score": ("/score", {"prompt": PROMPT, "responses": RESPONSES[:1]}),
    "score messages": ("/score", {"messages": CHAT}),
    "get_reward": ("/get_reward", {"query": [f"{WHOLE}</s>"], "prompts": [OPENED]}),
    "vllm text": ("/classify", {"model": "tiny", "input": WHOLE, "use_activation": False}),
    "vllm without BOS": ("/classify", {"input": WHOLE.removeprefix("<s>")}),
    "vllm with two BOS": ("/classify", {"input": [f"<s>{WHOLE}"]}),
    "vllm messages": ("/classify", {"messages": CHAT, "add_generation_prompt": False}),
    "sglang": ("/classify", {"text": [WHOLE]}),
    "sglang single": ("/classify", {"text": WHOLE}),
    "pooling": ("/pooling", {"input": [WHOLE], "task": "classify"}),
    "embeddings": ("/v1/embeddings", {"model": "tiny", "input": WHOLE}),
    "tei text": ("/predict", {"inputs": WHOLE}),
    "tei pair": ("/predict", {"inputs": [PROMPT, RESPONSES[0]], "raw_scores": True}),
    "tei batch": ("/predict", {"inputs": [[PROMPT, RESPONSES[0]], [WHOLE]]}),
    "slime": ("/rm", {"prompt": CHAT[:1], "response": RESPONSES[0], "label": "42"}),
    "slime templated": ("/rm", {"prompt": OPENED, "response": RESPONSES[0], "label": None}),
}
REWARD = {
    "/score": lambda found: found["results"][0]["responses"][0]["mean"],
    "/get_reward": lambda found: found["rewards"][0],
    "/classify": lambda found: (
        (found[0] if isinstance(found, list) else found)["embedding"][0]
        if "data" not in found
        else found["data"][-1]["probs"][-1]
    ),
    "/pooling": lambda found: found["data"][0]["data"][0],
    "/v1/embeddings": lambda found: found["data"][-1]["embedding"][-1],
    "/predict": lambda found: (found[0][0] if isinstance(found[0], list) else found[0])["score"],
    "/rm": lambda found: found,
}


def test_every_route_gives_the_reward_of_the_scorer(scorer, expected, serve_in_process):
    async def test(client, service):
        for name, (route, body) in ROUTES.items():
            reply = await client.post(route, json=body)
            assert reply.status_code == 200, (name, reply.text)
            assert REWARD[route](reply.json()) == near(expected[0]["reward_mean"]), name

    serve_in_process(scorer, test)


@pytest.mark.parametrize("kind", ["chat", "bert"])
def test_any_number_of_clients_in_any_order(kind, request, serve_in_process):
    from vrm_pyro.prediction.scorer import Scorer

    model = Scorer.from_pretrained(request.getfixturevalue(f"{kind}_dir"), dtype="float32")
    prompts = [text(i % 7, 6) for i in range(64)]
    answers = [text(100 + i % 40, 3 + i % 9) for i in range(64)]
    alone = [line["reward_mean"] for line in model(prompts, answers)]

    async def test(client, service):
        for number in (1, 5, 64):
            order = np.random.default_rng(number).permutation(64)[:number]
            bodies = [{"prompt": prompts[i], "responses": [answers[i]]} for i in order]
            replies = await asyncio.gather(*(client.post("/score", json=b) for b in bodies))
            found = [REWARD["/score"](reply.json()) for reply in replies]
            assert found == near([alone[i] for i in order])

    serve_in_process(model, test)


def test_long_texts_take_the_other_lane_and_a_stop_loses_nothing(scorer):
    """Both threads have work when the server is told to stop; every answer is right."""
    from serve.conftest import running

    answers = [text(i, 4 + 4 * (i % 6)) for i in range(24)]
    alone = [line["reward_mean"] for line in scorer(PROMPT, answers)]

    async def whole():
        async with running(scorer, long_tokens=40, batch_tokens=120) as (client, service):
            bodies = [{"prompt": PROMPT, "responses": [a]} for a in answers]
            calls = [asyncio.create_task(client.post("/score", json=b)) for b in bodies]
            while not service.engine.queue.tokens:
                await asyncio.sleep(0.001)
            await asyncio.to_thread(service.engine.stop)
            return await asyncio.gather(*calls)

    replies = asyncio.run(whole())
    for reply, expected in zip(replies, alone, strict=True):
        if reply.status_code == 200:
            assert REWARD["/score"](reply.json()) == near(expected)
        else:  # it came after the stop
            assert reply.status_code == 503
    assert any(reply.status_code == 200 for reply in replies)


class TestScore:
    def test_everything_it_can_say(self, scorer, chat_dir, expected, serve_in_process):
        row = {"prompt": PROMPT, "responses": RESPONSES}
        (line,) = scorer.score_prompts(load_table([row], every_row=True), k=2.0)
        bound = VRMReward(chat_dir, "quantile", level=0.2, dtype="float32")
        rewards = bound(prompts=[PROMPT] * 4, completions=RESPONSES)
        asked = {"ask": ALL, "k": 2.0, "aggregation": "quantile", "level": 0.2}

        async def test(client, service):
            return (await client.post("/score", json={**row, **asked})).json()

        reply = serve_in_process(scorer, test)
        (result,) = reply["results"]
        assert reply["score_unit"] == "rating"
        assert result["weights"] == near(expected[0]["weights"])
        for found, other, own, reward in zip(
            result["responses"], expected, line["responses"], rewards, strict=True
        ):
            assert found["mean"] == near(other["reward_mean"])
            assert found["sd"] == near(other["reward_sd"])
            assert found["scores"] == near(other["scores"])
            assert found["scores_sd"] == near(other["scores_sd"])
            assert found["p_best"] == near(own["p_best"])
            assert found["lower_bound"] == near(own["lower_bound"])
            assert found["reward"] == near(reward)
            assert sum(found["contributions"].values()) == near(found["mean"])
            low, middle, high = (found["quantiles"][level] for level in ("0.05", "0.5", "0.95"))
            assert low < middle < high
            assert high - low == pytest.approx(3.29 * found["sd"], rel=0.2)
            assert found["tokens"] > result["prompt_tokens"]
            assert found["truncated"] is False
        (p,) = scorer.preference(PROMPT, RESPONSES[1], RESPONSES[2])
        assert result["pairwise"][1][2] == near(p)
        assert result["pairwise"][1][1] is None

    def test_explanation_is_that_of_explain(self, scorer, serve_in_process):
        whole = explain(scorer, PROMPT, RESPONSES[:2], num_draws=200, seed=3)

        async def test(client, service):
            body = {"prompt": PROMPT, "responses": RESPONSES[:2], "ask": ["explanation"]}
            return (await client.post("/score", json={**body, "num_draws": 200, "seed": 3})).json()

        found = serve_in_process(scorer, test)["results"][0]["explanation"]
        table = found.pop("table")
        assert found["order"] == whole.to_json()["order"]
        assert found["pairs"][0]["delta_mean"] == near(whole.to_json()["pairs"][0]["delta_mean"])
        assert "What would flip it" in table
        assert "What would flip it" in str(whole)

    def test_many_items_whole_or_as_a_stream(self, scorer, serve_in_process):
        prompts = [text(30 + i, 5) for i in range(5)]
        items = [{"prompt": p, "responses": RESPONSES[: 1 + i]} for i, p in enumerate(prompts)]
        alone = [scorer(i["prompt"], i["responses"]) for i in items]

        async def test(client, service):
            whole = (await client.post("/score", json={"items": items})).json()["results"]
            reply = await client.post("/score", json={"items": items, "stream": True})
            assert reply.headers["content-type"].startswith("application/x-ndjson")
            lines = [json.loads(line) for line in reply.text.splitlines()]
            return whole, sorted(lines, key=lambda line: line["index"])

        whole, lines = serve_in_process(scorer, test)
        for results in (whole, lines):
            found = [[r["mean"] for r in result["responses"]] for result in results]
            for row, other in zip(found, alone, strict=True):
                assert row == near([line["reward_mean"] for line in other])

    def test_an_error_in_a_stream_is_a_line(self, scorer, serve_in_process):
        items = [{"prompt": PROMPT, "responses": RESPONSES[:n]} for n in (1, 2)]

        async def test(client, service):
            body = {"items": items, "stream": True, "ask": ["explanation"], "num_draws": 100}
            reply = await client.post("/score", json=body)
            return [json.loads(line) for line in reply.text.splitlines()]

        first, second = sorted(serve_in_process(scorer, test), key=lambda line: line["index"])
        assert "two or more different responses" in first["error"]["message"]
        assert second["explanation"]["order"]

    def test_equal_responses_weigh_twice(self, scorer, chat_dir, serve_in_process):
        given = [RESPONSES[0], RESPONSES[0], RESPONSES[1]]
        reward = VRMReward(chat_dir, "lower_bound", dtype="float32")
        local = reward(prompts=[PROMPT] * 3, completions=given)

        async def test(client, service):
            body = {"prompt": PROMPT, "responses": given, "aggregation": "lower_bound"}
            body["ask"] = ["reward", "pairwise"]
            return (await client.post("/score", json=body)).json()["results"][0]

        found = serve_in_process(scorer, test)
        assert [r["reward"] for r in found["responses"]] == near(local)
        assert found["pairwise"][0][1] is None

    def test_a_baseline_has_no_objectives(self, tmp_path, serve_in_process):
        from helpers.reward_models import save_reward_model

        from vrm_pyro.prediction.scorer import Scorer

        folder = save_reward_model(tmp_path, "bert", architecture="bradley_terry")
        model = Scorer.from_pretrained(folder, dtype="float32")
        (line,) = model(PROMPT, RESPONSES[:1])

        async def test(client, service):
            body = {"prompt": PROMPT, "responses": RESPONSES[:2], "ask": ALL}
            refused = {**body, "ask": ["explanation"]}
            return [(await client.post("/score", json=b)).json() for b in (body, refused)]

        reply, refused = serve_in_process(model, test)
        result = reply["results"][0]
        assert result["responses"][0]["mean"] == near(line["reward_mean"])
        assert result["weights"] is None
        assert result["responses"][0]["scores"] is None
        assert result["responses"][0]["contributions"] is None
        assert "no objectives" in refused["error"]["message"]


class TestShapes:
    """Replies as the clients of other projects read them (recorded shapes)."""

    def replies(self, scorer, serve_in_process, *requests):
        async def test(client, service):
            found = [await client.post(route, json=body) for route, body in requests]
            assert [reply.status_code for reply in found] == [200] * len(requests)
            return [reply.json() for reply in found]

        return serve_in_process(scorer, test)

    def test_vllm(self, scorer, ids, expected, serve_in_process):
        mean = expected[0]["reward_mean"]
        raw, active, tokens, several, pooled = self.replies(
            scorer,
            serve_in_process,
            ("/classify", {"input": WHOLE}),
            ("/classify", {"input": WHOLE, "activation": True}),
            ("/classify", {"input": ids}),
            ("/classify", {"input": [ids, ids[1:]]}),
            ("/pooling", {"input": WHOLE, "use_activation": True}),
        )
        assert set(raw) == {"id", "object", "created", "model", "data", "usage"}
        (data,) = raw["data"]
        assert {k: data[k] for k in ("index", "label", "num_classes")} == {
            "index": 0,
            "label": "LABEL_0",
            "num_classes": 1,
        }
        assert data["probs"] == near([mean])
        assert data["vrm"]["sd"] == near(expected[0]["reward_sd"])
        assert raw["usage"] == {
            "prompt_tokens": len(ids),
            "total_tokens": len(ids),
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        }
        assert active["data"][0]["probs"] == near([1 / (1 + math.exp(-mean))])
        assert tokens["data"][0]["probs"] == near([mean])
        assert [d["probs"][0] for d in several["data"]] == near([mean, mean])
        assert [d["index"] for d in several["data"]] == [0, 1]
        assert pooled["data"][0]["object"] == "pooling"
        assert pooled["data"][0]["data"] == near([1 / (1 + math.exp(-mean))])

    def test_sglang_and_openai(self, scorer, expected, serve_in_process):
        listed, single, coded = self.replies(
            scorer,
            serve_in_process,
            ("/classify", {"text": [WHOLE, WHOLE]}),
            ("/classify", {"text": WHOLE}),
            ("/v1/embeddings", {"input": WHOLE, "encoding_format": "base64"}),
        )
        assert [len(item["embedding"]) for item in listed] == [1, 1]
        assert len(single["embedding"]) == 1
        (value,) = struct.unpack("<f", base64.b64decode(coded["data"][0]["embedding"]))
        assert value == near(expected[0]["reward_mean"])

    def test_openrlhf(self, scorer, expected, serve_in_process):
        found, none = self.replies(
            scorer,
            serve_in_process,
            ("/get_reward", {"query": [WHOLE], "prompts": [OPENED], "labels": [None]}),
            ("/get_reward", {"query": [], "prompts": [], "labels": []}),
        )
        assert found["rewards"] == found["scores"] == near([expected[0]["reward_mean"]])
        assert found["extra_logs"] == {"vrm_sd": near([expected[0]["reward_sd"]])}
        assert none == {"rewards": [], "scores": [], "extra_logs": {"vrm_sd": []}}

    def test_openrlhf_with_several_turns(self, scorer, serve_in_process):
        turns = [
            {"role": "user", "content": "why"},
            {"role": "assistant", "content": "not"},
            {"role": "user", "content": PROMPT},
        ]
        (line,) = scorer(turns, RESPONSES[:1])
        before = f"<s><|user|>why<|end|><|assistant|>not<|end|>{OPENED.removeprefix('<s>')}"
        (found,) = self.replies(
            scorer,
            serve_in_process,
            ("/get_reward", {"query": [f"{before}{RESPONSES[0]}<|end|>"], "prompts": [before]}),
        )
        assert found["rewards"] == near([line["reward_mean"]])

    def test_tei_and_slime(self, scorer, expected, serve_in_process):
        mean = expected[0]["reward_mean"]
        single, active, batch, number, detail = self.replies(
            scorer,
            serve_in_process,
            ("/predict", {"inputs": WHOLE}),
            ("/predict", {"inputs": WHOLE, "raw_scores": False}),
            ("/predict", {"inputs": [[WHOLE], [PROMPT, RESPONSES[0]]]}),
            ("/rm", {"prompt": CHAT[:1], "response": RESPONSES[0], "label": None}),
            ("/rm?detail=true", {"prompt": OPENED, "response": RESPONSES[0], "label": 1}),
        )
        assert single[0]["label"] == "LABEL_0"
        assert active[0]["score"] == near(1 / (1 + math.exp(-mean)))
        assert [row[0]["score"] for row in batch] == near([mean, mean])
        assert number == near(mean)
        assert detail == {"score": near(mean), "vrm_sd": near(expected[0]["reward_sd"])}

    def test_models_and_health(self, scorer, serve_in_process):
        async def test(client, service):
            routes = ("/v1/models", "/health", "/ready", "/openapi.json", "/metrics", "/docs")
            found = {route: await client.get(route) for route in routes}
            assert all(reply.status_code == 200 for reply in found.values())
            return found

        found = serve_in_process(scorer, test)
        (model,) = found["/v1/models"].json()["data"]
        assert model["id"] == "tiny"
        assert model["vrm"]["objectives"] == ["clarity", "depth", "safety"]
        paths = set(found["/openapi.json"].json()["paths"])
        assert {"/score", "/get_reward", "/classify", "/rm"} <= paths
        page = found["/docs"]
        assert all(f" {path}</h2>" in page.text for path in paths)
        assert "src=" not in page.text  # nothing from the network
        assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_texts_of_a_policy_with_a_template_of_its_own(
    bert_dir, scorer, tmp_path, serve_in_process
):
    from helpers.tiny_backbones import llama_tokenizer

    from vrm_pyro.prediction.scorer import Scorer

    model = Scorer.from_pretrained(bert_dir, dtype="float32")
    (line,) = model(PROMPT, RESPONSES[:1])
    llama_tokenizer(chat=True).save_pretrained(tmp_path)
    bodies = {
        str(tmp_path): {"query": [f"{WHOLE}</s>"], "prompts": [OPENED]},
        "own": {"query": [PROMPT + RESPONSES[0]], "prompts": [PROMPT]},  # it has no template
        "none": {"query": [PROMPT + RESPONSES[0]], "prompts": [PROMPT]},
    }
    for policy, body in bodies.items():

        async def test(client, service, body=body):
            return (await client.post("/get_reward", json=body)).json()

        found = serve_in_process(model, test, policy_tokenizer=policy)
        assert found["rewards"] == near([line["reward_mean"]])
