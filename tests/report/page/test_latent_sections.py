"""Weights on the page: one axis for all kinds, and warnings where they say little."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from vrm_pyro.diagnostics.checks.finding import Finding
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.store import open_store
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.report.page.blocks import Pictures
from vrm_pyro.report.page.latent_sections import weight_warnings, weights
from vrm_pyro.report.page.page_inputs import gather

ARTEFACTS = Path(__file__).parents[2] / "artefacts"


@pytest.fixture(scope="module")
def inputs():
    """What a run of version 0.1.0 says of a store."""
    store = open_store(ARTEFACTS / "store")
    return gather(load_model(ARTEFACTS / "ratings"), Inputs.of(store))


def test_kinds_share_one_axis(inputs):
    kinds = ["short", *["long"] * (inputs.table.num_prompts - 1)]
    (pictures,) = [b for b in weights(replace(inputs, kinds=kinds)).blocks if b.kind == "pictures"]
    assert isinstance(pictures, Pictures)
    ticks, equal = [], []
    for picture in pictures.pictures:
        svg = str(picture.svg)
        ticks.append(re.findall(r'<text class="tick" x="([\d.]+)"[^>]*middle">([^<]*)', svg))
        equal.append(re.findall(r'class="line ideal" d="M([\d.]+) ', svg))
    assert [p.heading for p in pictures.pictures] == [
        f"long ({len(kinds) - 1} prompts)",
        "short (1 prompt)",
    ]
    assert ticks[0] == ticks[1]
    assert equal[0] == equal[1]


def test_facts_of_training_are_those_of_the_run(inputs):
    assert inputs.training["train_prompts"] > 0
    assert inputs.training["labels_are_function_of_ratings"] is False
    assert not inputs.labels_follow_ratings


def test_weights_that_data_tell_need_no_warning(inputs):
    clear = Finding("weights", 0.01, "", None, 0.5, False, "told well.")
    (words,) = weight_warnings(replace(inputs, weights=clear))
    assert (words.text, words.tone) == ("Check weights: told well.", "plain")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"rated": False}, "trained without ratings"),
        (
            {"training": {"labels_are_function_of_ratings": True}},
            "in the training rows the labels",
        ),
        ({"labels_follow_ratings": True}, "In these rows the labels are the sign of the mean"),
        (
            {"labels_follow_ratings": True, "labels_sign_of": "depth", "objectives": ("depth",)},
            "In these rows the labels are the sign of the ratings of depth: weight on it",
        ),
    ],
)
def test_weights_that_mean_nothing_come_with_a_warning(inputs, changes, said):
    first, verdict = weight_warnings(replace(inputs, **changes))
    assert first.tone == "alarm"
    assert said in first.text
    assert verdict.text.startswith("Check weights: ")


def test_weights_tell_how_an_objective_of_the_rows_follows_from_those_of_the_model(inputs):
    training = {"labels_are_function_of_ratings": True, "labels_are_sign_of": "overall"}
    rows = {"labels_follow_ratings": True, "labels_sign_of": "overall"}
    assert len(weight_warnings(replace(inputs, training=training, **rows))) == 1


def test_preferences_that_do_not_tell_weights_come_with_a_warning(inputs):
    vague = Finding("weights", 2.0, "", None, 0.5, False, "not told.", "Interpret the reward.")
    (words,) = weight_warnings(replace(inputs, weights=vague))
    assert words.tone == "alarm"
    assert words.text == "Check weights: not told. Interpret the reward."
