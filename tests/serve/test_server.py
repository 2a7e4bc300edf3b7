"""The server as a process: addresses, signals, connections that go wrong, exit codes."""

import asyncio
import concurrent.futures
import contextlib
import ipaddress
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from helpers.tiny_backbones import text
from helpers.workspace import vrm_pyro

from vrm_pyro.cli.verbs import serve as verb
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.serve.settings import ServeSettings

httpx2 = pytest.importorskip("httpx2")

BODY = {"prompt": text(0, 6), "responses": [text(1, 5)]}


def test_the_verb_offers_every_setting():
    offered = {name for name, *_ in verb.SETTINGS}
    assert offered == set(ServeSettings.__dataclass_fields__)
    options = verb.parse(verb.build_parser(), ["--model", "m"])
    assert verb.settings_of(options) == ServeSettings()


class Process:
    """A server in a process of its own."""

    def __init__(self, folder, log, *options, port=0):
        command = [sys.executable, "-m", "vrm_pyro.cli", "serve", "--model", str(folder)]
        command += ["--port", str(port), "--dtype", "float32", "--device", "cpu"]
        self.log = log
        with open(log, "w") as stderr:
            self.popen = subprocess.Popen(
                [*command, *map(str, options)],
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env={**os.environ, "OMP_NUM_THREADS": "1"},
            )
        line = self.popen.stdout.readline()
        assert line.startswith("listening on "), log.read_text()
        self.address = line.split()[-1]
        self.port = int(self.address.rpartition(":")[2])

    def lines(self):
        return [json.loads(x) for x in self.log.read_text().splitlines() if x.startswith("{")]


@contextlib.contextmanager
def running(*arguments):
    server = Process(*arguments)
    try:
        yield server
    finally:
        if server.popen.poll() is None:
            server.popen.kill()
        server.popen.wait()
        server.popen.stdout.close()


@pytest.mark.slow
def test_a_process_from_its_start_to_its_end(chat_dir, scorer, tmp_path):
    keys = tmp_path / "keys"
    keys.write_text("a" * 32)
    options = ("--max_wait_ms", 400, "--api_key_file", keys)
    with running(chat_dir, tmp_path / "log", *options) as server:
        hostile(server)
        rotated(server, keys)
        asyncio.run(drained(server, scorer))
        assert server.popen.wait(60) == 0
    events = [line["event"] for line in server.lines()]
    assert events[0] == "listening"
    assert {"request", "keys read", "stopping"} <= set(events)


def client_of(server, key="a", kind=httpx2.Client):
    headers = {"authorization": f"Bearer {key * 32}"}
    return kind(base_url=server.address, headers=headers, timeout=60)


