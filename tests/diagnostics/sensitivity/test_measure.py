import math
from dataclasses import replace

import numpy as np
import pyro.distributions as dist
import pytest
import torch
import xarray as xr
from helpers import problems, sources
from torch.nn.functional import logsigmoid

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.diagnostics.metrics.power_scaling import ALPHAS, cjs_distance, khat_limit
from vrm_pyro.diagnostics.sensitivity import measure as module
from vrm_pyro.diagnostics.sensitivity.measure import sensitivity
from vrm_pyro.diagnostics.sensitivity.summary import (
    CONFLICT,
    MOST,
    NOTHING,
    STRONG_PRIOR,
    TOO_FEW,
    UNRELIABLE,
    component_rows,
    diagnose,
    diagnoses,
    diagnosis_rows,
    reliable,
)
from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import LabelBlindGuide, OutcomeAwareGuide
from vrm_pyro.models.priors import DirichletPrior, NormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.reward import LinearReward
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.posterior import draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree

COMPONENTS = ["prior", "weights prior", "features prior", "likelihood", "ratings", "preferences"]
NUM_DRAWS = 2000


def tree_of(model, source, num_draws=NUM_DRAWS, seed=0):
    names = Names(tuple(f"o{k}" for k in range(model.num_objectives)))
    return to_datatree(draw_posterior(model, source, num_draws, seed=seed), names)


def select(found, name, component, item=0):
    return found.index[name].sel(component=component).values[item]


class Grid:
    """The exact posterior of the first prompt, two responses and one pair, on a grid.

    Cells are midpoints in w_1 and in the two z; masses come from log densities written out here.
    """

    def __init__(self, model, batch):
        conditionals = model.conditionals(batch)
        w = torch.linspace(0, 1, 65, dtype=torch.float64)
        w = (w[1:] + w[:-1]) / 2
        normal = conditionals.features.base_dist
        z = [
            normal.loc[j] + normal.scale[j] * torch.linspace(-5, 5, 64, dtype=torch.float64)
            for j in range(2)
        ]
        w, *z = (a.ravel() for a in torch.meshgrid(w, *z, indexing="ij"))
        w, z = torch.stack([w, 1 - w], -1), torch.stack(z, -1).unsqueeze(-1)
        s = z @ conditionals.reward.loading.T + conditionals.reward.intercept
        r = conditionals.reward.scale * (w.unsqueeze(1) * s).sum(-1)
        delta = r[:, batch.pair_first[0]] - r[:, batch.pair_second[0]]
        self.values = {"w": w, "s": s, "r": r, "delta": delta}
        a = conditionals.weights.concentration[0]
        ratings = dist.Normal(s + model.ratings.offset, model.ratings().scale)
        rated = ratings.log_prob(torch.where(batch.rating_mask, batch.ratings, 0.0)[:2])
        c = batch.preference[0]
        parts = {
            "weights prior": ((a - 1) * w.log()).sum(-1),
            "features prior": -0.5
            * (((z - normal.loc[:2]) / normal.scale[:2]) ** 2).sum((-1, -2)),
            "ratings": model.ratings.power * (rated * batch.rating_mask[:2]).sum((-1, -2)),
            "preferences": batch.pair_weight[0]
            * (c * logsigmoid(delta) + (1 - c) * logsigmoid(-delta)),
        }
        parts["prior"] = parts["weights prior"] + parts["features prior"]
        parts["likelihood"] = parts["ratings"] + parts["preferences"]
        self.parts = {name: part.numpy() for name, part in parts.items()}
        self.log_joint = self.parts["prior"] + self.parts["likelihood"]

    def index(self, name, component, *where):
        """Index of one quantity over the range that NUM_DRAWS draws of it would span."""
        value = self.values[name][(slice(None), *where)].numpy()
        order = np.argsort(value)
        width = np.diff(value[order])[:, None]
        first = self._cdf(self.log_joint, order)
        width = width * ((first > 1 / NUM_DRAWS) & (first < 1 - 1 / NUM_DRAWS))
        total = 0.0
        for alpha in ALPHAS:
            second = self._cdf(self.log_joint + (alpha - 1) * self.parts[component], order)
            total += max(
                cjs_distance(width, first, second)[0],
                cjs_distance(width, 1 - first, 1 - second)[0],
            ) / abs(math.log2(alpha))
        return total / 2

    @staticmethod
    def _cdf(log_mass, order):
        mass = np.exp(log_mass - log_mass.max())
        return np.minimum(np.cumsum((mass / mass.sum())[order])[:-1], 1.0)[:, None]


