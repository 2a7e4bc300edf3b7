import pyro.distributions as dist
import torch
from problems import small_batch

from vrm_pyro.likelihood.weight_supervision import expected_cross_entropy, weight_targets

ONE, ZERO = torch.ones(()).double(), torch.zeros(()).double()


def test_expected_cross_entropy_by_draws():
    alpha = torch.tensor([[2.0, 1.0, 0.5], [5.0, 9.0, 1.0]]).double()
    target = torch.tensor([[0.2, 0.5, 0.3], [0.0, 0.4, 0.6]]).double()
    log_w = dist.Dirichlet(alpha).sample((200_000,)).log()
    values = (target * log_w).sum(-1)
    error = values.std(0) / 200_000**0.5
    exact = expected_cross_entropy(dist.Dirichlet(alpha), target)
    assert ((values.mean(0) - exact).abs() < 4.5 * error).all()


def test_targets_are_mean_shares_of_the_raw_ratings():
    batch = small_batch(3)
    loc, scale = torch.tensor(3.0).double(), torch.tensor(2.0).double()
    target, present = weight_targets(batch, loc, scale)
    assert target.shape == (3, 3)
    for prompt in range(3):
        shares = []
        for row in (batch.response_prompt == prompt).nonzero().squeeze(-1):
            raw = torch.where(batch.rating_mask[row], batch.ratings[row] * 2 + 3, 0.0).clamp(min=0)
            if raw.sum() > 0:
                shares.append(raw / raw.sum())
        assert bool(present[prompt]) == bool(shares)
        if shares:
            assert torch.allclose(target[prompt], torch.stack(shares).mean(0))


def test_prompts_without_ratings_have_no_target():
    batch = small_batch(3, ratings=False)
    target, present = weight_targets(batch, ZERO, ONE)
    assert not present.any()
    assert target.isfinite().all()