def hostile(server):
    """Connections that go wrong do not harm others; a lost client's work is dropped."""

    def connect(sent):
        made = socket.create_connection(("127.0.0.1", server.port), timeout=30)
        made.sendall(sent)
        return made

    start = b"POST /score HTTP/1.1\r\nHost: a\r\nX-API-Key: " + b"a" * 32 + b"\r\n"
    start += b"Content-Type: application/json\r\n"
    half = connect(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
    half.shutdown(socket.SHUT_WR)
    slow = [connect(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Le") for _ in range(50)]
    garbage = connect(b"\x00\xff" * 1000 + b"\r\n\r\n")
    assert b" 400 " in garbage.recv(1000)
    liar = connect(start + b"Content-Length: 100000000\r\n\r\n")
    assert b" 413 " in liar.recv(1000)
    body = json.dumps({**BODY, "responses": [text(77, 9)]}).encode()
    gone = connect(start + f"Content-Length: {len(body)}\r\n\r\n".encode() + body)
    time.sleep(0.1)
    gone.close()
    with client_of(server) as client:
        assert client.post("/score", json=BODY).status_code == 200
        end = time.monotonic() + 20
        while 'status="499"' not in (metrics := client.get("/metrics").text):
            assert time.monotonic() < end
    assert "vrm_responses_total 1.0" in metrics  # that of the lost client was not computed
    for one in (half, garbage, liar, *slow):
        one.close()


def rotated(server, keys):
    """SIGHUP reads the keys anew."""

    def status(key):
        with client_of(server, key) as client:
            return client.post("/score", json=BODY).status_code

    assert [status("a"), status("b")] == [200, 401]
    keys.write_text("b" * 32)
    server.popen.send_signal(signal.SIGHUP)
    end = time.monotonic() + 20
    while status("b") != 200:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert status("a") == 401


async def drained(server, scorer):
    """SIGTERM: what was accepted is answered, nothing else is accepted."""
    texts = [text(i, 5) for i in range(8)]
    expected = [line["reward_mean"] for line in scorer(BODY["prompt"], texts)]
    async with client_of(server, "b", httpx2.AsyncClient) as client:
        bodies = [{**BODY, "responses": [t]} for t in texts]
        calls = [asyncio.create_task(client.post("/score", json=b)) for b in bodies]
        await asyncio.sleep(0.25)  # they wait for their batch
        server.popen.send_signal(signal.SIGTERM)
        found = [reply.json() for reply in await asyncio.gather(*calls)]
        means = [reply["results"][0]["responses"][0]["mean"] for reply in found]
        assert means == pytest.approx(expected, abs=1e-5)
        with pytest.raises(httpx2.TransportError):
            await client.get("/ready")


@pytest.mark.slow
def test_clients_get_every_answer_while_a_process_manager_restarts_the_server(
    chat_dir, scorer, tmp_path
):
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answers = [[text(10 * i + j, 4 + j) for j in range(3)] for i in range(24)]
    killed = []
    with Supervised(chat_dir, tmp_path / "log", "--max_wait_ms", 300, port=port) as supervised:
        reward = VRMReward(f"http://127.0.0.1:{port}", timeout=300)

        def ask(i):
            if i == 8:  # those before it wait for their batch
                time.sleep(0.1)
                killed.append(supervised.server.popen.pid)
                supervised.server.popen.kill()
            return reward(prompts=[text(i, 6)] * 3, completions=answers[i])

        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            found = list(pool.map(ask, range(24)))
        assert supervised.server.popen.pid not in killed
    for i, texts in enumerate(answers):
        own = [line["reward_mean"] for line in scorer(text(i, 6), texts)]
        assert found[i] == pytest.approx(own, abs=1e-5)


class Supervised:
    """A server that is started again whenever it ends, as systemd does with Restart=always."""

    def __init__(self, *arguments, **settings):
        self.start = lambda: Process(*arguments, **settings)
        self.stopped, self.server = threading.Event(), None
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.stopped.is_set():
            self.server = self.start()
            self.server.popen.wait()
            self.server.popen.stdout.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.stopped.set()
        self.server.popen.terminate()
        self.thread.join(60)


def certificate(folder):
    """Write a certificate of 127.0.0.1 that nobody but itself vouches for; return both files."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = datetime.now(UTC)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    (folder / "certificate.pem").write_bytes(made.public_bytes(pem))
    form = serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    (folder / "key.pem").write_bytes(key.private_bytes(pem, *form))
    return folder / "certificate.pem", folder / "key.pem"


@pytest.mark.slow
def test_https(chat_dir, scorer, tmp_path, monkeypatch):
    """Clients that trust the certificate get answers, others and plain HTTP do not."""
    trusted, key = certificate(tmp_path)
    options = ("--tls_certificate", trusted, "--tls_key", key)
    with running(chat_dir, tmp_path / "log", *options) as server:
        assert server.address.startswith("https://")
        with pytest.raises(httpx2.ConnectError, match="(?i)certificate"):
            httpx2.get(f"{server.address}/health")
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{server.address.replace('https', 'http')}/health")
        monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
        assert httpx2.get(f"{server.address}/health").status_code == 200
        found = VRMReward(server.address)(prompts=[BODY["prompt"]], completions=BODY["responses"])
    expected = [line["reward_mean"] for line in scorer([BODY["prompt"]], BODY["responses"])]
    assert found == pytest.approx(expected, abs=1e-5)


def test_what_cannot_be_served_is_said(chat_dir):
    def refused(*options):
        done = vrm_pyro("serve", "--model", chat_dir, *options)
        assert done.code == 2
        return done.err

    assert "--no_authentication" in refused("--host", "0.0.0.0")
    with socket.create_server(("127.0.0.1", 0)) as other:
        assert "cannot listen" in refused("--port", other.getsockname()[1])
    assert "no such file" in refused("--tls_certificate", "a", "--tls_key", "b")