@torch.no_grad()
@pytest.mark.parametrize("mode", ["conditional", "vib"])
def test_index_is_that_of_the_exact_posterior(mode):
    model = problems.small_model(mode, num_objectives=2, latent_dim=1, power=0.7)
    if mode == "vib":  # a guide that sees no outcome is near the posterior of vague ones only
        model.ratings.scale.log_scale.fill_(0.5)
        guide = LabelBlindGuide(hidden_size=4, initial_scale=1.2)
        model.guide = guide.build(problems.HIDDEN_SIZE, 2, 1).double()
    batch = problems.small_batch(3, num_objectives=2)
    source = sources.source_of(batch)
    founds = [sensitivity(tree_of(model, source, seed=seed)) for seed in range(5)]
    assert list(founds[0].index["component"].values) == COMPONENTS
    limit = khat_limit(NUM_DRAWS)
    assert all((found.khat.isel(prompt=0) < limit).all() for found in founds)
    standardized = model.standardize(PromptDataset(source).batch().to(torch.float64))
    grid = Grid(model, standardized)
    items = [
        ("w", (0, 0)),
        ("s", (0, 0)),
        ("s", (1, 1)),
        ("r", (0,)),
        ("r", (1,)),
        ("delta", (0,)),
    ]
    for name, item in items:
        where = item[1:] if name in ("w", "delta") else item
        for component in COMPONENTS:
            values = np.array(
                [found.index[name].sel(component=component).values[item] for found in founds]
            )
            exact = grid.index(name, component, *where)
            error = values.std(ddof=1) / len(values) ** 0.5
            # .004 is what noise alone gives where the exact index is near 0; see `noise`.
            assert abs(values.mean() - exact) < 4.5 * error + 0.05 * exact + 0.004, (
                f"{name} {item} {component}: {values.mean():.4f} +- {error:.4f}, exact {exact:.4f}"
            )


@pytest.fixture(scope="module")
def tree():
    return tree_of(problems.small_model(), sources.source_of(problems.small_batch(12)), 400)


@pytest.fixture(scope="module")
def found(tree):
    return sensitivity(tree)


def test_dimensions_are_named(found, tree):
    posterior = tree["posterior"].to_dataset()
    assert found.index["w"].dims == ("component", "prompt", "objective")
    assert found.index["s"].dims == ("component", "response", "objective")
    assert found.index["r"].shape == (6, posterior.sizes["response"])
    assert found.index["delta"].dims == ("component", "pair")
    assert found.khat.shape == (6, 12)
    assert list(found.index["objective"].values) == ["o0", "o1", "o2"]
    assert set(found.noise.data_vars) == set(found.index.data_vars)
    # w_k and 1 - w_k have one index, whichever it is of three.
    assert np.isfinite(found.index["w"]).all()


def test_blocks_do_not_change_what_is_computed(found, tree, monkeypatch):
    monkeypatch.setattr(module, "BLOCK_SIZE", 400 * 7)
    other = sensitivity(tree)
    xr.testing.assert_allclose(other.index, found.index, rtol=1e-10)


def test_a_prompt_does_not_depend_on_the_others(found, tree):
    # The first five prompts: 2 + 3 + 4 + 2 + 3 responses in chains of pairs.
    some = tree.isel(prompt=slice(5), missing_dims="ignore")
    some = some.isel(response=slice(14), missing_dims="ignore")
    some = some.isel(pair=slice(9), missing_dims="ignore")
    assert (tree["constant_data"]["response_prompt"].values[12:16] == [4, 4, 5, 5]).all()
    assert (tree["constant_data"]["pair_prompt"].values[7:10] == [4, 4, 5]).all()
    alone = sensitivity(some)
    np.testing.assert_allclose(alone.index["s"], found.index["s"][:, :14])
    np.testing.assert_allclose(alone.index["delta"], found.index["delta"][:, :9])
    np.testing.assert_allclose(alone.khat, found.khat[:, :5])


