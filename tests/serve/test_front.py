"""What is refused, and how: keys, sizes, times, texts that are none; ids, logs and metrics."""

import asyncio
import json
import logging

import pytest
from helpers.tiny_backbones import text

from vrm_pyro.errors import InputError
from vrm_pyro.serve.authentication import KeyFile
from vrm_pyro.serve.settings import ServeSettings

BODY = {"prompt": text(0, 6), "responses": [text(1, 5)]}
KEY, OTHER = "k" * 32, "o" * 32


def error(reply):
    return reply.status_code, reply.json()["error"]["message"]


class TestKeys:
    @pytest.fixture
    def keys(self, tmp_path):
        path = tmp_path / "keys.txt"
        path.write_text(f"# the trainer's\ntrainer {KEY}\n\n{OTHER}  # nobody's\n")
        return path

    def test_one_of_them_is_needed(self, scorer, keys, serve_in_process):
        async def test(client, service):
            async def status(**headers):
                reply = await client.post("/score", json=BODY, headers=headers)
                return reply.status_code

            assert await status() == 401
            assert await status(authorization="Bearer wrong") == 401
            assert await status(authorization=f"Bearer {KEY}") == 200
            assert await status(authorization=f"Basic {KEY}") == 401
            assert await status(**{"x-api-key": OTHER}) == 200
            refused = await client.get("/metrics")
            assert refused.headers["www-authenticate"] == "Bearer"
            for route in ("/health", "/ready", "/"):
                assert (await client.get(route)).status_code == 200
            keys.write_text("n" * 32)
            service.keys.reload()
            assert await status(authorization=f"Bearer {KEY}") == 401
            assert await status(authorization="Bearer " + "n" * 32) == 200
            keys.write_text("short")
            with pytest.raises(InputError, match="line 1 is no key"):
                service.keys.reload()
            assert await status(authorization="Bearer " + "n" * 32) == 200

        serve_in_process(scorer, test, api_key_file=str(keys))

    def test_names_and_files(self, keys, tmp_path):
        held = KeyFile(keys)
        assert (held.client(KEY), held.client(OTHER)) == ("trainer", "key-4")
        assert held.client("\ud800") is None
        keys.write_text("# none\n")
        with pytest.raises(InputError, match="holds no key"):
            KeyFile(keys)
        with pytest.raises(InputError, match="cannot be read"):
            KeyFile(tmp_path / "missing")


class TestSettings:
    def test_other_machines_need_keys(self):
        for host in ("0.0.0.0", "::", "10.0.0.7", "example.org"):
            with pytest.raises(InputError, match="--no_authentication"):
                ServeSettings(host=host)
            assert ServeSettings(host=host, no_authentication=True)
        for host in ("127.0.0.1", "::1", "localhost", "127.3.2.1"):
            assert ServeSettings(host=host).is_local

    @pytest.mark.parametrize(
        ("given", "said"),
        [
            ({"port": 70_000}, "port is 70000"),
            ({"max_wait_ms": float("nan")}, "max_wait_ms is nan"),
            ({"empty_reward": float("inf")}, "empty_reward is inf"),
            ({"api_key_file": "a", "no_authentication": True}, "contradict"),
            ({"tls_key": "a"}, "both tls_certificate and tls_key"),
            ({"tls_key": "a", "tls_certificate": "b"}, "tls_certificate b: no such file"),
            ({"timeout_s": 0}, "timeout_s is 0"),
        ],
    )
    def test_what_makes_no_sense_is_said(self, given, said):
        with pytest.raises(InputError, match=said):
            ServeSettings(**given)


