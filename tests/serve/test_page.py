"""The page: one file without network, and what a browser shows of two responses."""

import re
from importlib import resources
from urllib.parse import urlencode

import pytest
from helpers.browser import browse
from helpers.http_server import listening
from helpers.reward_models import save_reward_model
from helpers.tiny_backbones import text

from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.serve.application import build_application
from vrm_pyro.serve.service import Service
from vrm_pyro.serve.settings import ServeSettings

PAGE = resources.files("vrm_pyro.serve").joinpath("page.html").read_text("utf-8")
TEXTS = {"prompt": text(0, 6), "first": text(10, 4), "second": text(11, 5)}


def test_it_loads_nothing_and_fits_a_phone():
    addresses = set(re.findall(r"(?:https?:)?//[\w.-]+[^\"' ]*", PAGE))
    assert addresses <= {"http://www.w3.org/2000/svg"}  # a name, not an address
    assert not re.search(r"\b(?:src|href)=\"(?!data:,)", PAGE)
    assert 'name="viewport"' in PAGE
    assert len(PAGE) < 20_000


def shown(scorer, profile, *flags, **settings):
    service = Service(scorer, ServeSettings(max_wait_ms=1.0, **settings), "tiny")
    with listening(build_application(service)) as address:
        flags = ("--virtual-time-budget=20000", *flags)
        return browse(f"{address}/#{urlencode(TEXTS)}", profile, *flags)


@pytest.mark.slow
def test_two_responses_in_a_browser(scorer, tmp_path):
    seen = shown(scorer, tmp_path / "profile", "--window-size=390,900")
    (p,) = scorer.preference(TEXTS["prompt"], TEXTS["first"], TEXTS["second"])
    better, sure = ("A", p) if p >= 0.5 else ("B", 1 - p)
    assert f"{better} is preferred with probability {round(100 * sure)}%" in seen.dom
    mean = scorer(TEXTS["prompt"], TEXTS["first"])[0]["reward_mean"]
    assert f"A {mean:.2f} [" in seen.dom
    for title in ("What counts for this prompt", "Scores", "What would flip it"):
        assert title in seen.dom
    assert "clarity" in seen.dom
    assert seen.console == []


@pytest.mark.slow
def test_a_baseline_and_an_error(tmp_path):
    model = Scorer.from_pretrained(
        save_reward_model(tmp_path, "bert", architecture="bradley_terry"), dtype="float32"
    )
    seen = shown(model, tmp_path / "profile")
    assert "has one reward and no objectives" in seen.dom
    seen = shown(model, tmp_path / "profile", max_responses=1)
    assert "2 responses in one request; at most 1" in seen.dom