def test_without_outcomes_nothing_comes_from_the_likelihood():
    model = problems.small_model(ratings=False)
    source = sources.without_pairs(sources.source_of(problems.small_batch(10, ratings=False)))
    found = sensitivity(tree_of(model, source, 500))
    # The guide is then the prior: all weights are equal.
    assert (found.khat.sel(component="likelihood") == 0).all()
    assert "delta" not in found.index
    assert list(found.index["component"].values) == COMPONENTS[:4]
    for array in found.index.data_vars.values():
        assert array.sel(component="likelihood").max() < 1e-6
        assert array.sel(component="prior").min() > 0.01
    assert set(diagnoses(found)["s"].values.ravel()) == {STRONG_PRIOR}
    (row,) = [r for r in diagnosis_rows(found) if (r.quantity, r.objective) == ("s", None)]
    assert row.strong_prior == 1


@torch.no_grad()
def rated(num_prompts=40, tau=0.25, planted=0.0, seed=4):
    """A model with z ~ Normal(0, 1), and two ratings of each response drawn from it; no pairs.

    Ratings hold 2 / tau^2 times what the prior does. The features of the first prompt are
    ``planted``.
    """
    model = VRM(
        problems.HIDDEN_SIZE, 2, 1, DirichletPrior(1.5), NormalPrior(),
        OutcomeAwareGuide(hidden_size=4), LinearReward(2, 1), GaussianRatings().build(2),
    ).double()  # fmt: skip
    model.reward.loading.fill_(1.0)
    model.ratings.scale.log_scale.fill_(math.log(tau))
    batch = problems.small_batch(num_prompts, num_objectives=2)
    torch.manual_seed(seed)
    z = torch.randn(batch.num_responses, 1, dtype=torch.float64)
    z[batch.response_prompt == 0] = planted
    scores = model.reward().scores(z) + model.ratings.offset
    ratings = dist.Normal(scores, model.ratings().scale).sample()
    values = batch.as_dict() | {"ratings": ratings}
    values["rating_mask"] = torch.ones_like(batch.rating_mask)
    return model, sources.without_pairs(sources.source_of(FeatureBatch(**values)))


def test_data_that_fit_are_not_flagged():
    found = sensitivity(tree_of(*rated(), 1000))
    assert reliable(found)["s"].mean() > 0.95
    (row,) = [r for r in diagnosis_rows(found) if (r.quantity, r.objective) == ("s", None)]
    assert row.conflict < 0.15
    assert row.nothing > 0.8


def test_a_planted_conflict_is_found_where_it_is():
    model, source = rated(planted=6.0)
    labels = diagnoses(sensitivity(tree_of(model, source, 1000)))["s"]
    first = source.response_prompt == 0
    assert (labels.values[first] == CONFLICT).all()
    assert (labels.values[~first] == CONFLICT).mean() < 0.15


def test_a_guide_that_misses_the_posterior_is_unreliable():
    model = problems.small_model("vib", latent_dim=2)
    batch = problems.small_batch(12)
    source = sources.source_of(replace(batch, ratings=batch.ratings + 6))
    found = sensitivity(tree_of(model, source, 400))
    rows = [r for r in component_rows(found) if r.component == "likelihood"]
    assert {r.verdict for r in rows} == {UNRELIABLE}
    assert min(r.unreliable for r in rows) > 0.5


