"""One contract for every entry of the two tables of priors."""

import pyro.distributions as dist
import pytest
import torch
from helpers.problems import assert_within

from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import LogisticNormal, as_dirichlet, expected_log
from vrm_pyro.models.priors import (
    FEATURE_PRIORS,
    WEIGHT_PRIORS,
    ConditionalNormalPrior,
    CorrelatedNormalPrior,
    DirichletPrior,
    FeaturePrior,
    LogisticNormalPrior,
)

HIDDEN_SIZE = 6
TABLES = [
    *((kind, 4, 1, (4,)) for kind in WEIGHT_PRIORS.values()),
    *((kind, 3, 1, (3,)) for kind in FEATURE_PRIORS.values()),
]
ALL = pytest.mark.parametrize(("kind", "size", "event_dim", "event_shape"), TABLES)
# Every entry as it comes, and the choices that change which numbers are learned.
VARIANTS = {
    **{name: kind() for name, kind in (WEIGHT_PRIORS | FEATURE_PRIORS).items()},
    "DirichletPrior, learned": DirichletPrior([2.0, 1.0, 0.7], learn=True),
    "LogisticNormalPrior, learned": LogisticNormalPrior(1.2, learn=True),
    "ConditionalNormalPrior, fixed scale": ConditionalNormalPrior(learn_scale=False),
    "CorrelatedNormalPrior, fixed scale": CorrelatedNormalPrior(learn_scale=False),
}
VARIANT = pytest.mark.parametrize("name", sorted(VARIANTS))


def moved(name, size=3, seed=0):
    """Return a variant's module in float64 with every parameter off its start, and states.

    It is in evaluation mode: in training a map with a posterior is drawn.
    """
    generator = torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)
    module = VARIANTS[name].build(HIDDEN_SIZE, size).double().eval()
    with torch.no_grad():
        for parameter in module.parameters():
            noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            parameter.add_(0.1 * noise)
    return module, torch.randn(5, HIDDEN_SIZE, generator=generator, dtype=torch.float64)


@ALL
def test_shapes_dtype_and_reparametrisation(kind, size, event_dim, event_shape):
    module = kind().build(HIDDEN_SIZE, size)
    law = module(torch.randn(5, HIDDEN_SIZE))
    assert law.batch_shape == (5,)
    assert law.event_shape == event_shape
    assert law.has_rsample
    assert law.sample().dtype == torch.float32
    assert module.double()(torch.randn(5, HIDDEN_SIZE).double()).sample().dtype == torch.float64


@ALL
def test_flag_says_whether_the_text_is_read(kind, size, event_dim, event_shape):
    module = kind().build(HIDDEN_SIZE, size).double()
    with torch.no_grad():
        for parameter in module.parameters():  # some start from a constant
            parameter.add_(0.1 * torch.randn_like(parameter))
    law = module(torch.randn(5, HIDDEN_SIZE).double())
    # Rows of one distribution may differ in the last bit.
    assert ((law.mean - law.mean[0]).abs().max() > 1e-12) == kind.conditional
    assert bool(list(module.parameters())) == kind.conditional


@VARIANT
def test_density_has_mass_one(name):
    """By importance draws from a wider distribution."""
    module, states = moved(name)
    law = module(states)
    if isinstance(VARIANTS[name], FeaturePrior):
        wide = dist.Normal(law.mean, 2 * law.variance.sqrt()).to_event(1)
    else:
        wide = dist.Dirichlet(as_dirichlet(law).concentration / 2)
    value = wide.sample((40_000,))
    ratio = (law.log_prob(value) - wide.log_prob(value)).exp()
    assert_within(ratio.mean(0), 1.0, ratio.std(0) / 40_000**0.5 + 1e-12, 4.5)


@pytest.mark.parametrize("name", [n for n in sorted(VARIANTS) if list(moved(n)[0].parameters())])
def test_gradients_reach_every_parameter(name):
    module, states = moved(name)
    module.train()
    value = module(states).sample()
    module(states).log_prob(value).sum().backward()
    for parameter_name, parameter in module.named_parameters():
        assert parameter.grad.abs().max() > 0, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name


