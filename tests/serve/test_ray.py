"""The application behind Ray Serve: the same answers, also when a replica dies."""

import concurrent.futures
import socket
import sys

import pytest
from helpers.local_ray import kill_one_of_two, local_ray
from helpers.tiny_backbones import text

from vrm_pyro.errors import InputError
from vrm_pyro.integrations.rl import VRMReward
from vrm_pyro.serve.ray import ray_application
from vrm_pyro.serve.settings import ServeSettings

httpx2 = pytest.importorskip("httpx2")

OPEN = ServeSettings(no_authentication=True, max_wait_ms=1.0)
REPLICA = "ServeReplica:default:vrm_pyro"


@pytest.fixture(scope="module")
def served(chat_dir):
    """Two replicas; yields the address."""
    pytest.importorskip("ray.serve", reason="needs the extra ray")
    with local_ray():
        from ray import serve

        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        serve.start(http_options={"host": "127.0.0.1", "port": port})
        application = ray_application(chat_dir, OPEN, num_cpus=0.5, dtype="float32")
        serve.run(application)
        yield f"http://127.0.0.1:{port}"
        serve.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what Ray says of itself
def test_clients_get_every_answer_with_a_replica_killed(served, scorer):
    answers = [[text(10 * i + j, 4 + j) for j in range(3)] for i in range(60)]
    expected = [
        [line["reward_mean"] for line in scorer(text(i, 6), texts)]
        for i, texts in enumerate(answers)
    ]
    body = {"prompt": text(0, 6), "responses": answers[0]}
    with httpx2.Client(base_url=served, timeout=60) as client:
        (found,) = client.post("/score", json=body).json()["results"]
        assert client.get("/ready").status_code == 200
        assert client.post("/score", json={"prompt": "a"}).status_code == 422
    assert [r["mean"] for r in found["responses"]] == pytest.approx(expected[0], abs=1e-5)
    reward = VRMReward(served, timeout=300)

    def ask(i):
        if i == 20:
            kill_one_of_two(REPLICA)
        return reward(prompts=[text(i, 6)] * 3, completions=answers[i])

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for rewards, own in zip(pool.map(ask, range(60)), expected, strict=True):
            assert rewards == pytest.approx(own, abs=1e-5)


def test_settings_that_do_not_fit_are_said(chat_dir, tmp_path, monkeypatch):
    pytest.importorskip("ray.serve", reason="needs the extra ray")
    with pytest.raises(InputError, match="port is a setting of Ray's proxy"):
        ray_application(chat_dir, ServeSettings(port=9000, no_authentication=True))
    with pytest.raises(InputError, match="api_key_file"):
        ray_application(chat_dir, ServeSettings())
    with pytest.raises(InputError, match="num_replicas is 0"):
        ray_application(chat_dir, OPEN, num_replicas=0)
    with pytest.raises(InputError, match="absent"):
        ray_application(tmp_path / "absent", OPEN)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"pip install 'vrm-pyro\[ray\]'"):
        ray_application(chat_dir, OPEN)
