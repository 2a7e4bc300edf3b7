"""Requests that are made from the OpenAPI document: no fault, no status that it does not name.

``VRM_PYRO_OPENAPI_CASES=5000 pytest tests/serve/test_openapi.py`` sends more of them.
"""

import os

import pytest
from helpers.http_server import listening

from vrm_pyro.serve.application import build_application
from vrm_pyro.serve.service import Service
from vrm_pyro.serve.settings import ServeSettings

CASES = int(os.environ.get("VRM_PYRO_OPENAPI_CASES", "210"))


def ask(operation, mode, number, address):
    """Send requests to an operation; return the statuses of their replies."""
    from hypothesis import HealthCheck, given, settings

    named, found = operation.definition.raw["responses"], []

    @settings(
        max_examples=number,
        database=None,
        deadline=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(generation_mode=mode))
    def each(case):
        reply = case.call(base_url=address)
        said = (case.method, case.path, case.body, reply.status_code, reply.text)
        assert str(reply.status_code) in named, said
        if reply.status_code != 200:
            assert reply.json()["error"]["code"] == reply.status_code, said
        found.append(reply.status_code)

    each()
    return found


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # what the generator says of itself
def test_no_request_is_a_fault_or_gets_a_status_without_a_name(scorer):
    schemathesis = pytest.importorskip("schemathesis", reason="needs the extra dev")
    from schemathesis.generation import GenerationMode

    service = Service(scorer, ServeSettings(max_wait_ms=0.0), "tiny")
    found = []
    with listening(build_application(service)) as address:
        schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
        operations = [result.ok() for result in schema.get_all_operations()]
        posts = [one for one in operations if one.method.lower() == "post"]
        assert len(posts) == 7
        for one in operations:
            if one not in posts:  # nothing to be generated
                found += ask(one, GenerationMode.POSITIVE, 1, address)
        for one in posts:
            for mode in GenerationMode:
                found += ask(one, mode, CASES // (2 * len(posts)), address)
    assert len(found) > 0.8 * CASES
    assert {200, 422} <= set(found)
