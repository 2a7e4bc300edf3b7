from dataclasses import replace

import numpy as np
from helpers.sources import directed_source

from vrm_pyro.training.preflight import check_signal, held_out_accuracy


def test_signal_in_both_directions():
    train, validation = directed_source(), directed_source(seed=1)
    assert check_signal(train).verdict == "ok"
    assert check_signal(train, validation).verdict == "ok"
    turned = replace(
        validation, pair_first=validation.pair_second, pair_second=validation.pair_first
    )
    found = check_signal(train, turned)
    assert found.verdict == "fail"
    assert "Turning the labels around would help" in found.advice
    noise = replace(directed_source(seed=2), responses=directed_source(seed=3).responses)
    assert check_signal(noise).verdict == "warn"


def test_a_rule_on_noise_is_right_half_of_the_time():
    rates = []
    for seed in range(40):
        noise = replace(
            directed_source(seed=seed), responses=directed_source(seed=100 + seed).responses
        )
        rates.append(held_out_accuracy(noise)[0])
    values = np.array([r.value for r in rates])
    spread = values.std(ddof=1)
    # Neither optimistic, nor fooled by "chosen stands first".
    assert abs(values.mean() - 0.5) < 4 * spread / len(values) ** 0.5
    assert 0.7 < np.mean([r.standard_error for r in rates]) / spread < 1.3
