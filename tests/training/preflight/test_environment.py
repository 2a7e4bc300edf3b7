import pytest

from vrm_pyro.training.preflight import check_environment, environment, worst


def test_this_machine():
    facts = environment()
    assert facts.versions["torch"]
    assert facts.devices[0] == "cpu"
    assert facts.cores >= 1
    assert worst(c for c in check_environment(facts) if c.name == "versions") == "ok"


@pytest.mark.parametrize(
    ("changes", "name", "verdict"),
    [
        ({"versions": {"torch": None, "matplotlib": "3.10.1"}}, "versions", "fail"),
        ({"versions": {"torch": "2.13", "matplotlib": "3.11.0"}}, "matplotlib", "fail"),
        ({"threads": 16, "cores": 2}, "threads", "warn"),
        ({"threads": 1, "cores": 8}, "threads", "warn"),
        ({"threads": 8, "cores": 8}, "threads", "ok"),
        ({"native_bfloat16": (False,)}, "devices", "warn"),
        ({"native_bfloat16": (True,)}, "devices", "ok"),
        ({"devices": ("cpu", "cuda:0 H"), "native_bfloat16": (False, True)}, "devices", "ok"),
    ],
)
def test_what_stands_in_the_way_is_named(changes, name, verdict):
    facts = environment()._replace(devices=("cpu",), native_bfloat16=(True,), **{})
    found = {c.name: c for c in check_environment(facts._replace(**changes))}
    assert found[name].verdict == verdict
    assert bool(found[name].advice) == (verdict != "ok")
