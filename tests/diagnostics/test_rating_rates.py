"""Rates of ratings against numbers computed by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import problems, sources

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.diagnostics.evaluation import Evaluation
from vrm_pyro.diagnostics.rating_rates import rating_rates
from vrm_pyro.errors import InputError
from vrm_pyro.models.rating_scores import rating_scores
from vrm_pyro.models.ratings import DifferenceRatings


@pytest.fixture
def source():
    return sources.source_of(problems.small_batch(12, dtype=torch.float32))


@pytest.fixture
def model():
    made = problems.small_model().float()
    made.set_rating_unit(2.0, 3.0)
    return made


def test_rates_by_hand(model, source):
    found = rating_rates(model, source, source.objectives)
    batch = PromptDataset(source, 2.0, 3.0).batch()
    with torch.no_grad():
        scores = rating_scores(model, batch)
        predicted = model.predict_responses(batch)
        mean, _ = model.in_rating_unit(predicted.score_mean, predicted.score_sd)
    total = float(scores.log_prob.sum()) / int(scores.counts.sum())
    assert found["log_score"] == pytest.approx(total, rel=1e-5)
    assert found["n_ratings"] == int((~np.isnan(source.ratings)).sum())
    assert found["log_score_se"] > 0
    errors = spreads = 0.0
    for k, name in enumerate(source.objectives):
        seen = ~np.isnan(source.ratings[:, k])
        truth, expected = source.ratings[seen, k], mean.numpy()[seen, k]
        error, spread = ((truth - expected) ** 2).mean(), truth.var()
        held = found["by_objective"][name]
        assert held["r2"] == pytest.approx(1 - error / spread, rel=1e-5)
        assert held["n_ratings"] == seen.sum()
        errors, spreads = errors + error * seen.sum(), spreads + spread * seen.sum()
    assert found["r2"] == pytest.approx(1 - errors / spreads, rel=1e-5)


def test_levels_that_are_unknown_play_no_part(model, source):
    model.ratings = DifferenceRatings().build(3).float()
    level = np.random.default_rng(0).normal(size=(12, 1))[source.response_prompt]
    found, moved = (
        rating_rates(model, s, s.objectives)
        for s in (source, replace(source, ratings=source.ratings + level))
    )
    assert moved["r2"] == pytest.approx(found["r2"], rel=1e-4)
    assert moved["log_score"] == pytest.approx(found["log_score"], rel=1e-4)


def test_rows_without_pairs_are_evaluated_by_their_ratings(model, source):
    alone = sources.without_pairs(source)
    found, both = evaluate(model, alone), evaluate(model, source)
    assert found["ratings"] == both["ratings"]
    assert found["n_pairs"] == 0
    assert found["accuracy"] is found["log_loss_se"] is None
    assert set(found) == set(both)
    assert "log score" in str(found)
    assert "all rows" not in str(found)
    assert str(both).index("all rows") < str(both).index("all ratings")
    assert repr(found).startswith("Evaluation(log score of ratings ")
    assert "all ratings" in found._repr_html_()


def test_rows_with_nothing_to_measure_are_refused(model, source):
    nothing = replace(sources.without_pairs(source), ratings=np.full_like(source.ratings, np.nan))
    with pytest.raises(InputError, match="no comparison"):
        evaluate(model, nothing)
    unrated = problems.small_model(ratings=False).float()
    assert evaluate(unrated, source)["ratings"] is None
    with pytest.raises(InputError, match="no comparison"):
        evaluate(unrated, sources.without_pairs(source))


def test_a_rate_that_nothing_defines_is_none(model, source):
    ratings = np.full_like(source.ratings, np.nan)
    ratings[0, 0] = 1.0
    found = rating_rates(model, replace(source, ratings=ratings), source.objectives)
    assert found["n_ratings"] == 1
    assert found["log_score_se"] is None
    assert found["r2"] is None
    table = Evaluation({"n_pairs": 0, "n_prompts": 0, "by_subset": {}, "ratings": found})
    assert str(table).splitlines()[1].split()[-2:] == ["-", "1"]
