"""What a built model is told about its parts before it trains."""

import pyro
import pyro.distributions as dist
import pytest
import torch
from helpers.configs import network_config
from helpers.problems import HIDDEN_SIZE, small_model
from torch import nn

from vrm_pyro import names
from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import DeltaGuide, FlowGuide, FullCovarianceGuide, OutcomeAwareGuide
from vrm_pyro.models.guides.outcome_aware import OutcomeAwareModule
from vrm_pyro.models.priors import CorrelatedNormalPrior, LogisticNormalPrior
from vrm_pyro.models.settings.compatibility import check_program, what_it_bounds


class Law(nn.Module):
    """A prior that gives what it is told."""

    def __init__(self, make) -> None:
        super().__init__()
        self.make = make

    def forward(self, states):
        return self.make(len(states))


def mixture(rows):
    parts = dist.Dirichlet(torch.tensor([[4.0, 1.0, 1.0], [1.0, 1.0, 4.0]]).double())
    weights = dist.Categorical(torch.ones(rows, 2).double())
    return dist.MixtureSameFamily(weights, parts.expand((rows, 2)))


def test_closed_families_cost_nothing():
    model = small_model()
    for guide in (OutcomeAwareGuide(), FullCovarianceGuide(weights="logistic_normal")):
        model.guide = guide.build(HIDDEN_SIZE, 3, 2).double()
        assert check_program(model, "integrated") == []
    model.weight_prior = LogisticNormalPrior().build(HIDDEN_SIZE, 3).double()
    model.feature_prior = CorrelatedNormalPrior().build(HIDDEN_SIZE, 2).double()
    assert check_program(model, "sampled") == []


def test_a_missing_closed_form_is_said():
    model = small_model()
    model.weight_prior = Law(mixture)
    notices = check_program(model, "integrated")
    assert len(notices) == 1
    assert "KL of w: no closed form for Dirichlet against MixtureSameFamily" in notices[0]
    model = small_model()
    model.guide = FlowGuide().build(HIDDEN_SIZE, 3, 2).double()
    assert "KL of z: no closed form" in check_program(model, "sampled")[0]


def test_a_prior_without_reparameterised_draws_cannot_train_pairwise():
    model = small_model()
    model.weight_prior = Law(mixture)
    with pytest.raises(InputError, match="pairwise, which needs reparameterised draws"):
        check_program(model, "pairwise")


@pytest.mark.parametrize(
    ("place", "make", "words"),
    [
        (
            "feature_prior",
            lambda rows: dist.StudentT(5.0, torch.zeros(rows, 2).double()).to_event(1),
            "model.feature_prior gives a Independent",
        ),
        (
            "feature_prior",
            lambda rows: dist.Normal(torch.zeros(rows, 2).double(), 1.0),
            r"batch shape \(4, 2\) and event shape \(\)",
        ),
        (
            "weight_prior",
            lambda rows: dist.Dirichlet(torch.ones(rows, 5).double()),
            r"event shape \(5,\) for 2 states",
        ),
    ],
)
def test_laws_that_do_not_fit_their_place_are_named(place, make, words):
    model = small_model()
    setattr(model, place, Law(make))
    with pytest.raises(InputError, match=words):
        check_program(model, "integrated")


class BackwardsModule(OutcomeAwareModule):
    """Draws z first, and w given z."""

    def forward(self, batch, heads, *args, **kwargs):
        with pyro.plate(names.RESPONSE_PLATE, batch.num_responses, dim=-1):
            z = pyro.sample(names.FEATURES, heads.features)
        with pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1):
            shift = z.sum(-1).reshape(batch.num_prompts, -1).sum(-1, keepdim=True)
            pyro.sample(names.WEIGHTS, dist.Dirichlet(heads.weights.concentration * shift.exp()))


def test_a_guide_that_runs_against_the_program_is_refused(monkeypatch):
    """The program draws z given w (here made to), the guide w given z."""
    model = small_model(ratings=False)
    model.guide = BackwardsModule(4, "prior", False).double()
    assert check_program(model, "sampled") == []  # no parents in the program: any order is right

    def program(batch, heads, *args, **kwargs):
        with pyro.plate(names.PROMPT_PLATE, batch.num_prompts, dim=-1):
            w = pyro.sample(names.WEIGHTS, heads.weights)
        loc = w[batch.response_prompt, :1].expand(-1, 2)
        with pyro.plate(names.RESPONSE_PLATE, batch.num_responses, dim=-1):
            pyro.sample(names.FEATURES, dist.Normal(loc, 1.0).to_event(1))

    monkeypatch.setattr(model, "program", program)
    with pytest.raises(InputError, match="draws w given z, but the program draws z given w"):
        check_program(model, "sampled")


@pytest.mark.parametrize(
    ("settings", "rated", "words"),
    [
        ({"objective": "integrated"}, True, "lower bound on the joint evidence"),
        ({"objective": "integrated", "rating_power": 0.3}, True, "to the power 0.3"),
        ({"objective": "integrated", "rating_power": 0.3}, False, "evidence of preferences"),
        ({"objective": "pairwise", "rating_power": 0.3}, True, "composite likelihood: no bound"),
        (
            {"mode": "vib", "kl_weights": 0.1},
            False,
            "no bound: the KL terms count 0.1 (weights) and 1",
        ),
        ({"mode": "vib", "free_bits_features": 0.5}, False, "no bound: part of the KL is free"),
        (
            {"mode": "vib", "supervision": "weights", "weight_supervision": "dirichlet_kl"},
            True,
            "no bound: ratings act by dirichlet_kl, which is a penalty",
        ),
        ({"guide": DeltaGuide(), "objective": "integrated"}, False, "no bound: the guide is a"),
    ],
)
def test_what_the_objective_bounds_is_said_for_all_settings_together(settings, rated, words):
    found = what_it_bounds(network_config(**settings), rated)
    assert words in found
    assert ("no bound" in found) == ("no bound" in words)
