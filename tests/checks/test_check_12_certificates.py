"""Check 12: certificates hold as often as they say, and refuse what they cannot say."""

import math

import numpy as np
import pytest

from vrm_pyro.diagnostics.certificates import (
    binary_kl,
    binary_kl_inverse,
    clopper_pearson_upper,
    held_out_bound,
    local_certificate,
    pac_bayes_bound,
    pac_bayes_upper,
)
from vrm_pyro.errors import InputError

DELTA, DELTA_MC = 0.05, 0.01
SETS = 1000


def limit_of_rate(delta):
    """Return delta + 3 standard errors of a rate over the simulated data sets."""
    return delta + 3 * math.sqrt(delta * (1 - delta) / SETS)


class TestInversion:
    Q = np.linspace(0, 1, 41)
    C = np.geomspace(1e-8, 8, 40)

    def test_kl_of_the_inverse_is_c(self):
        checked = 0
        for q in self.Q[:-1]:
            for c in self.C:
                p = binary_kl_inverse(float(q), float(c))
                if p < 1 - 1e-6:  # nearer to 1, float64 cannot hold p well enough
                    assert abs(float(binary_kl(q, p)) - c) < 1e-10
                    checked += 1
        assert checked > 1000

    def test_monotone_in_both(self):
        table = np.array([[binary_kl_inverse(float(q), float(c)) for c in self.C] for q in self.Q])
        assert (np.diff(table, axis=0) >= 0).all()
        assert (np.diff(table, axis=1) >= 0).all()
        assert (table >= self.Q[:, None]).all()
        assert (np.diff(table[10:30, :20], axis=0) > 0).all()

    def test_limits_at_0_and_1(self):
        for c in self.C:
            assert binary_kl_inverse(0.0, float(c)) == pytest.approx(1 - math.exp(-c), abs=1e-14)
            assert binary_kl_inverse(1.0, float(c)) == 1.0
        near = binary_kl_inverse(1e-14, 0.1)
        assert near == pytest.approx(1 - math.exp(-0.1), abs=1e-11)


def test_reference_values():
    assert clopper_pearson_upper(200, 2000, 0.05) == pytest.approx(0.1117, abs=5e-5)
    assert pac_bayes_upper(0.1, 100, 30_000, 0.05) == pytest.approx(0.1275, abs=5e-5)


class TestHeldOutBoundHolds:
    def test_one_pair_each(self):
        """Clopper-Pearson is nearly sharp here, so it also has to fail now and then."""
        rng, risk, n = np.random.default_rng(1), 0.3, 500
        losses = (rng.random((SETS, n)) < risk).astype(float)
        limits = [held_out_bound(row, DELTA, one_pair_each=True).value for row in losses]
        violated = (np.array(limits) < risk).mean()
        assert 0.015 < violated <= limit_of_rate(DELTA)

    def test_several_pairs_a_prompt(self):
        """Four to six pairs with one difficulty each: prompts that are all right or all wrong."""
        rng, n = np.random.default_rng(2), 200
        difficulty = rng.beta(0.1, 0.4, (SETS, n))
        pairs = rng.integers(4, 7, (SETS, n))
        losses = rng.binomial(pairs, difficulty) / pairs
        risk = 0.1 / 0.5
        limits = [held_out_bound(row, DELTA) for row in losses]
        assert {bound.method for bound in limits} == {"kl (Chernoff)"}
        violated = np.mean([bound.value < risk for bound in limits])
        assert violated <= limit_of_rate(DELTA)
        # Pairs as units would claim more than there is.
        naive = [
            held_out_bound(np.repeat(row, count), DELTA).value
            for row, count in zip(losses, pairs, strict=True)
        ]
        assert np.mean(np.array(naive) < risk) > 1.5 * DELTA


