"""Small models and batches that many tests share; golden numbers are in ``golden.py``."""

from dataclasses import replace

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.errors import InputError
from vrm_pyro.models.conditionals import Conditionals
from vrm_pyro.models.distributions import Gaussian, weight_moments
from vrm_pyro.models.guides import Guide, GuideModule, LabelBlindGuide, OutcomeAwareGuide
from vrm_pyro.models.likelihoods import BradleyTerry
from vrm_pyro.models.priors import (
    ConditionalDirichletPrior,
    ConditionalNormalPrior,
    DirichletPrior,
    FeaturePrior,
    NormalPrior,
    WeightPrior,
)
from vrm_pyro.models.ratings import GaussianRatings, GaussianValues
from vrm_pyro.models.reward import (
    LinearReward,
    Moments,
    RewardParameters,
    delta_moments,
    reward_covariance,
    reward_moments,
)
from vrm_pyro.models.settings.config import check_data, check_settings
from vrm_pyro.models.vrm import VRM

HIDDEN_SIZE = 3


class Arrays:
    """A feature source over a batch in memory, in the dtypes of a store."""

    def __init__(self, batch: FeatureBatch) -> None:
        self.prompts, self.responses = batch.prompts.numpy(), batch.responses.numpy()
        self.response_prompt = batch.response_prompt.numpy()
        self.pair_first, self.pair_second = batch.pair_first.numpy(), batch.pair_second.numpy()
        self.preference = batch.preference.double().numpy()
        self.pair_weight = batch.pair_weight.double().numpy()
        ratings = torch.where(batch.rating_mask, batch.ratings, torch.nan)
        self.ratings = ratings.double().numpy()
        self.objectives = tuple(f"objective_{k}" for k in range(batch.ratings.shape[1]))


def small_batch(
    num_prompts: int = 5,
    num_objectives: int = 3,
    ratings: bool = True,
    single_use: bool = False,
    seed: int = 0,
    dtype: torch.dtype = torch.float64,
) -> FeatureBatch:
    """Return random states and outcomes: soft labels, unequal weights, missing ratings.

    Prompts have 2, 3 or 4 responses in a chain of pairs, so responses are shared; with
    ``single_use`` they have 4 responses in two pairs without a common one.
    """
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    counts = [4 if single_use else 2 + i % 3 for i in range(num_prompts)]
    first: list[int] = []
    second: list[int] = []
    start = 0
    for count in counts:
        for j in range(0, count - 1, 2 if single_use else 1):
            first.append(start + j)
            second.append(start + j + 1)
        start += count
    num_pairs, num_responses = len(first), start
    preference = torch.bernoulli(torch.full((num_pairs,), 0.5), generator=generator).to(dtype)
    preference[0] = 0.8
    weight = torch.ones(num_pairs, dtype=dtype)
    weight[-1] = 0.5
    mask = torch.rand(num_responses, num_objectives, generator=generator) < 0.7
    return FeatureBatch(
        prompts=normal(num_prompts, HIDDEN_SIZE),
        responses=normal(num_responses, HIDDEN_SIZE),
        response_prompt=torch.repeat_interleave(torch.arange(num_prompts), torch.tensor(counts)),
        pair_first=torch.tensor(first),
        pair_second=torch.tensor(second),
        preference=preference,
        pair_weight=weight,
        ratings=normal(num_responses, num_objectives),
        rating_mask=mask if ratings else torch.zeros_like(mask),
    )


def small_model(
    mode: str = "conditional",
    num_objectives: int = 3,
    latent_dim: int = 2,
    ratings: bool = True,
    power: float = 1.0,
    seed: int = 1,
    dtype: torch.dtype = torch.float64,
) -> VRM:
    """Return a model of either mode with random networks that react to their inputs."""
    weight_prior: WeightPrior = DirichletPrior(1.5)
    feature_prior: FeaturePrior = NormalPrior()
    guide: Guide = LabelBlindGuide(hidden_size=4)
    if mode == "conditional":
        weight_prior = ConditionalDirichletPrior(hidden_size=4, initial_concentration=1.5)
        feature_prior = ConditionalNormalPrior(hidden_size=4)
        guide = OutcomeAwareGuide(hidden_size=4)
    with torch.random.fork_rng(), torch.no_grad():  # the caller's draws are not ours to reset
        torch.manual_seed(seed)
        model = VRM(
            HIDDEN_SIZE,
            num_objectives,
            latent_dim,
            weight_prior,
            feature_prior,
            guide,
            LinearReward(num_objectives, latent_dim, initial_scale=1.3),
            GaussianRatings().build(num_objectives, power) if ratings else None,
        )
        # Fresh networks hardly look at their inputs; these should.
        for layer in model.modules():
            if isinstance(layer, nn.Linear):
                layer.weight.mul_(3)
        model.reward.intercept.normal_(std=0.3)
        if model.ratings is not None:
            model.ratings.offset.normal_(std=0.3)
    return model.to(dtype)


