from types import SimpleNamespace

import pytest
from helpers.tiny_backbones import tiny_tokenizer

from vrm_pyro.backbone import template_trial
from vrm_pyro.backbone.template_trial import try_template
from vrm_pyro.errors import InputError

FINE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
ENDLESS = (
    "{% macro again() %}{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}"
    "{% endfor %}{% endmacro %}{{ again() }}"
)
LARGE = "{% for a in range(99999) %}{{ 'many words that nobody asked for' }}{% endfor %}"
HUGE = "{{ 'a' * 10000000000 }}"
REFUSES = "{{ raise_exception('no') }}"


def with_template(template):
    tokenizer = tiny_tokenizer("llama")
    tokenizer.chat_template = template
    return tokenizer


@pytest.mark.parametrize("template", [FINE, REFUSES, None, "{{ broken"])
def test_what_renders_or_refuses_passes(template):
    try_template(with_template(template), "mine")


@pytest.mark.parametrize("template", [LARGE, HUGE], ids=["large", "huge"])
def test_a_template_that_writes_without_end_is_named(template):
    with pytest.raises(InputError, match="backbone mine: its chat template writes more than 1,00"):
        try_template(with_template(template), "mine")


def test_a_template_that_does_not_end_is_named(monkeypatch):
    monkeypatch.setattr(template_trial, "SECONDS", 1)
    with pytest.raises(InputError, match="backbone mine: its chat template does not end"):
        try_template(with_template(ENDLESS), "mine")


def test_the_clock_stops_what_does_not_compute(monkeypatch):
    monkeypatch.setattr(template_trial, "PATIENCE", 0.2)
    waiting = SimpleNamespace(
        chat_template="x", apply_chat_template=lambda *a, **k: template_trial.time.sleep(60)
    )
    with pytest.raises(InputError, match="does not end"):
        try_template(waiting, "mine")