@VARIANT
def test_parameters_survive_saving(name):
    """The rest are settings: another start gives the same distribution after loading."""
    (module, states), (again, _) = moved(name), moved(name, seed=1)
    again.load_state_dict(module.state_dict())
    value = module(states).sample()
    assert torch.equal(module(states).log_prob(value), again(states).log_prob(value))


@VARIANT
def test_float32_agrees_with_float64(name):
    module, states = moved(name)
    value = module(states).sample()
    double = module(states).log_prob(value)
    law = module.float()(states.float())
    single = law.log_prob(value.float())
    assert single.dtype == law.sample().dtype == torch.float32
    assert torch.allclose(double.float(), single, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    "prior",
    [
        DirichletPrior(2.0, learn=True),
        DirichletPrior([1.0, 2.0, 3.0, 0.5], learn=True),
        LogisticNormalPrior(1.2, learn=True),
    ],
)
def test_empirical_bayes_finds_the_law_that_made_the_weights(prior):
    """Maximum likelihood of 4,000 draws of w, within 5 standard errors of their moments."""
    torch.manual_seed(1)
    factor = torch.tensor([[1.0, 0, 0], [0.4, 0.7, 0], [-0.3, 0.2, 0.5]]).double()
    truth = LogisticNormal(torch.tensor([0.5, -0.3, 0.2]).double(), factor)
    if isinstance(prior, DirichletPrior):
        truth = dist.Dirichlet(torch.tensor([3.0, 1.0, 2.0, 0.7]).double())
    w = truth.sample((4000,))
    module = prior.build(HIDDEN_SIZE, 4).double()
    optimiser = torch.optim.LBFGS(module.parameters(), max_iter=200, line_search_fn="strong_wolfe")

    def loss():
        optimiser.zero_grad()
        value = -module(torch.zeros(1, HIDDEN_SIZE).double()).log_prob(w[:, None]).mean()
        value.backward()
        return value

    optimiser.step(loss)
    with torch.no_grad():
        found = expected_log(module(torch.zeros(1, HIDDEN_SIZE).double()))[0]
    # The sufficient statistics of both families match at the maximum.
    error = w.log().std(0) / 4000**0.5
    assert ((found - expected_log(truth.expand((1,)))[0]).abs() < 5 * error + 5e-3).all()


def test_one_concentration_per_objective():
    law = DirichletPrior([1.0, 2.0, 3.0]).build(HIDDEN_SIZE, 3)(torch.randn(2, HIDDEN_SIZE))
    assert law.concentration.tolist() == [[1.0, 2.0, 3.0]] * 2
    with pytest.raises(InputError, match="concentration has 3 numbers for 4"):
        DirichletPrior([1.0, 2.0, 3.0]).build(HIDDEN_SIZE, 4)


def test_correlated_features_are_correlated():
    module = CorrelatedNormalPrior().build(HIDDEN_SIZE, 3)
    with torch.no_grad():
        module.correlation.below.copy_(torch.tensor([0.9, -0.4, 0.3]))
    law = module(torch.randn(4, HIDDEN_SIZE))
    correlation = law.covariance_matrix / (law.stddev.unsqueeze(-1) * law.stddev.unsqueeze(-2))
    assert torch.allclose(correlation, correlation[:1].expand_as(correlation), atol=1e-5)
    assert correlation[0, 1, 0].item() == pytest.approx(0.9 / (1 + 0.81) ** 0.5, rel=1e-5)


@ALL
def test_a_stated_setting_is_the_only_kind_of_setting(kind, size, event_dim, event_shape):
    with pytest.raises(TypeError, match="unexpected keyword"):
        kind(concentratoin=2.0)
    assert kind() == kind()  # frozen dataclasses: settings compare and print
    with pytest.raises(AttributeError):
        kind().new_setting = 1


