"""Rankings in batches, program, objectives, evidence, posterior draws and the baseline."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import golden
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, assert_within, small_model
from helpers.sources import source_of
from helpers.tiny_backbones import tiny_backbone
from numpy.polynomial.hermite_e import hermegauss
from pyro import poutine

from vrm_pyro import names
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rankings import from_pairs
from vrm_pyro.data.rows import load_table
from vrm_pyro.data.source import select_pairs
from vrm_pyro.errors import InputError
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.store import open_store
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.bradley_terry import BradleyTerryModel
from vrm_pyro.models.likelihoods import BradleyTerry, PlackettLuce
from vrm_pyro.models.objectives import OBJECTIVES, SampledObjective, Weights
from vrm_pyro.models.settings.row_checks import check_rankings, warn_rankings_as_pairs
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.posterior.evidence import log_evidence, weighted_draws
from vrm_pyro.prediction.posterior.refine import refine
from vrm_pyro.training.module import TrainingModule

SIZES = (4, 2, 3, 5)


def ranked_batch(sizes=SIZES, seed=0, mixed=True, ratings=True):
    """Return one ranking a prompt, its items best first; ``mixed`` adds plain pairs.

    Numbers have gaps, pairs stand in any order and the worse item often first.
    """
    generator = torch.Generator().manual_seed(seed)
    rows, start = [], 0
    for k, size in enumerate(sizes):
        rows += [
            (start + a, start + b, 1.0, 2 / size * (1 + k), 7 * k + 3)
            for a, b in itertools.combinations(range(size), 2)
        ]
        start += size
    if mixed:
        rows += [(0, 1, 0.0, 1.0, -1), (4, 5, 0.7, 0.5, -1)]
    rows = [rows[i] for i in torch.randperm(len(rows), generator=generator)]
    first, second, preference, weight, number = zip(*rows, strict=True)
    flip = torch.rand(len(rows), generator=generator) < 0.5
    first, second, number = (torch.tensor(x) for x in (first, second, number))
    preference = torch.tensor(preference, dtype=torch.float64)
    states = torch.randn(len(sizes) + start, HIDDEN_SIZE, generator=generator).double()
    rated = torch.rand(start, 3, generator=generator) < 0.6
    return FeatureBatch(
        prompts=states[: len(sizes)],
        responses=states[len(sizes) :],
        response_prompt=torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes)),
        pair_first=torch.where(flip, second, first),
        pair_second=torch.where(flip, first, second),
        preference=torch.where(flip, 1 - preference, preference),
        pair_weight=torch.tensor(weight, dtype=torch.float64),
        ratings=torch.randn(start, 3, generator=generator).double(),
        rating_mask=rated if ratings else torch.zeros_like(rated),
        pair_ranking=number,
    )


def problem(mode="conditional", likelihood=PlackettLuce, **options):
    """Return a model, its standardised batch, and heads."""
    model = small_model(mode, ratings=options.get("ratings", True))
    model.likelihood = likelihood().build()
    batch = model.standardize(ranked_batch(**options))
    with torch.no_grad():
        return model, batch, model.conditionals(batch)


def log_likelihood(batch, conditionals, w, z):
    """Return log p(preferences | w, z) of every prompt by hand, shape (S, P)."""
    scores = conditionals.reward.scores(z)
    reward = conditionals.reward.scale * (w[:, batch.response_prompt] * scores).sum(-1)
    total = w.new_zeros(len(w), batch.num_prompts)
    start = 0
    for k, size in enumerate(torch.bincount(batch.response_prompt).tolist()):
        for place in range(size):
            rest = reward[:, start + place : start + size]
            total[:, k] += (1 + k) * (rest[:, 0] - rest.logsumexp(-1))
        start += size
    for n in (batch.pair_ranking < 0).nonzero().squeeze(-1).tolist():
        a, b = batch.pair_first[n], batch.pair_second[n]
        log_prob = BradleyTerry().log_prob(reward[:, a] - reward[:, b], batch.preference[n])
        total[:, batch.response_prompt[a]] += batch.pair_weight[n] * log_prob
    return total


class TestBatch:
    def test_rankings_are_put_together_again(self):
        batch = ranked_batch()
        found = batch.rankings
        assert found.number.tolist() == [3, 10, 17, 24]
        assert found.mask.sum(-1).tolist() == list(SIZES)
        assert torch.allclose(found.weight, torch.arange(1, 5).double())
        start = 0
        for k, size in enumerate(SIZES):
            ordered = found.items[k][found.order[k, :size]]
            assert ordered.tolist() == list(range(start, start + size))
            start += size

    def test_they_do_not_depend_on_which_response_stands_first(self):
        batch = ranked_batch()
        for name in ("items", "mask", "order", "weight", "number"):
            other = getattr(batch.swap_pairs().rankings, name)
            assert torch.equal(getattr(batch.rankings, name), other)
        assert batch.to(torch.float32).rankings.weight.dtype == torch.float32

    def test_no_order_is_made_of_pairs_that_have_none(self):
        first, second = torch.tensor([0, 0, 1]), torch.tensor([1, 2, 2])
        ones, number = torch.ones(3), torch.zeros(3, dtype=torch.long)
        assert from_pairs(number, (first, second), ones, ones).order.tolist() == [[0, 1, 2]]
        circle = torch.tensor([1.0, 0.0, 1.0])
        with pytest.raises(ValueError, match="not those of one order"):
            from_pairs(number, (first, second), circle, ones)
        with pytest.raises(ValueError, match="not those of one order"):
            from_pairs(number[:2], (first[:2], second[:2]), ones[:2], ones[:2])
        twice = torch.tensor([0, 0, 1]), torch.tensor([1, 1, 2])  # a pair instead of another
        with pytest.raises(ValueError, match="not those of one order"):
            from_pairs(number, twice, ones, ones)

    def test_a_batch_without_any_has_none(self):
        batch = ranked_batch()
        plain = replace(batch, pair_ranking=torch.full_like(batch.pair_ranking, -1))
        assert plain.rankings is None
        assert replace(batch, pair_ranking=None).rankings is None
        assert torch.equal(plain.plain_weight, batch.pair_weight)

    def test_single_pairs_cannot_be_taken_out_of_a_source(self):
        source = source_of(ranked_batch())
        whole = np.flatnonzero(source.pair_ranking == 3)
        assert (select_pairs(source, whole).pair_ranking == 3).all()
        with pytest.raises(InputError, match="cannot be withheld"):
            select_pairs(source, whole[1:])
        assert len(select_pairs(source, slice(0)).pair_first) == 0


class TestProgram:
    def test_a_site_of_its_own_holds_them_and_nothing_counts_twice(self):
        model, batch, conditionals = problem()
        with torch.no_grad():
            w, z, parts = weighted_draws(model, batch, conditionals, 5)
            expected = log_likelihood(batch, conditionals, w, z)
            trace = poutine.trace(model.program).get_trace(batch, conditionals)
        assert torch.allclose(parts["lp_preferences"], expected, rtol=1e-9)
        site = trace.nodes[names.RANKING]
        assert site["fn"].batch_shape == (4,)
        assert torch.equal(site["value"], batch.rankings.order)

    @pytest.mark.parametrize("likelihood", [PlackettLuce, BradleyTerry])
    def test_another_likelihood_takes_their_pairs(self, likelihood):
        model, batch, conditionals = problem(likelihood=likelihood)
        trace = poutine.trace(model.program).get_trace(batch, conditionals)
        assert (names.RANKING in trace.nodes) == (likelihood is PlackettLuce)
        plain = replace(batch, pair_ranking=None)
        with torch.no_grad():
            found, bare = (
                weighted_draws(replaced, data, conditionals, 1)[2]["lp_preferences"].shape
                for replaced, data in ((model, batch), (model, plain))
            )
        assert found == bare == (1, 4)

    def test_a_ranking_of_weight_zero_is_silent(self):
        model, batch, conditionals = problem(mixed=False)
        silent = replace(batch, pair_weight=torch.zeros_like(batch.pair_weight))
        with torch.no_grad():
            parts = weighted_draws(model, silent, conditionals, 3)[2]
        assert (parts["lp_preferences"] == 0).all()

    def test_a_ranking_of_two_is_bradley_terry(self):
        """Numbered as a ranking or not: the same evidence, draw by draw."""
        model, batch, conditionals = problem(sizes=(2, 2, 2), mixed=False)
        plain = replace(batch, pair_ranking=None)
        model.likelihood = BradleyTerry()
        bare = replace(conditionals, likelihood=BradleyTerry())
        with torch.no_grad():
            draws = []
            for data, law in ((batch, conditionals), (plain, bare)):
                torch.manual_seed(0)
                draws.append(weighted_draws(model, data, law, 50)[2]["log_weight"])
            assert torch.allclose(*draws, rtol=1e-10)
            one, two = (
                log_evidence(model, batch, conditionals, 4096),
                log_evidence(model, plain, bare),
            )
        error = (one.standard_error**2 + two.standard_error**2).sqrt()
        assert_within(one.log_prob, two.log_prob, error, 4)
        assert (error < 0.05).all()


class TestObjectives:
    def test_sampled_is_below_the_evidence_and_trains(self):
        model, batch, conditionals = problem()
        with torch.no_grad():
            exact = log_evidence(model, batch, conditionals, 1024).log_prob.sum()
            values = [
                SampledObjective(200).terms(model, model.guide, batch, conditionals, Weights())
                for _ in range(10)
            ]
        elbo = torch.stack([terms.elbo for terms in values])
        assert elbo.mean() < exact - 4 * elbo.std() / 10**0.5
        terms = values[0]
        assert torch.allclose(terms.objective, terms.elbo, rtol=1e-10)
        assert terms.preference < 0
        model.zero_grad()
        conditionals = model.conditionals(batch)
        SampledObjective(4).terms(
            model, model.guide, batch, conditionals, Weights()
        ).objective.backward()
        assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())

    def test_its_value_is_the_mean_log_weight(self):
        model, batch, conditionals = problem()
        with torch.no_grad():
            log_weight = weighted_draws(model, batch, conditionals, 4000)[2]["log_weight"].sum(-1)
            values = torch.stack(
                [
                    SampledObjective(200)
                    .terms(model, model.guide, batch, conditionals, Weights())
                    .objective
                    for _ in range(20)
                ]
            )
        error = (values.var() / 20 + log_weight.var() / 4000).sqrt()
        assert_within(values.mean(), log_weight.mean(), error, 4)

    @pytest.mark.parametrize("name", sorted(set(OBJECTIVES) - {"sampled"}))
    def test_the_others_refuse_them(self, name):
        model, batch, conditionals = problem()
        objective = OBJECTIVES[name]()
        with pytest.raises(InputError, match="PlackettLuce.*objective sampled"):
            objective.terms(model, model.guide, batch, conditionals, Weights())
        plain = replace(batch, pair_ranking=None)
        assert objective.terms(
            model, model.guide, plain, conditionals, Weights()
        ).objective.isfinite()

    def test_refinement_refuses_them(self):
        model, batch, conditionals = problem()
        with pytest.raises(InputError, match="PlackettLuce"):
            refine(model, batch, conditionals, num_steps=1)

    def test_settings_and_rows_are_checked_together(self):
        table = load_table([{"prompt": "p", "responses": ["a", "b", "c"], "ranks": [1, 2, 3]}])
        for objective in ("pairwise", "integrated", "collapsed"):
            config = network_config(likelihood=PlackettLuce(), objective=objective)
            with pytest.raises(InputError, match=f"model.objective is {objective}.*1 rankings"):
                check_rankings(config, table)
        check_rankings(network_config(likelihood=PlackettLuce(), objective="sampled"), table)
        check_rankings(network_config(), table)
        with pytest.warns(UserWarning, match="1 rankings .* composite likelihood") as caught:
            warn_rankings_as_pairs(network_config(), table)
        assert len(caught) == 1
        for likelihood in (PlackettLuce(), BradleyTerry()):
            plain = load_table([{"prompt": "p", "responses": ["a", "b"], "ranks": [1, 2]}])
            config = network_config(likelihood=likelihood)
            check_rankings(config, plain)
            warn_rankings_as_pairs(config, plain)


class TestEvidence:
    @pytest.mark.parametrize("mode", ["conditional", "vib"])
    def test_it_agrees_with_plain_monte_carlo(self, mode):
        model, batch, conditionals = problem(mode, ratings=False)
        draws, chunk, parts = 200_000, 20_000, []
        with torch.no_grad():
            found = log_evidence(model, batch, conditionals, 2048)
            for _ in range(draws // chunk):
                w, z = (
                    conditionals.weights.sample((chunk,)),
                    conditionals.features.sample((chunk,)),
                )
                parts.append(log_likelihood(batch, conditionals, w, z))
        total = torch.cat(parts)
        exact = total.logsumexp(0) - math.log(draws)
        error = (total - exact).exp().std(0) / draws**0.5
        error = (found.standard_error**2 + error**2).sqrt()
        assert_within(found.log_prob, exact, error, 4.5)
        assert (error < 0.3).all()

    def test_with_ratings_it_agrees_with_the_guides_own_draws(self):
        model, batch, conditionals = problem()
        with torch.no_grad():
            found = log_evidence(model, batch, conditionals, 2048)
            log_weight = weighted_draws(model, batch, conditionals, 20_000)[2]["log_weight"]
        mean = log_weight.logsumexp(0) - math.log(20_000)
        error = (log_weight - mean).exp().std(0) / 20_000**0.5
        error = (found.standard_error**2 + error**2).sqrt()
        assert_within(found.log_prob, mean, error, 4.5)
        assert (error < 0.2).all()

    def test_three_items_by_quadrature(self):
        """Two objectives: Gauss-Jacobi over w, Gauss-Hermite over each of three rewards."""
        model = small_model(num_objectives=2, ratings=False)
        model.likelihood = PlackettLuce()
        batch = ranked_batch((3,), mixed=False, ratings=False)
        batch = replace(batch, ratings=batch.ratings[:, :2], rating_mask=batch.rating_mask[:, :2])
        batch = model.standardize(batch)
        with torch.no_grad():
            conditionals = model.conditionals(batch)
            found = log_evidence(model, batch, conditionals, 8192)
            w, log_mass = golden.jacobi_nodes(conditionals.weights.concentration, 32)
            direction = conditionals.reward.scale * w[:, 0] @ conditionals.reward.loading
            mean = direction @ conditionals.gaussian.loc.T
            sd = (direction**2 @ (conditionals.gaussian.scale**2).T).sqrt()
            x, mass = (torch.tensor(a) for a in hermegauss(24))
            mass = mass / mass.sum()
            r = [mean[:, j, None] + sd[:, j, None] * x for j in range(3)]
            a, b, c = r[0][:, :, None, None], r[1][:, None, :, None], r[2][:, None, None, :]
            last = torch.logaddexp(b, c)
            chance = (a - torch.logaddexp(a, last) + b - last).exp()
            inner = torch.einsum("sijk,i,j,k->s", chance, mass, mass, mass)
            exact = (inner.log() + log_mass[:, 0]).logsumexp(0)
        assert abs(found.log_prob - exact) < 4 * found.standard_error
        assert found.standard_error < 0.02


class TestPosterior:
    def test_draws_of_a_ranking_are_orders_with_the_right_chances(self):
        model, batch, _ = problem(sizes=(3, 3), mixed=False, ratings=False)
        draws = 3000
        groups = draw_posterior(model, source_of(batch), draws).groups
        drawn, constant = groups["prior_predictive"]["preference"], groups["constant_data"]
        np.testing.assert_array_equal(constant["pair_ranking"], batch.pair_ranking.numpy())
        for number in (3, 10):
            rows = np.flatnonzero(constant["pair_ranking"] == number)
            winner = np.where(
                drawn[:, rows] == 1, constant["pair_first"][rows], constant["pair_second"][rows]
            )
            wins = np.sort([[(w == j).sum() for j in np.unique(winner)] for w in winner], -1)
            assert (wins == [0, 1, 2]).all()  # no circle
        reward = torch.from_numpy(groups["prior"]["r"]).double()
        delta = reward[:, constant["pair_first"]] - reward[:, constant["pair_second"]]
        chance = torch.sigmoid(delta)
        error = ((chance * (1 - chance)).mean(0) / draws).sqrt()
        assert_within(torch.from_numpy(drawn).double().mean(0), chance.mean(0), error, 4.5)

    def test_a_prompt_has_one_likelihood(self):
        model, batch, conditionals = problem()
        groups = draw_posterior(model, source_of(batch), 64).groups
        with torch.no_grad():
            exact = log_evidence(model, batch, conditionals, 2048)
        found = torch.from_numpy(groups["log_likelihood"]["outcomes"])
        error = torch.from_numpy(groups["sample_stats"]["evidence_se"])
        assert_within(found, exact.log_prob, (error**2 + exact.standard_error**2).sqrt(), 4.5)
        expected = log_likelihood(
            batch,
            conditionals,
            torch.from_numpy(groups["posterior"]["w"]).double(),
            torch.from_numpy(groups["posterior"]["z"]).double(),
        )
        np.testing.assert_allclose(
            groups["sample_stats"]["lp_preferences"], expected.detach().numpy(), rtol=1e-4
        )
        assert (groups["sample_stats"]["evidence_gap"] > -4 * error.numpy()).all()


class TestBaseline:
    @pytest.mark.parametrize("members", [1, 3])
    def test_the_likelihood_is_exact(self, members):
        batch = ranked_batch().to(torch.float32)
        model = BradleyTerryModel(HIDDEN_SIZE, 4, 0.0, members, joint_rankings=True)
        with torch.no_grad():
            rewards = model.member_rewards(batch.responses)
            expected, ranked, start = torch.zeros(members), torch.zeros(members, 4), 0
            for k, size in enumerate(SIZES):
                for place in range(size):
                    rest = rewards[:, start + place : start + size]
                    ranked[:, k] += rest[:, 0] - rest.logsumexp(-1)
                expected += (1 + k) * ranked[:, k]
                start += size
            plain = replace(batch, pair_weight=batch.plain_weight, pair_ranking=None)
            found = model.member_log_likelihoods(batch)
            assert torch.allclose(found, expected + model.member_log_likelihoods(plain), rtol=1e-5)
            mixed = (torch.arange(1, 5) * (ranked.logsumexp(0) - math.log(members))).sum()
            total = mixed + model.log_likelihood(plain)
            assert torch.allclose(model.log_likelihood(batch), total, rtol=1e-5)

    def test_without_the_likelihood_pairs_are_taken(self):
        batch = ranked_batch().to(torch.float32)
        model = BradleyTerryModel(HIDDEN_SIZE, 4)
        bare = replace(batch, pair_ranking=None)
        assert torch.equal(model.log_likelihood(batch), model.log_likelihood(bare))


@pytest.mark.parametrize("architecture", ["vrm", "bradley_terry"])
def test_the_module_trains_and_validates_on_them(architecture):
    config = network_config(
        architecture=architecture, likelihood=PlackettLuce(), objective="sampled", num_objectives=3
    )
    model = small_model(ratings=False, dtype=torch.float32)
    model.likelihood = PlackettLuce()
    if architecture != "vrm":
        model = BradleyTerryModel(HIDDEN_SIZE, 4, joint_rankings=True)
    batch = ranked_batch(ratings=False).to(torch.float32)
    module = TrainingModule(model, config, batch.num_prompts)
    optimizer = torch.optim.Adam(module.parameters(), 0.05)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = module(**batch.as_dict())["loss"]
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert np.mean(losses[-10:]) < np.mean(losses[:10])
    module.eval()
    with torch.no_grad():
        sums = module(**batch.as_dict())["sums"]
    assert sums.isfinite().all()


ROWS = [
    {"prompt": "p", "responses": ["two more", "one", "and three"], "ranks": [2, 1, 3], "id": "r"},
    {"prompt": "q", "chosen": "one", "rejected": "two more"},
]


def test_rows_store_memory_and_batch_hold_them(tmp_path):
    table, backbone = load_table(ROWS), tiny_backbone()
    write_store(table, backbone, tmp_path / "s", progress=False)
    store = open_store(tmp_path / "s")
    assert store.table().pair_ranking.tolist() == [0, 0, 0, -1]
    assert store.table().report.rankings == 1
    for source in (store, encode_table(table, backbone)):
        batch = PromptDataset(source).batch()
        found = batch.rankings
        ordered = found.items[0][found.order[0]]
        assert [table.responses[j] for j in ordered] == ["one", "two more", "and three"]
        assert found.weight.tolist() == [1.0]
        assert PromptDataset(source).batch([1]).rankings is None


def test_items_that_are_equal_after_cutting_become_one(tmp_path):
    text = " ".join(["one"] * 80)
    rows = [
        {
            "prompt": "p",
            "responses": ["two", text + " more", "three", text + " and"],
            "ranks": [1, 2, 3, 4],
        },
        ROWS[1],
    ]
    table = load_table(rows)
    store = write_store(table, tiny_backbone(), tmp_path / "s", progress=False, max_length=70)
    left = store.table()
    assert left.report.dropped == {"identical after tokenizing and cutting": 3}
    assert left.pair_ranking.tolist() == [0, 0, 0, -1]
    assert left.pair_weight.tolist() == pytest.approx([2 / 3] * 3 + [1])
    kept = [(table.pair_first[n], table.pair_second[n]) for n in store.table_pairs]
    assert kept == list(zip(left.pair_first, left.pair_second, strict=True))
    rankings = PromptDataset(store).batch().rankings
    assert rankings.items[0][rankings.order[0]].tolist() == [0, 1, 2]
    assert rankings.weight.tolist() == pytest.approx([1.0])