class TestPACBayesBoundHolds:
    """Linear classifiers with Gaussian weights: the error of a direction is known by its angle."""

    SIZE, N, NOISE, DRAWS = 20, 60, 0.1, 200
    SCALES = (0.3, 1.0)

    def risk(self, theta, truth):
        cosine = theta @ truth / np.linalg.norm(theta, axis=-1)
        angle = np.arccos(np.clip(cosine, -1, 1))
        return self.NOISE + (1 - 2 * self.NOISE) * angle / math.pi

    def test_angle_gives_the_risk(self):
        rng = np.random.default_rng(0)
        truth, theta = np.eye(self.SIZE)[0], rng.normal(size=self.SIZE)
        x, y = self.data(rng, truth, 200_000)
        wrong = (np.sign(x @ theta) != y).mean()
        assert wrong == pytest.approx(self.risk(theta, truth), abs=4 * 0.5 / 200_000**0.5)

    def data(self, rng, truth, n):
        x = rng.normal(size=(n, self.SIZE))
        flip = np.where(rng.random(n) < self.NOISE, -1, 1)
        return x, np.sign(x @ truth) * flip

    def candidates(self, x, y, start):
        """Q moved towards what these labels say, and Q = P, for each prior of the grid."""
        direction = y @ x / len(y)
        for scale in self.SCALES:
            yield "fitted", scale, start + 1.5 * direction, 0.4 * scale
            yield "prior", scale, start, scale

    def test_violations(self):
        rng = np.random.default_rng(3)
        truth = np.eye(self.SIZE)[0]
        start = 0.3 * np.eye(self.SIZE)[0] + 0.6 * np.eye(self.SIZE)[1]
        noise = rng.normal(size=(1000, self.SIZE))
        violated, without_kl, fitted_wins = 0, 0, 0
        for _ in range(SETS):
            x, y = self.data(rng, truth, self.N)
            bounds = []
            for kind, scale, loc, width in self.candidates(x, y, start):
                theta = loc + width * rng.normal(size=(self.DRAWS, self.SIZE))
                observed = float((np.sign(theta @ x.T) != y).mean())
                ratio = (width / scale) ** 2
                shift = ((loc - start) ** 2).sum() / scale**2
                kl = 0.5 * (self.SIZE * (ratio - 1 - math.log(ratio)) + shift)
                bound = pac_bayes_bound(
                    observed,
                    float(kl),
                    self.N,
                    delta=DELTA,
                    delta_mc=DELTA_MC,
                    num_draws=self.DRAWS,
                    posterior=kind,
                    prior_scale=scale,
                    num_parameters=self.SIZE,
                    num_scales=len(self.SCALES),
                    num_estimates=2 * len(self.SCALES),
                )
                bounds.append((bound.value, bound, loc, width))
            _, best, loc, width = min(bounds, key=lambda item: item[0])
            true = self.risk(loc + width * noise, truth).mean()
            violated += best.value < true
            fitted_wins += best.posterior == "fitted"
            _, free, loc, width = min(bounds, key=lambda item: item[1].observed)
            true = self.risk(loc + width * noise, truth).mean()
            without_kl += free.observed < true - 0.02
        assert violated / SETS <= limit_of_rate(DELTA + DELTA_MC)
        # The same choice without KL and corrections is wrong nearly always.
        assert without_kl / SETS > 0.5
        assert fitted_wins > 0


class TestLocalCertificate:
    def cases(self, count, symmetric):
        """Yield exact Rhat(Q), Rhat(P), D and n of random products over few latent values."""
        rng = np.random.default_rng(4)
        for _ in range(count):
            n, size = int(rng.integers(8, 60)), 6
            prior = rng.dirichlet(np.full(size, rng.choice([0.3, 1.0, 5.0])), n)
            wrong = (rng.random((n, size)) < rng.random()).astype(float)
            if symmetric:
                half = rng.dirichlet(np.ones(size // 2), n)
                prior = np.concatenate([half, half], axis=1) / 2
                wrong = np.concatenate([wrong[:, :3], 1 - wrong[:, :3]], axis=1)
            tilt = np.exp(-rng.exponential(3) * wrong + rng.normal(0, 0.5, (n, size)))
            posterior = prior * tilt
            posterior /= posterior.sum(1, keepdims=True)
            divergence = (posterior * np.log(posterior / prior)).sum()
            risks = ((law * wrong).sum(1).mean() for law in (posterior, prior))
            yield (*map(float, risks), float(divergence), n)

    def test_never_below_either_observed_risk(self):
        below_prior = 0
        for risk, risk_prior, divergence, n in self.cases(1000, symmetric=False):
            bound = local_certificate(
                risk, risk_prior, divergence, n, DELTA, fitted_on_disjoint_data=True
            )
            assert bound.value >= max(risk, risk_prior)
            below_prior += risk < risk_prior
        assert below_prior > 500

    def test_vacuous_with_a_symmetric_prior(self):
        smallest = 1.0
        for risk, risk_prior, divergence, n in self.cases(1000, symmetric=True):
            assert risk_prior == pytest.approx(0.5, abs=1e-12)
            bound = local_certificate(
                risk, risk_prior, divergence, n, DELTA, fitted_on_disjoint_data=True
            )
            smallest = min(smallest, risk)
            assert bound.value >= 0.5
        assert smallest < 0.2

    def test_holds_for_a_prior_that_saw_nothing(self):
        """Fresh labels on the same items; the posterior follows the labels it is judged by."""
        rng, n, violated = np.random.default_rng(6), 100, 0
        chance = rng.beta(2, 2, n)
        prior = rng.beta(2, 2, n)  # p(the latent says 1)
        for _ in range(SETS):
            label = rng.random(n) < chance
            odds = prior / (1 - prior) * np.exp(np.where(label, 1.5, -1.5))
            q = odds / (1 + odds)
            kl = q * np.log(q / prior) + (1 - q) * np.log((1 - q) / (1 - prior))
            observed = np.where(label, 1 - q, q).mean()
            bound = local_certificate(
                float(observed), 0.5, float(kl.sum()), n, DELTA, fitted_on_disjoint_data=True
            )
            violated += bound.value < (chance * (1 - q) + (1 - chance) * q).mean()
        assert violated / SETS <= limit_of_rate(DELTA)

    def test_the_memoriser_is_refused(self):
        """Labels are fair coins; a prior memorised them: no KL, no training error."""
        memoriser = {"risk": 0.0, "risk_prior": 0.0, "divergence": 0.0, "n": 1000}
        with pytest.raises(InputError, match="prior_fitted_on_disjoint_data"):
            local_certificate(**memoriser, fitted_on_disjoint_data=False)
        claimed = local_certificate(**memoriser, fitted_on_disjoint_data=True)
        # What a false declaration would certify, where the truth is 1/2.
        assert claimed.value == pytest.approx(0.007, abs=5e-4)
