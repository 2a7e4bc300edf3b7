import math

import pytest
import torch
from helpers.problems import Arrays, small_batch, small_model

from vrm_pyro.diagnostics.certificates import (
    certify_local,
    information_cost,
    local_certificate,
    local_risks,
    monte_carlo_upper,
)
from vrm_pyro.errors import InputError
from vrm_pyro.models.distributions import Gaussian
from vrm_pyro.models.reward import delta_given_weights

DRAWS = 4000


def exact_risk(weights, features, conditionals, batch):
    """E of the 0-1 loss, z integrated out by the Normal's CDF, w by many draws."""
    normal = features.base_dist
    w = weights.sample((20_000,))[:, batch.pair_prompt]
    first, second = batch.pair_first, batch.pair_second
    mean, var = delta_given_weights(
        w,
        Gaussian(normal.loc[first], normal.scale[first]),
        Gaussian(normal.loc[second], normal.scale[second]),
        conditionals.reward,
    )
    for_first = torch.special.ndtr(mean / var.sqrt()).mean(0)
    c = batch.preference
    wrong = c * (1 - for_first) + (1 - c) * for_first
    mass = torch.zeros(batch.num_prompts).double().index_add(0, batch.pair_prompt,
                                                             batch.pair_weight)  # fmt: skip
    sums = torch.zeros_like(mass).index_add(0, batch.pair_prompt, batch.pair_weight * wrong)
    return (sums / mass).mean().item()


def test_risks_are_those_of_the_two_laws():
    model, batch = small_model(), small_batch(10)
    risks = local_risks(model, Arrays(batch), DRAWS, seed=3)
    with torch.no_grad():
        standard = model.standardize(batch)
        conditionals = model.conditionals(standard)
        posterior = exact_risk(
            *model.guide.posterior(standard, conditionals), conditionals, standard
        )
        prior = exact_risk(conditionals.weights, conditionals.features, conditionals, standard)
    error = 0.5 / math.sqrt(10 * DRAWS)
    assert risks.posterior == pytest.approx(posterior, abs=5 * error)
    assert risks.prior == pytest.approx(prior, abs=5 * error)
    assert risks.posterior < risks.prior - 20 * error


def test_certificate_is_made_of_its_parts():
    model, source = small_model(), Arrays(small_batch(20))
    found = certify_local(model, source, fitted_on_disjoint_data=True, num_draws=50, seed=2)
    risks, cost = local_risks(model, source, 50, 2), information_cost(model, source)
    expected = local_certificate(
        risks.posterior,
        risks.prior,
        cost.total,
        20,
        fitted_on_disjoint_data=True,
        risk_upper=monte_carlo_upper(risks.posterior, 50 * 20, 0.01),
        delta_mc=0.01,
    )
    assert found == expected
    assert found.value >= max(found.observed, found.observed_prior)
    assert found.confidence == pytest.approx(0.94)
    assert "same items" in found.statement


def test_without_the_flag_nothing_is_computed(monkeypatch):
    monkeypatch.setattr("vrm_pyro.diagnostics.certificates.local_risk.local_risks", None)
    model, source = small_model(), Arrays(small_batch(9))
    with pytest.raises(InputError, match="other data than these labels"):
        certify_local(model, source, fitted_on_disjoint_data=False)


def test_few_units():
    with pytest.raises(InputError, match="at least 8"):
        local_certificate(0.1, 0.2, 1.0, 5, fitted_on_disjoint_data=True)
