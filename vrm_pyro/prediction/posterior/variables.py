"""Every variable of a posterior file: its dimensions, its type, and what it means."""

from typing import Any, Final, NamedTuple

import numpy as np

from vrm_pyro import names

PROMPT, RESPONSE, PAIR = names.PROMPT_DIM, names.RESPONSE_DIM, names.PAIR_DIM


class Variable(NamedTuple):
    """How a variable is stored.

    Attributes:
        dims: Dimensions beside the draws; the first says what its items are.
        dtype: Type in the file: draws take 4 bytes, log densities 8.
        sampled: Whether there is a value for each draw.
        meaning: One sentence, written beside the numbers.
    """

    dims: tuple[str, ...]
    dtype: Any
    sampled: bool
    meaning: str


def _draw(meaning: str, *dims: str, dtype: Any = np.float32) -> Variable:
    return Variable(dims, dtype, True, meaning)


def _number(meaning: str, *dims: str, dtype: Any = np.float64) -> Variable:
    return Variable(dims, dtype, False, meaning)


# Draws in the groups prior, posterior, prior_predictive, posterior_predictive.
LATENTS: Final[dict[str, Variable]] = {
    names.WEIGHTS: _draw("objective weights", PROMPT, names.OBJECTIVE_DIM),
    names.FEATURES: _draw("semantic features", RESPONSE, names.FEATURE_DIM),
    names.SCORES: _draw("scores s = A z + b, model units", RESPONSE, names.OBJECTIVE_DIM),
    names.REWARD: _draw("reward r = beta w's; compare within a prompt only", RESPONSE),
}
OUTCOMES: Final[dict[str, Variable]] = {
    names.PREFERENCE: _draw("1 if the first response is preferred, 0.5 for a tie", PAIR),
    names.RATING: _draw("rating in raw units", RESPONSE, names.OBJECTIVE_DIM),
}
LOG_PRIOR: Final[dict[str, Variable]] = {
    "lp_w": _draw("log p(w) of the posterior draws", PROMPT, dtype=np.float64),
    "lp_z": _draw("log p(z) of the posterior draws", RESPONSE, dtype=np.float64),
}
LOG_LIKELIHOOD: Final[dict[str, Variable]] = {
    "outcomes": _number("log p(preferences, ratings), w and z integrated out", PROMPT),
}
SAMPLE_STATS: Final[dict[str, Variable]] = {
    "log_weight": _draw(
        "log p(outcomes, w, z) - log q(w, z) of the posterior draws", PROMPT, dtype=np.float64
    ),
    "lp_outcomes": _draw(
        "log p(outcomes given w, z) of the posterior draws; not for LOO", PROMPT, dtype=np.float64
    ),
    "lp_ratings": _draw(
        "part of lp_outcomes from ratings, times lambda", PROMPT, dtype=np.float64
    ),
    "lp_preferences": _draw(
        "part of lp_outcomes from preferences, times pair weights", PROMPT, dtype=np.float64
    ),
    "elbo": _number("E log p(outcomes given w, z) - KL(q || p), features integrated", PROMPT),
    "evidence_gap": _number("log evidence minus elbo", PROMPT),
    "evidence_se": _number("Monte Carlo error of the log evidence", PROMPT),
    "kl_weights": _number("KL(w given text || Dir(1)), nats", PROMPT),
    "kl_features": _number("KL(z given text || N(0, I)), nats", RESPONSE),
    "kl_weights_guide": _number("KL(q(w) || p(w)), nats", PROMPT),
    "kl_features_guide": _number("KL(q(z) || p(z)), nats", RESPONSE),
    "p_first": _number("probability that the first is preferred, given text alone", PAIR),
}
OBSERVED: Final[dict[str, Variable]] = {
    names.PREFERENCE: _number("probability that the first response is preferred", PAIR),
    names.RATING: _number("rating in raw units, NaN where missing", RESPONSE, names.OBJECTIVE_DIM),
}
CONSTANT: Final[dict[str, Variable]] = {
    "response_prompt": _number("position of the prompt", RESPONSE, dtype=np.int64),
    "pair_prompt": _number("position of the prompt", PAIR, dtype=np.int64),
    "pair_first": _number("position of the first response", PAIR, dtype=np.int64),
    "pair_second": _number("position of the second response", PAIR, dtype=np.int64),
    "pair_weight": _number("power on the likelihood of the pair", PAIR),
    "pair_margin": _number("known threshold of the pair, NaN where it has none", PAIR),
    "pair_ranking": _number(
        "ranking that the pair was cut out of, -1 for none", PAIR, dtype=np.int64
    ),
    "swapped": _number("whether the row names the first as rejected", PAIR, dtype=np.bool_),
}

#: Groups of a tree of draws.
GROUPS: Final[dict[str, dict[str, Variable]]] = {
    "posterior": LATENTS,
    "posterior_predictive": OUTCOMES,
    "prior": LATENTS,
    "prior_predictive": OUTCOMES,
    "observed_data": OBSERVED,
    "constant_data": CONSTANT,
    "log_likelihood": LOG_LIKELIHOOD,
    "sample_stats": SAMPLE_STATS,
    "log_prior": LOG_PRIOR,
}

QUANTILES: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


def _summaries(name: str, drawn: Variable) -> dict[str, Variable]:
    """Return what stands for the draws of a variable in a tree of summaries."""
    mean = Variable(drawn.dims, np.float32, False, f"mean over draws: {drawn.meaning}")
    if name == names.PREFERENCE:  # two values, or three: its mean says it all
        return {f"{name}_mean": mean}
    spread = Variable(drawn.dims, np.float32, False, f"sd over draws: {drawn.meaning}")
    dims = (*drawn.dims, names.QUANTILE_DIM)
    quantile = Variable(dims, np.float32, False, f"quantiles over draws: {drawn.meaning}")
    return {f"{name}_mean": mean, f"{name}_sd": spread, f"{name}_quantile": quantile}


#: Groups of a tree of summaries. They have names of their own, so that code which needs draws
#: does not mistake them for draws.
SUMMARY_GROUPS: Final[dict[str, dict[str, Variable]]] = {
    f"{group}_summary": {
        name: summary
        for drawn, variable in GROUPS[group].items()
        for name, summary in _summaries(drawn, variable).items()
    }
    for group in ("posterior", "posterior_predictive", "prior", "prior_predictive")
} | {
    group: {name: variable for name, variable in GROUPS[group].items() if not variable.sampled}
    for group in ("observed_data", "constant_data", "log_likelihood", "sample_stats")
}

VARIABLES: Final[dict[str, dict[str, Variable]]] = SUMMARY_GROUPS | GROUPS