def random_conditionals(
    num_prompts: int,
    num_responses: int,
    num_objectives: int = 4,
    latent_dim: int = 4,
    seed: int = 2,
    dtype: torch.dtype = torch.float64,
) -> Conditionals:
    """Return random distributions of w and z and random parameters, without any network."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=dtype)

    return Conditionals(
        dist.Dirichlet((0.7 * normal(num_prompts, num_objectives)).exp() + 0.2),
        dist.Normal(
            normal(num_responses, latent_dim),
            (0.4 * normal(num_responses, latent_dim)).exp() * 0.6,
        ).to_event(1),
        RewardParameters(
            normal(num_objectives, latent_dim) / latent_dim**0.5,
            0.5 * normal(num_objectives),
            torch.tensor(1.4, dtype=dtype),
        ),
        GaussianValues(
            0.3 * normal(num_objectives), (0.2 * normal(num_objectives)).exp() * 0.6, 1.0
        ),
        BradleyTerry(),
    )


def with_guide(model: VRM, guide: GuideModule) -> VRM:
    """Put another guide in the model."""
    model.guide = guide
    return model


def repeat(batch: FeatureBatch, times: int) -> FeatureBatch:
    """Return ``times`` copies of the prompts of a batch, one after the other."""
    copies = {
        name: value.repeat(times, *[1] * (value.dim() - 1))
        for name, value in batch.as_dict().items()
    }
    for name, step in (
        ("response_prompt", batch.num_prompts),
        ("pair_first", batch.num_responses),
        ("pair_second", batch.num_responses),
    ):
        size = getattr(batch, name).shape[0]
        copies[name] = copies[name] + step * torch.arange(times).repeat_interleave(size)
    return FeatureBatch(**copies)


def repeat_conditionals(conditionals: Conditionals, times: int) -> Conditionals:
    """Return the heads of ``times`` copies of the prompts."""
    normal = conditionals.features.base_dist
    return replace(
        conditionals,
        weights=dist.Dirichlet(conditionals.weights.concentration.repeat(times, 1)),
        features=dist.Normal(normal.loc.repeat(times, 1), normal.scale.repeat(times, 1)).to_event(
            1
        ),
    )


def assert_within(estimate: Tensor, exact: Tensor | float, error: Tensor, limit: float) -> None:
    """Assert |estimate - exact| < ``limit`` standard errors, elementwise, saying by how much."""
    z = ((estimate - exact) / error).abs()
    assert (z < limit).all(), f"largest z is {z.max():.2f}, limit {limit}"


Pair = tuple[Tensor, Tensor]


def moments_of(alpha: Tensor, loc: Tensor, scale: Tensor, reward: RewardParameters) -> Moments:
    """Return the moments of r for a Dirichlet over w and a diagonal Normal over z."""
    return reward_moments(weight_moments(dist.Dirichlet(alpha)), Gaussian(loc, scale), reward)


def delta_moments_of(alpha: Tensor, locs: Pair, scales: Pair, reward: RewardParameters) -> Moments:
    """Return the moments of Delta for a Dirichlet over w and diagonal Normals over z."""
    first, second = (Gaussian(*both) for both in zip(locs, scales, strict=True))
    return delta_moments(weight_moments(dist.Dirichlet(alpha)), first, second, reward)


def covariance_of(alpha: Tensor, locs: Pair, reward: RewardParameters) -> Tensor:
    """Return Cov(r_first, r_second) for a Dirichlet over w."""
    first, second = (Gaussian(loc, torch.zeros_like(loc)) for loc in locs)
    return reward_covariance(weight_moments(dist.Dirichlet(alpha)), first, second, reward)


def labelled_prompt(
    num_pairs: int = 40, seed: int = 0
) -> tuple[FeatureBatch, Conditionals, Tensor]:
    """Return a prompt with known scores and labels that follow one w, heads and differences."""
    generator = torch.Generator().manual_seed(seed)
    scores = torch.randn(2 * num_pairs, 4, generator=generator).double()
    first = 2 * torch.arange(num_pairs)
    truth = torch.tensor([0.1, 0.6, 0.1, 0.2]).double()
    difference = 3 * (scores[first] - scores[first + 1])
    label = torch.bernoulli(torch.sigmoid(difference @ truth), generator=generator)
    batch = FeatureBatch(
        prompts=torch.zeros(1, HIDDEN_SIZE).double(),
        responses=torch.zeros(2 * num_pairs, HIDDEN_SIZE).double(),
        response_prompt=torch.zeros(2 * num_pairs, dtype=torch.long),
        pair_first=first,
        pair_second=first + 1,
        preference=label,
        pair_weight=torch.ones(num_pairs).double(),
        ratings=torch.zeros(2 * num_pairs, 4).double(),
        rating_mask=torch.zeros(2 * num_pairs, 4, dtype=torch.bool),
    )
    conditionals = random_conditionals(1, 2 * num_pairs)
    reward = replace(
        conditionals.reward, loading=torch.eye(4).double(), scale=torch.tensor(3.0).double()
    )
    features = dist.Normal(scores, torch.full_like(scores, 1e-3)).to_event(1)
    return batch, replace(conditionals, features=features, reward=reward), difference


def allowed(config, facts):
    """Whether settings hold for any data, and for data with these facts."""
    try:
        check_settings(config)
        check_data(config, facts)
    except InputError:
        return False
    return True


def by_prompt(batch, value):
    """Return the sum over the responses of each prompt, (..., P), of values (..., R)."""
    zero = value.new_zeros(*value.shape[:-1], batch.num_prompts)
    return zero.index_add(-1, batch.response_prompt, value)
