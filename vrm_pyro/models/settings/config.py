"""Settings of a model, checked one by one, against each other and against the rows."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import GUIDES, Guide, OutcomeAwareGuide
from vrm_pyro.models.likelihoods import BradleyTerry, PreferenceLikelihood
from vrm_pyro.models.likelihoods.weight_supervision import WeightLoss
from vrm_pyro.models.objectives import OBJECTIVES, Objective
from vrm_pyro.models.priors import (
    FEATURE_PRIORS,
    WEIGHT_PRIORS,
    FeaturePrior,
    ShrinkageDirichletPrior,
    ShrinkageNormalPrior,
    WeightPrior,
)
from vrm_pyro.models.ratings import DifferenceRatings, RatingLikelihood
from vrm_pyro.models.settings.baselines import check_posterior, check_rated
from vrm_pyro.models.settings.limits import check_sizes

DEFAULT_BACKBONE = "sentence-transformers/all-MiniLM-L6-v2"


@dataclass
class ModelConfig:
    """Settings of the reward model.

    Args:
        backbone: Local folder, GGUF file, Hub id, or ``smollm2``; see also ``tuning.method``.
        pooling: How token states become one vector: ``mean`` of all, ``response_mean``, ``last``,
            ``last+mean`` (one after the other), or ``auto`` by kind of backbone.
        layer: Layer to read, from 1; null: last; ``auto``: two thirds up a frozen decoder.
        max_length: Maximum length in tokens of prompt and response together; null: what the
            backbone takes, at most 1,024.
        dtype: Precision of the backbone; ``auto`` is bfloat16 where the device has it natively.
        architecture: ``vrm``, or a baseline on the same states: ``bradley_terry``, one reward, or
            ``gate``, ridge scores of the ratings weighted by a softmax of the prompt.
        mode: ``conditional``: p(w | x) and p(z | x, y) follow the text, the guide sees outcomes;
            ``vib``: fixed priors and a label-blind guide (an information bottleneck).
        objectives: Names of the objectives. Empty: those rated, else ``objective_0`` and so on.
        num_objectives: Number of objectives when none are named or rated. 1: one score with a
            spread, no weights.
        extra_objectives: Number of additional objectives without ratings, named ``unrated_0`` and
            so on. They capture what drives preferences but is not rated.
        latent_dim: Dimension d_z of the semantic features z; 0 uses the number of objectives.
        scores: ``identity``: features are scores. ``linear``: A z + b. ``auto``: identity where
            there are as many features as objectives.
        weight_prior: p(w | x).
        feature_prior: p(z | x, y).
        guide: q(w, z | ...).
        likelihood: Likelihood of a preference given the reward difference.
        objective: What is maximised; ``docs/explanation/model.md`` says what each one bounds.
        num_draws: Draws of w per prompt and step.
        supervision: What ratings act on: the scores, the weights, or nothing.
        rating_power: lambda, the power on the rating likelihood; 1 where its spread is learned.
        rating_likelihood: Likelihood of a rating given its score.
        weight_supervision: Loss of ``supervision: weights`` between q(w) and normalised ratings t:
            ``cross_entropy``, ``dirichlet_kl`` for KL(Dir(nu t) || q(w)), or ``squared_error``.
        weight_supervision_total: nu of ``dirichlet_kl``: total concentration of the target. Higher
            values say that ratings determine the weights more precisely.
        reward_scale: Initial beta. It is learned when ratings give scores a unit.
        hyperprior_weight: gamma of the penalty gamma KL(p_theta || Dir(1) x N(0, I)) of mode
            ``conditional``. A penalty, not part of any ELBO.
        recalibrate: After training in mode ``conditional``, multiply the standard deviations of
            p(z | x, y) and p(w | x), beta and the scales of the ratings by the factors that
            maximise the evidence of validation rows, so that intervals hold. null: if frozen.
        bayesian_head: Learn a Gaussian distribution over A, b, beta and the last layer of each
            network. Predictions average over it, and `score` splits uncertainty into epistemic
            (more training data would reduce it) and ambiguity (of the text itself).
        head_covariance: ``diagonal``: learned with the model. ``laplace``: full covariance
            (without A), computed once after training from the Fisher information of the rows; of
            ``bradley_terry``, which takes no other, that of the last layer.
        head_prior_scale: Prior standard deviation of a parameter times the square root of its
            layer's number of inputs.
        head_draws: Number of fixed parameter draws that a prediction averages over; its time
            grows in proportion.
        kl_weights: kappa_w, the factor on KL(w) in mode ``vib``; 1 keeps the ELBO.
        kl_features: kappa_z, the factor on KL(z) in mode ``vib``; 1 keeps the ELBO.
        warmup_fraction: Fraction of steps over which mode ``vib`` raises the KL factors from 1%
            to 100% of their value.
        free_bits_weights: Free bits of KL(w) in nats per prompt (mode ``vib``).
        free_bits_features: Free bits of KL(z) in nats per response (mode ``vib``).
        head_size: Hidden units of the ``bradley_terry`` head or of the ``gate``; 0: linear.
        head_dropout: Dropout of the ``bradley_terry`` head or of the ``gate``.
        ensemble_size: Members, trained side by side; their disagreement is epistemic variance.
    """

    backbone: str = DEFAULT_BACKBONE
    pooling: Literal["auto", "mean", "response_mean", "last", "last+mean"] = "auto"
    layer: int | Literal["auto"] | None = "auto"
    max_length: int | None = None
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    architecture: Literal["vrm", "bradley_terry", "gate"] = "vrm"
    mode: Literal["conditional", "vib"] = "conditional"
    objectives: list[str] = field(default_factory=list)
    num_objectives: int = 1
    extra_objectives: int = 0
    latent_dim: int = 0
    scores: Literal["auto", "linear", "identity"] = "auto"
    weight_prior: WeightPrior = field(default_factory=ShrinkageDirichletPrior)
    feature_prior: FeaturePrior = field(default_factory=ShrinkageNormalPrior)
    guide: Guide = field(default_factory=OutcomeAwareGuide)
    likelihood: PreferenceLikelihood = field(default_factory=BradleyTerry)
    objective: Literal["sampled", "integrated", "collapsed", "pairwise"] = "integrated"
    num_draws: int = 4
    supervision: Literal["scores", "weights", "none"] = "scores"
    rating_power: float = 1.0
    rating_likelihood: RatingLikelihood = field(default_factory=DifferenceRatings)
    weight_supervision: WeightLoss = "cross_entropy"
    weight_supervision_total: float = 10.0
    reward_scale: float = 3.0
    hyperprior_weight: float = 0.0
    recalibrate: bool | None = None
    bayesian_head: bool = False
    head_covariance: Literal["diagonal", "laplace"] = "diagonal"
    head_prior_scale: float = 1.0
    head_draws: int = 32
    kl_weights: float = 1.0
    kl_features: float = 1.0
    warmup_fraction: float = 0.1
    free_bits_weights: float = 0.0
    free_bits_features: float = 0.0
    head_size: int = 64
    head_dropout: float = 0.5
    ensemble_size: int = 1

    @property
    def has_latents(self) -> bool:
        """Whether the model has latent variables w and z: ``vrm`` has, the baselines not."""
        return self.architecture == "vrm"

    @property
    def can_recalibrate(self) -> bool:
        """Whether the model has the factors that ``recalibrate`` sets after training."""
        usable = self.has_latents and self.mode == "conditional"
        return usable and self.recalibrate is not False


@dataclass(frozen=True)
class DataFacts:
    """Facts about the training rows that settings are checked against.

    Args:
        objectives: Rated objectives, empty without ratings.
        max_pairs_per_response: Largest number of pairs that share one response.
        num_pairs: Number of pairs.
    """

    objectives: tuple[str, ...]
    max_pairs_per_response: int
    num_pairs: int


def objective_names(config: ModelConfig, facts: DataFacts) -> tuple[str, ...]:
    """Return the names of the objectives: those set, else those rated, else numbered ones.

    ``model.extra_objectives`` come after those that are rated.
    """
    if uses_ratings(config, facts):
        extra = tuple(f"unrated_{k}" for k in range(config.extra_objectives))
        return (*(config.objectives or facts.objectives), *extra)
    if config.objectives:
        return tuple(config.objectives)
    return tuple(f"objective_{k}" for k in range(config.num_objectives))


def num_named(config: ModelConfig, facts: DataFacts) -> int:
    """Return how many objectives, the first ones, have a meaning given by ratings."""
    if not uses_ratings(config, facts):
        return 0
    return len(config.objectives) or len(facts.objectives)


def uses_ratings(config: ModelConfig, facts: DataFacts) -> bool:
    """Return whether ratings enter the objective."""
    return bool(facts.objectives) and config.supervision != "none"


def check_settings(config: ModelConfig) -> None:
    """Raise InputError for settings that are wrong for any data.

    Each message names the key, its value and what is allowed.
    """
    for item in fields(config):
        value = getattr(config, item.name)
        if isinstance(value, float):
            _require(math.isfinite(value), item.name, config, "a finite number")
    check_sizes(config)
    if not config.backbone.strip():
        raise InputError("model.backbone is empty; give a local folder or the id of a model.")
    for key in ("layer", "max_length"):
        value = getattr(config, key)
        allowed = "at least 1, or null" + (", or auto" if key == "layer" else "")
        _require(value in (None, "auto") or value >= 1, key, config, allowed)
    for key in ("num_objectives", "num_draws", "ensemble_size"):
        _require(getattr(config, key) >= 1, key, config, "at least 1")
    for key in ("latent_dim", "head_size", "extra_objectives"):
        _require(getattr(config, key) >= 0, key, config, "0 or more")
    positive = "rating_power reward_scale kl_weights kl_features weight_supervision_total"
    for key in (*positive.split(), "head_prior_scale"):
        _require(
            getattr(config, key) > 0,
            key,
            config,
            "positive (to switch ratings off, set model.supervision to none)"
            if key == "rating_power"
            else "positive",
        )
    for key in ("hyperprior_weight", "free_bits_weights", "free_bits_features"):
        _require(getattr(config, key) >= 0, key, config, "0 or more")
    for key in ("warmup_fraction", "head_dropout"):
        _require(0 <= getattr(config, key) < 1, key, config, "in [0, 1)")
    _require(config.head_draws >= 2, "head_draws", config, "at least 2: a variance needs two")
    usable = config.bayesian_head or config.head_covariance == "diagonal"
    _require(usable, "head_covariance", config, "diagonal, or model.bayesian_head true")
    if config.has_latents and config.bayesian_head:
        own = isinstance(config.feature_prior, ShrinkageNormalPrior)
        allowed = "false: ShrinkageNormalPrior has a posterior of its own"
        _require(not own, "bayesian_head", config, allowed)
    if not config.has_latents and config.bayesian_head:
        check_posterior(config.architecture, config.head_covariance, config.ensemble_size)
    repeated = sorted({name for name in config.objectives if config.objectives.count(name) > 1})
    if repeated:
        raise InputError(f"model.objectives names {repeated[0]!r} twice; name each once.")
    if config.has_latents:
        _check_mode(config)
        if config.recalibrate and config.mode != "conditional":
            raise InputError(
                "model.recalibrate is true, but mode 'vib' predicts by its guide: there is no "
                "p(w, z | x) whose spread validation rows could set. Set it to false."
            )
        _check_objective(config)


def check_data(config: ModelConfig, facts: DataFacts) -> None:
    """Raise InputError where settings and training rows do not fit each other."""
    learns_scores = (
        config.has_latents and config.supervision == "scores" and bool(facts.objectives)
    )
    if facts.num_pairs == 0 and not learns_scores:
        raise InputError(
            "The training rows hold no pair to learn from. Add rows with "
            '"prompt", "chosen" and "rejected", or learn scores from ratings alone: rows with '
            "ratings, and model.supervision scores."
        )
    if not config.has_latents:
        check_rated(config.architecture, uses_ratings(config, facts))
        return
    missing = sorted(set(config.objectives) - set(facts.objectives))
    if uses_ratings(config, facts) and missing:
        raise InputError(
            f"model.objectives names {missing[0]!r}, which no training row rates; rated are "
            f"{', '.join(facts.objectives)}."
        )
    if config.supervision == "weights" and not facts.objectives:
        raise InputError(
            "model.supervision is weights, but no training row has ratings. Add "
            '"chosen_ratings" / "rejected_ratings", or set model.supervision to none.'
        )
    needs_single = OBJECTIVES[config.objective].single_use_responses
    if needs_single and facts.max_pairs_per_response > 1:
        raise InputError(
            f"model.objective is {config.objective}, which holds only where every response is in "
            f"one pair at most; here one is in {facts.max_pairs_per_response}. Use integrated, "
            "or pairwise (a composite likelihood)."
        )
    if (
        config.objective == "collapsed"
        and learns_scores
        and not config.rating_likelihood.conjugate
    ):
        raise InputError(
            f"model.objective is collapsed, which integrates features given Gaussian ratings, but "
            f"model.rating_likelihood is {type(config.rating_likelihood).__name__}. Use "
            "GaussianRatings, or objective sampled, integrated or pairwise."
        )
    num_objectives = len(objective_names(config, facts))
    if config.scores == "identity" and config.latent_dim not in (0, num_objectives):
        raise InputError(
            f"model.scores is identity, so model.latent_dim ({config.latent_dim}) must equal the "
            f"number of objectives ({num_objectives}), or be 0 to follow it."
        )
    if num_objectives == 1 and config.supervision == "weights":
        raise InputError(
            "model.supervision is weights, but there is 1 objective, whose weight is always 1. "
            "Rate at least 2 objectives, or set model.supervision to scores or none."
        )


def build_objective(config: ModelConfig) -> Objective:
    """Return the objective with its number of draws."""
    return OBJECTIVES[config.objective](config.num_draws)  # type: ignore[call-arg]


def _require(holds: bool, key: str, config: ModelConfig, allowed: str) -> None:
    if not holds:
        raise InputError(f"model.{key} is {getattr(config, key)}, but must be {allowed}.")


def _check_mode(config: ModelConfig) -> None:
    conditional = config.mode == "conditional"
    own = {
        "weight_prior": config.weight_prior.conditional,
        "feature_prior": config.feature_prior.conditional,
        "guide": config.guide.outcome_aware,
    }
    if conditional:
        # Weights that vary around one prior for all prompts are a model too: no collapse.
        del own["weight_prior"]
    for key, follows in own.items():
        if follows != conditional:
            raise InputError(
                f"model.{key} is {type(getattr(config, key)).__name__}, which mode "
                f"{config.mode!r} does not take. Mode {config.mode!r} takes "
                f"{', '.join(_fitting(key, conditional))}, as in configs/"
                f"{'default' if conditional else 'paper'}.yaml."
            )


def _fitting(key: str, conditional: bool) -> list[str]:
    """Return the classes of a table that a mode takes."""
    tables: dict[str, Mapping[str, Any]] = {
        "weight_prior": WEIGHT_PRIORS,
        "feature_prior": FEATURE_PRIORS,
        "guide": GUIDES,
    }
    flag = "outcome_aware" if key == "guide" else "conditional"
    return [name for name, cls in tables[key].items() if getattr(cls, flag) == conditional]


def _check_objective(config: ModelConfig) -> None:
    objective = OBJECTIVES[config.objective]
    name = config.objective
    if config.guide.point and getattr(config.weight_prior, "learn", False):
        raise InputError(
            f"model.weight_prior is a learned {type(config.weight_prior).__name__}, but "
            f"model.guide is {type(config.guide).__name__}: the density at a point grows without "
            "end as a learned prior closes in on it. Set learn to false, or take LabelBlindGuide."
        )
    if config.weight_supervision != "cross_entropy" and config.supervision != "weights":
        raise InputError(
            f"model.weight_supervision is {config.weight_supervision}, but no rating acts on "
            f"weights: model.supervision is {config.supervision}. Set it to weights (mode vib)."
        )
    if name == "integrated" and not config.guide.gaussian:
        raise InputError(
            f"model.objective is integrated, which needs a Gaussian q(z), but model.guide is "
            f"{type(config.guide).__name__}. Use sampled, or pairwise (its guide then trains on "
            "draws)."
        )
    if config.mode == "conditional":
        for key, neutral in (
            ("kl_weights", 1.0),
            ("kl_features", 1.0),
            ("free_bits_weights", 0.0),
            ("free_bits_features", 0.0),
        ):
            if getattr(config, key) != neutral:
                raise InputError(
                    f"model.{key} is {getattr(config, key)}, but mode 'conditional' charges the "
                    f"exact KL ({neutral}): else the guide absorbs the labels while p(w, z | x) "
                    "lags behind. Use model.hyperprior_weight to regularise, or mode vib."
                )
        if config.supervision == "weights":
            raise InputError(
                "model.supervision is weights, which belongs to mode vib (configs/paper.yaml). "
                "In mode conditional ratings act on scores: set model.supervision to scores."
            )
        return
    if objective.outcome_aware_only or objective.single_use_responses:
        raise InputError(
            f"model.objective is {name}, which needs a conditional prior and an outcome-aware "
            "guide; mode vib takes sampled or integrated."
        )
    free = config.free_bits_weights or config.free_bits_features
    if free and config.guide.point:
        raise InputError(
            f"model.free_bits_weights / free_bits_features are set, but model.guide is "
            f"{type(config.guide).__name__}: a point estimate has no KL to be free of."
        )
    if free and not objective.supports_free_bits:
        raise InputError(
            f"model.free_bits_weights / free_bits_features are set, but objective {name!r} is "
            "Pyro's own and has no floor; use integrated."
        )
    if config.supervision == "weights" and name != "integrated":
        raise InputError(
            f"model.supervision is weights, but objective {name!r} would need log of a sampled "
            "w; use integrated, which has its closed form."
        )
