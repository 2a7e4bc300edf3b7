"""Margins of pairs from rows through stores and batches to objectives, evidence and training."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import Arrays, assert_within, small_batch, small_model
from helpers.sources import source_of
from helpers.tiny_backbones import tiny_backbone
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import concatenate, load_table
from vrm_pyro.data.source import optional_column, replace_parts, select_pairs
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.likelihoods import RaoKupper
from vrm_pyro.models.objectives import (
    CollapsedObjective,
    IntegratedObjective,
    SampledObjective,
    Weights,
)
from vrm_pyro.models.objectives.collapsed import prompt_log_weights
from vrm_pyro.models.objectives.pairwise import pair_log_prob
from vrm_pyro.models.settings.row_checks import warn_ignored_margins
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.posterior.evidence import log_evidence
from vrm_pyro.prediction.posterior.refine import prompt_elbo


def problem(single_use=False, ratings=True, mode="conditional"):
    """Return a Rao-Kupper model and a batch in which every second pair has a margin."""
    model = small_model(mode, ratings=ratings)
    model.likelihood = RaoKupper(0.6).build()
    batch = small_batch(single_use=single_use, ratings=ratings)
    margin = torch.linspace(0.1, 2.5, batch.num_pairs).double()
    margin[1::2] = torch.nan
    preference = torch.tensor([1.0, 0.5, 0.0]).double().repeat(batch.num_pairs)
    batch = replace(batch, pair_margin=margin, preference=preference[: batch.num_pairs])
    return model, model.standardize(batch)


def own_threshold_alone(batch):
    return replace(batch, pair_margin=None)


class TestObjectives:
    def test_integrated_equals_sampled_in_expectation(self):
        model, batch = problem()
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            estimates = []
            for kind in (SampledObjective, IntegratedObjective):
                values = torch.stack(
                    [
                        kind(400)
                        .terms(model, model.guide, batch, conditionals, Weights())
                        .objective
                        for _ in range(20)
                    ]
                )
                estimates.append((values.mean(), values.var() / 20))
            other = own_threshold_alone(batch)
            without = IntegratedObjective(400).terms(
                model, model.guide, other, conditionals, Weights()
            )
        (sampled, variance), (integrated, more) = estimates
        error = (variance + more).sqrt()
        assert abs(sampled - integrated) < 4 * error
        assert abs(without.objective - integrated) > 8 * error

    def test_collapsed_bounds_the_evidence_and_closes_in_on_it(self):
        model, batch = problem(single_use=True)
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            exact = log_evidence(model, batch, conditionals, 2048)
            bound = CollapsedObjective(4000).terms(
                model, model.guide, batch, conditionals, Weights()
            )
            log_weights, _ = prompt_log_weights(model, batch, conditionals, 4000)
            error = (log_weights - log_weights.logsumexp(0) + math.log(4000)).exp().var(0) / 4000
            error = (error.sum() + (exact.standard_error**2).sum()).sqrt()
        assert abs(bound.objective - exact.log_prob.sum()) < 4 * error
        assert error < 0.1

    def test_prompt_elbo_stays_below_the_evidence(self):
        model, batch = problem()
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            elbo = prompt_elbo(batch, conditionals, *model.guide.posterior(batch, conditionals))
            exact = log_evidence(model, batch, conditionals, 1024)
        assert (elbo < exact.log_prob + 4 * exact.standard_error).all()

    def test_pairs_alone_agree_with_quadrature(self):
        """With w fixed, log E sigmoid(Delta - m) by an adaptive rule of its own."""
        model, batch = problem()
        batch = replace(batch, preference=torch.ones_like(batch.preference))
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            point = torch.full((batch.num_prompts, 3), 1 / 3).double()
            law = torch.distributions.Independent(
                torch.distributions.Normal(point, torch.full_like(point, 1e-12)), 1
            )
            found = pair_log_prob(batch, replace(conditionals, weights=law), 1)
            gaussian = conditionals.gaussian
            direction = conditionals.reward.scale * point[0] @ conditionals.reward.loading
        for n in range(batch.num_pairs):
            a, b = batch.pair_first[n], batch.pair_second[n]
            mean = float(direction @ (gaussian.loc[a] - gaussian.loc[b]))
            var = direction**2 @ (gaussian.scale[a] ** 2 + gaussian.scale[b] ** 2)
            t = 0.6 if batch.pair_margin[n].isnan() else float(batch.pair_margin[n])

            def win(x, mean=mean, sd=float(var) ** 0.5, t=t):
                return expit(mean + sd * x - t) * norm.pdf(x)

            assert found[n].exp().item() == pytest.approx(quad(win, -12, 12)[0], rel=1e-5)

    def test_swapped_pairs_say_the_same(self):
        model, batch = problem()
        swapped = batch.swap_pairs()
        assert torch.equal(swapped.pair_margin.nan_to_num(), batch.pair_margin.nan_to_num())
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            laws = [model.guide.posterior(data, conditionals) for data in (batch, swapped)]
            values = [
                prompt_elbo(batch, conditionals, *laws[0]),
                prompt_elbo(swapped, conditionals, *laws[1]),
            ]
            assert torch.allclose(laws[0][0].mean, laws[1][0].mean, rtol=1e-12)
            assert torch.allclose(*values, rtol=1e-10)
            p, q = model.predict_pairs(batch), model.predict_pairs(swapped)
        assert torch.allclose(p + q, torch.ones_like(p), atol=1e-12)

    def test_what_is_predicted_does_not_know_it(self):
        model, batch = problem()
        with torch.no_grad():
            p, q = model.predict_pairs(batch), model.predict_pairs(own_threshold_alone(batch))
        assert torch.equal(p, q)

    def test_the_update_of_weights_hears_it(self):
        model, batch = problem(ratings=False)
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            own = own_threshold_alone(batch)
            q, other = (model.guide.weights(data, conditionals).mean for data in (batch, own))
            far = replace(batch, pair_margin=torch.where(batch.pair_margin.isnan(), 0.6, 0.6))
            same = model.guide.weights(far.to(torch.float64), conditionals).mean
        assert (q - other).abs().max() > 1e-3
        assert torch.allclose(same, other, atol=1e-6)


def test_evidence_with_margins_agrees_with_plain_monte_carlo():
    model, batch = problem(ratings=False)
    likelihood = model.likelihood.given_margin(batch.pair_margin)
    draws = 200_000
    with torch.no_grad():
        conditionals = model.conditionals(batch)
        found = log_evidence(model, batch, conditionals, 1024)
        w, z = conditionals.weights.sample((draws,)), conditionals.features.sample((draws,))
        scores = conditionals.reward.scores(z)
        delta = conditionals.reward.delta(
            w[:, batch.pair_prompt], scores[:, batch.pair_first], scores[:, batch.pair_second]
        )
        pair = batch.pair_weight * likelihood.log_prob(delta, batch.preference)
        total = w.new_zeros(draws, batch.num_prompts).index_add(1, batch.pair_prompt, pair)
        exact = total.logsumexp(0) - math.log(draws)
        error = (total - exact).exp().std(0) / draws**0.5
    assert_within(found.log_prob, exact, (found.standard_error**2 + error**2).sqrt(), 4.5)


def test_posterior_draws_follow_the_margin_of_a_pair():
    model, batch = problem(single_use=True)
    margin = torch.full_like(batch.preference, torch.nan)
    margin[0], margin[1] = 0.0, 40.0  # never a tie; always one
    batch = replace(batch, pair_margin=margin, preference=torch.ones_like(margin))
    source = source_of(batch)
    groups = draw_posterior(model, source, 50).groups
    drawn = groups["prior_predictive"]["preference"]
    assert (drawn[:, 0] != 0.5).all()
    assert (drawn[:, 1] == 0.5).all()
    np.testing.assert_array_equal(groups["constant_data"]["pair_margin"], margin.numpy())
    assert "pair_margin" not in draw_posterior(model, Arrays(batch), 2).groups["constant_data"]


ROWS = [
    {"prompt": "p", "chosen": "one", "rejected": "two more", "margin": 0.5, "id": "a"},
    {"prompt": "p", "chosen": "two more", "rejected": "and three", "id": "b"},
    {"prompt": "q", "chosen": "one", "rejected": "two more", "margin": 2, "id": "c"},
]
MARGINS = [0.5, math.nan, 2.0]


class TestRowsToBatches:
    def test_a_table_keeps_them(self):
        table = load_table(ROWS)
        np.testing.assert_array_equal(table.pair_margin, MARGINS)
        assert table.report.margins == 2
        assert "2 with a margin" in table.report.summary()
        np.testing.assert_array_equal(table.select_prompts([1]).pair_margin, [2.0])
        left = table.drop_pairs(np.array([True, False, False]), "why")
        np.testing.assert_array_equal(left.pair_margin, MARGINS[1:])
        both = concatenate([table, load_table([{**ROWS[0], "prompt": "r", "margin": None}])])
        np.testing.assert_array_equal(both.pair_margin, [*MARGINS, math.nan])
        assert both.report.margins == 2

    def test_they_are_part_of_the_content(self):
        table = load_table(ROWS)
        bare = load_table([{**row, "margin": None} for row in ROWS])
        assert table.content_hash() != bare.content_hash()
        other = replace(table, pair_margin=np.array([0.5, math.nan, 1.0]))
        assert table.content_hash() != other.content_hash()

    def test_store_memory_and_batch_hold_them(self, tmp_path):
        table, backbone = load_table(ROWS), tiny_backbone()
        write_store(table, backbone, tmp_path / "s", progress=False)
        store = open_store(tmp_path / "s")
        np.testing.assert_array_equal(store.table().pair_margin, MARGINS)
        for source in (store, encode_table(table, backbone)):
            batch = PromptDataset(source).batch()
            np.testing.assert_array_equal(batch.pair_margin, np.float32(MARGINS))
            part = Inputs.of(source).select(np.array([1]))
            assert PromptDataset(part.source).batch().pair_margin.tolist() == [2.0]
            assert select_pairs(source, np.array([2])).pair_margin.tolist() == [2.0]
            kept = replace_parts(source, objectives=())
            np.testing.assert_array_equal(optional_column(kept, "pair_margin"), MARGINS)

    def test_rows_without_any_leave_no_trace(self, tmp_path):
        table = load_table([{**row, "margin": None} for row in ROWS])
        write_store(table, tiny_backbone(), tmp_path / "s", progress=False)
        assert not (tmp_path / "s" / "pair_margin.npy").exists()
        assert "optional" not in json.loads((tmp_path / "s" / "store.json").read_text())
        store = open_store(tmp_path / "s")
        assert store.pair_margin is None
        assert np.isnan(store.table().pair_margin).all()
        batch = PromptDataset(store).batch()
        assert batch.pair_margin is None
        assert "pair_margin" not in batch.as_dict()

    def test_a_batch_moves_with_them(self):
        _, batch = problem()
        assert batch.to(torch.float32).pair_margin.dtype == torch.float32
        assert batch.to("cpu").pair_margin is not None


def test_margins_that_a_model_ignores_are_counted_in_one_warning():
    table = load_table(ROWS)
    with pytest.warns(UserWarning, match='"margin" is ignored in 2 rows: .*BradleyTerry') as seen:
        warn_ignored_margins(network_config(), table)
    assert len(seen) == 1
    baseline = network_config(architecture="bradley_terry", likelihood=RaoKupper())
    with pytest.warns(UserWarning, match="model.architecture bradley_terry"):
        warn_ignored_margins(baseline, table)
    warn_ignored_margins(network_config(likelihood=RaoKupper()), table)
    warn_ignored_margins(network_config(), load_table([{**ROWS[0], "margin": None}]))