@pytest.mark.parametrize("name", sorted(WEIGHT_PRIORS))
def test_weight_prior_treats_objectives_alike_before_training(name):
    """At the mean of standardised states no objective is preferred."""
    law = WEIGHT_PRIORS[name]().build(HIDDEN_SIZE, 4)(torch.zeros(1, HIDDEN_SIZE))
    if not WEIGHT_PRIORS[name].conditional:
        w = law.sample((20_000,))[:, 0]
        assert ((w.mean(0) - 0.25).abs() < 5 * w.std(0) / 20_000**0.5).all()
    # A hidden layer has random biases and may lean a little.
    assert ((law.mean - 0.25).abs() < 0.1).all()


@pytest.mark.parametrize("name", sorted(WEIGHT_PRIORS))
def test_weight_prior_draws_lie_on_the_simplex(name):
    w = WEIGHT_PRIORS[name]().build(HIDDEN_SIZE, 4)(torch.randn(9, HIDDEN_SIZE)).sample((100,))
    assert torch.allclose(w.sum(-1), torch.ones(100, 9), atol=1e-5)
    assert (w >= 0).all()


def test_constant_priors_are_what_they_say():
    law = WEIGHT_PRIORS["DirichletPrior"](0.7).build(HIDDEN_SIZE, 3)(torch.randn(2, HIDDEN_SIZE))
    assert isinstance(law, dist.Dirichlet)
    assert torch.allclose(law.concentration, torch.full((2, 3), 0.7))
    law = FEATURE_PRIORS["NormalPrior"](2.0).build(HIDDEN_SIZE, 3)(torch.randn(2, HIDDEN_SIZE))
    assert torch.equal(law.mean, torch.zeros(2, 3))
    assert torch.allclose(law.variance, torch.full((2, 3), 4.0))


@pytest.mark.parametrize(
    ("table", "name", "setting", "value"),
    [
        (WEIGHT_PRIORS, "DirichletPrior", "concentration", 0.0),
        (WEIGHT_PRIORS, "DirichletPrior", "concentration", float("nan")),
        (WEIGHT_PRIORS, "DirichletPrior", "concentration", [1.0, -2.0]),
        (WEIGHT_PRIORS, "LogisticNormalPrior", "scale", 0.0),
        (WEIGHT_PRIORS, "ConditionalLogisticNormalPrior", "initial_scale", 0.0),
        (FEATURE_PRIORS, "CorrelatedNormalPrior", "initial_scale", -1.0),
        (WEIGHT_PRIORS, "ConditionalDirichletPrior", "initial_concentration", -1.0),
        (WEIGHT_PRIORS, "ConditionalDirichletPrior", "hidden_size", -1),
        (WEIGHT_PRIORS, "ConditionalDirichletPrior", "dropout", 1.0),
        (WEIGHT_PRIORS, "KernelDirichletPrior", "num_centres", 0),
        (WEIGHT_PRIORS, "KernelDirichletPrior", "bandwidth", 0.0),
        (WEIGHT_PRIORS, "KernelDirichletPrior", "relevance", -0.5),
        (WEIGHT_PRIORS, "KernelDirichletPrior", "initial_concentration", 0.0),
        (FEATURE_PRIORS, "NormalPrior", "scale", -0.5),
        (FEATURE_PRIORS, "ConditionalNormalPrior", "initial_scale", 0.0),
        (FEATURE_PRIORS, "ConditionalNormalPrior", "dropout", -0.1),
        (FEATURE_PRIORS, "ConditionalNormalPrior", "hidden_size", -3),
    ],
)
def test_values_out_of_range_are_named(table, name, setting, value):
    with pytest.raises(ValueError, match=f"{name}.*{setting}"):
        table[name](**{setting: value})


@pytest.mark.parametrize("kind", [kind for kind, *_ in TABLES if hasattr(kind, "dropout")])
def test_dropout_acts_in_training_only(kind):
    module = kind(dropout=0.5).build(HIDDEN_SIZE, 3)
    states = torch.randn(4, HIDDEN_SIZE)
    assert not torch.equal(module(states).mean, module(states).mean)
    module.eval()
    assert torch.equal(module(states).mean, module(states).mean)