REFUSED = {
    "no JSON": ("/score", b"{", 400, "JSON"),
    "no UTF-8": ("/score", b'{"prompt": "\xff"}', 400, ""),
    "deep": ("/score", b'{"prompt":' + b"[" * 50_000 + b"]" * 50_000 + b"}", 400, ""),
    "deep message": (
        "/score",
        json.dumps({"responses": ["a"], "prompt": [{"role": "user", "content": "x"}]})
        .replace('"x"', "[" * 500 + "]" * 500)
        .encode(),
        422,
        "",
    ),
    "surrogate": ("/score", b'{"prompt": "\\ud800", "responses": ["a"]}', 422, ""),
    "surrogate in a message": (
        "/score",
        b'{"messages": [{"role": "user", "content": "\\ud800"},'
        b'{"role": "assistant", "content": "a"}]}',
        422,
        "surrogate pair",
    ),
    "surrogate in a text": ("/classify", b'{"input": "\\udfff"}', 422, ""),
    "NaN": ("/score", b'{"prompt": "a", "responses": ["b"], "k": NaN}', 422, "finite"),
    "nothing asked": ("/score", b"{}", 422, "give prompt and responses"),
    "both forms": (
        "/score",
        b'{"items": [], "prompt": "a", "responses": ["b"]}',
        422,
        "not both",
    ),
    "unknown wish": ("/score", b'{"prompt": "a", "responses": ["b"], "ask": ["x"]}', 422, "ask.0"),
    "image": (
        "/score",
        b'{"prompt": [{"role": "user", "content": [{"type": "image"}]}], "responses": ["b"]}',
        422,
        "no text",
    ),
    "no assistant": (
        "/classify",
        b'{"messages": [{"role": "user", "content": "a"}]}',
        422,
        "must end with the assistant's",
    ),
    "no boundary": ("/classify", b'{"input": "no template"}', 422, "cannot be divided"),
    "no ids": ("/pooling", b'{"input": []}', 422, "input is empty"),
    "unknown id": ("/classify", b'{"input": [99999999]}', 422, "token ids must be"),
    "negative id": ("/classify", b'{"input": [[-1]]}', 422, "token ids must be"),
    "two sources": ("/classify", b'{"input": "a", "text": "b"}', 422, "give one of"),
    "three texts": ("/predict", b'{"inputs": ["a", "b", "c"]}', 422, "of two"),
    "unequal": ("/get_reward", b'{"query": ["a"], "prompts": []}', 422, "one for each"),
    "other prompt": ("/get_reward", b'{"query": ["a"], "prompts": ["b"]}', 422, "does not begin"),
    "other model": ("/classify", b'{"input": "a", "model": "b"}', 404, "'tiny'"),
    "too many": (
        "/score",
        json.dumps({"prompt": "a", "responses": ["b"] * 5000}).encode(),
        422,
        "--max_responses",
    ),
    "too many pairs": (
        "/score",
        json.dumps({"prompt": "a", "responses": ["b"] * 65, "ask": ["pairwise"]}).encode(),
        422,
        "at most 64",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_scored_is_said(name, scorer, serve_in_process):
    route, content, status, said = REFUSED[name]

    async def test(client, service):
        reply = await client.post(
            route, content=content, headers={"content-type": "application/json"}
        )
        good = await client.post("/score", json=BODY)
        assert good.status_code == 200  # service goes on
        return reply

    reply = serve_in_process(scorer, test)
    assert error(reply)[0] == status, reply.text
    assert said in error(reply)[1]
    assert reply.json()["error"]["code"] == status


class TestLimits:
    def test_overlong_and_empty(self, scorer, serve_in_process):
        long = {"prompt": text(0, 6), "responses": [text(1, 200)]}
        empty = {"prompt": text(0, 6), "responses": ["a good one", " "]}

        async def test(client, service):
            refused = await client.post("/score", json=long)
            cut = await client.post("/score", json={**long, "truncate": True})
            no_text = await client.post("/score", json=empty)
            allowed = await client.post("/score", json={**empty, "allow_empty": True})
            none = await client.post(
                "/score", json={**empty, "allow_empty": True, "responses": []}
            )
            metrics = (await client.get("/metrics")).text
            return refused, cut, no_text, allowed, none, metrics

        refused, cut, no_text, allowed, none, metrics = serve_in_process(scorer, test)
        assert error(refused) == (422, refused.json()["error"]["message"])
        assert "more tokens than the model reads" in error(refused)[1]
        (response,) = cut.json()["results"][0]["responses"]
        assert response["truncated"] is True
        assert response["mean"] == pytest.approx(
            scorer(long["prompt"], long["responses"])[0]["reward_mean"], abs=1e-5
        )
        assert "response 1 is empty" in error(no_text)[1]
        assert allowed.json()["results"][0]["responses"][1] is None
        assert none.json()["results"][0]["responses"] == []
        assert "vrm_overlong_responses_total 2.0" in metrics

    def test_the_server_has_a_reward_for_empty_ones(self, scorer, serve_in_process):
        opened = "<s><|user|>hi<|end|><|assistant|>"

        async def test(client, service):
            found = await client.post("/score", json={"prompt": "hi", "responses": [""]})
            sample = {"query": [f"{opened}</s>"], "prompts": [opened], "labels": [None]}
            rewards = await client.post("/get_reward", json=sample)
            pooled = await client.post("/classify", json={"input": f"{opened}<|end|>"})
            return found.json(), rewards.json(), pooled.json()

        found, rewards, pooled = serve_in_process(scorer, test, empty_reward=-5.0)
        assert found["results"][0]["responses"][0]["mean"] == -5.0
        assert rewards["rewards"] == [-5.0]
        assert pooled["data"][0]["probs"] == [-5.0]

    def test_bodies(self, scorer, serve_in_process):
        async def drops():
            yield b'{"prompt":'
            await asyncio.sleep(5)
            yield b"1}"

        async def pours():
            for _ in range(100):
                yield b" " * 1000

        async def test(client, service):
            client.headers["content-type"] = "application/json"
            large = await client.post("/score", content=b" " * 20_000)
            poured = await client.post("/score", content=pours())
            slow = await client.post("/score", content=drops())
            other = {"content-type": "text/plain"}
            assert (await client.post("/score", content=b"{}", headers=other)).status_code == 415
            assert (await client.post("/score", json=BODY)).status_code == 200
            return large, poured, slow

        large, poured, slow = serve_in_process(scorer, test, max_body_mb=0.01, body_timeout_s=0.05)
        assert error(large) == (413, large.json()["error"]["message"])
        assert poured.status_code == 413
        assert slow.status_code == 408

    def test_a_full_queue_is_503_with_retry_after(self, scorer, serve_in_process):
        async def test(client, service):
            bodies = [{"prompt": text(i, 6), "responses": [text(i, 9)] * 1} for i in range(64)]
            replies = await asyncio.gather(*(client.post("/score", json=b) for b in bodies))
            after = await client.post("/score", json=BODY)
            assert after.status_code == 200
            return replies

        replies = serve_in_process(
            scorer, test, batch_tokens=16, max_queue_tokens=120, max_wait_ms=0
        )
        statuses = {reply.status_code for reply in replies}
        assert statuses == {200, 503}
        refused = next(reply for reply in replies if reply.status_code == 503)
        assert int(refused.headers["retry-after"]) >= 1

    def test_a_deadline_is_503_and_its_work_is_dropped(self, scorer, serve_in_process):
        async def test(client, service):
            body = {**BODY, "timeout_s": 0.01}
            reply = await client.post("/score", json=body)
            assert service.engine.queue.tokens == 0
            return reply

        reply = serve_in_process(scorer, test, max_wait_ms=300.0)
        assert reply.status_code == 503

    def test_while_it_stops_it_refuses(self, scorer, serve_in_process):
        async def test(client, service):
            service.draining = True
            try:
                refused = await client.post("/score", json=BODY)
                ready, alive = await client.get("/ready"), await client.get("/health")
            finally:
                service.draining = False
            return refused, ready, alive

        refused, ready, alive = serve_in_process(scorer, test)
        assert (refused.status_code, ready.status_code, alive.status_code) == (503, 503, 200)
        assert refused.headers["retry-after"]


def test_a_fault_of_one_request_is_500_and_the_others_go_on(
    scorer, serve_in_process, monkeypatch, caplog
):
    from vrm_pyro.serve import answers

    def broken(*arguments):
        raise RuntimeError("broken")

    monkeypatch.setattr(answers, "_quantiles", broken)

    async def test(client, service):
        bodies = [{**BODY, "ask": ["quantiles"]}, BODY]
        return await asyncio.gather(*(client.post("/score", json=b) for b in bodies))

    fault, good = serve_in_process(scorer, test)
    assert fault.status_code == 500
    assert "broken" not in fault.text
    assert good.status_code == 200


class TestLogs:
    def lines(self, caplog):
        return [json.loads(r.message) for r in caplog.records if r.name.endswith("serve.requests")]

    @pytest.mark.parametrize("texts", [False, True])
    def test_a_line_for_each_request(self, texts, scorer, serve_in_process, caplog):
        async def test(client, service):
            return await client.post("/score", json=BODY, headers={"x-request-id": "step-17"})

        with caplog.at_level(logging.INFO, "vrm_pyro.serve.requests"):
            reply = serve_in_process(scorer, test, log_texts=texts)
        assert reply.headers["x-request-id"] == "step-17"
        (line,) = self.lines(caplog)
        assert {k: line[k] for k in ("id", "route", "status", "responses", "event")} == {
            "id": "step-17",
            "route": "/score",
            "status": 200,
            "responses": 1,
            "event": "request",
        }
        assert line["ms"] > 0
        assert line["tokens"] > 5
        assert (BODY["prompt"] in json.dumps(line)) == texts

    def test_an_id_is_made_where_none_fits(self, scorer, serve_in_process):
        async def test(client, service):
            given = await client.get("/health", headers={"x-request-id": "a" * 500})
            return given.headers["x-request-id"]

        assert len(serve_in_process(scorer, test)) == 32