def test_log_densities_that_are_not_finite_are_left_out(tree):
    broken = tree.copy(deep=True)
    broken["log_prior"]["lp_w"][0, 3, 2] = -np.inf
    found = sensitivity(broken)
    assert np.isnan(found.index["w"][:, 2]).all()
    assert np.isfinite(found.index["w"][:, [0, 1, 3]]).all()
    assert not reliable(found)["w"][:, 2].any()
    assert found.khat.sel(prompt=2, component="prior") == np.inf
    rows = component_rows(found)
    assert all(r.unreliable >= 1 / 13 for r in rows if r.quantity == "w")
    assert all(r.median is None or math.isfinite(r.median) for r in rows)


class TestNoise:
    def test_is_what_an_unrelated_part_gives(self, tree):
        # Preferences replaced by independent numbers: their index has to look like the noise.
        unrelated = tree.copy(deep=True)
        statistics = unrelated["sample_stats"]
        drawn = np.random.default_rng(0).normal(size=statistics["lp_preferences"].shape)
        statistics["lp_preferences"].values[:] = 3 * drawn
        found = sensitivity(unrelated)
        index = found.index["s"].where(reliable(found)["s"]).sel(component="preferences")
        high = float(index.quantile(0.9))
        assert high == pytest.approx(float(found.noise["s"].sel(component="preferences")), rel=0.2)

    def test_falls_with_the_number_of_draws(self, tree):
        many = sensitivity(tree_of(*rated(12), 1600)).noise["s"].sel(component="prior")
        few = sensitivity(tree_of(*rated(12), 100)).noise["s"].sel(component="prior")
        # As one over the square root of it.
        assert 2.5 < float(few / many) < 6.5

    def test_few_draws_give_no_verdict(self):
        model, source = problems.small_model(), sources.source_of(problems.small_batch(12))
        rows = component_rows(sensitivity(tree_of(model, source, 100)))
        assert TOO_FEW in {r.verdict for r in rows if r.component == "features prior"}


@pytest.mark.parametrize(
    ("prior", "likelihood", "expected"),
    [
        (0.06, 0.2, CONFLICT),
        (0.06, 0.04, STRONG_PRIOR),
        (0.04, 0.2, NOTHING),
        (0.04, 0.04, NOTHING),
        (math.nan, 0.2, NOTHING),
    ],
)
def test_rule_of_four(prior, likelihood, expected):
    assert diagnose(prior, likelihood) == expected


def test_rows_count_what_the_index_says(found):
    rows = component_rows(found, threshold=0.08)
    names = {(r.quantity, r.component, r.objective) for r in rows}
    assert len(names) == len(rows) == 6 * (4 + 4 + 1 + 1)
    (row,) = [r for r in rows if r[:3] == ("s", "prior", "o1")]
    good = reliable(found)["s"].sel(component="prior", objective="o1").values
    index = found.index["s"].sel(component="prior", objective="o1").values[good]
    assert row.median == pytest.approx(np.median(index))
    assert row.q90 == pytest.approx(np.quantile(index, 0.9))
    assert row.flagged == pytest.approx((index >= 0.08).mean())
    assert row.unreliable == pytest.approx(1 - good.mean())
    assert {r.verdict for r in rows} >= {MOST, NOTHING}
    for row in diagnosis_rows(found):
        assert row.conflict + row.strong_prior + row.nothing == pytest.approx(1)


@pytest.mark.parametrize(
    ("group", "name"),
    [("log_prior", "lp_z"), ("sample_stats", "lp_ratings"), ("constant_data", "response_prompt")],
)
def test_missing_variables_are_named(tree, group, name):
    bare = tree.copy()
    bare[group] = tree[group].to_dataset().drop_vars(name)
    with pytest.raises(InputError, match=rf"lacks {group}/{name}, .*vrm-pyro posterior"):
        sensitivity(bare)


def test_foreign_and_small_files():
    with pytest.raises(InputError, match="lacks posterior/w, posterior/s"):
        sensitivity(xr.DataTree.from_dict({"posterior": xr.Dataset({"mu": ("draw", [1.0])})}))
    small = tree_of(problems.small_model(), sources.source_of(problems.small_batch(2)), 99)
    with pytest.raises(InputError, match=r"99 draws .* at least 100.*--draws 1000"):
        sensitivity(small)
