"""Draws from streams of the caller's own: registered distributions, and one of a user's."""

import pyro.distributions as dist
import pytest
import torch

from vrm_pyro.models.distributions import LogisticNormal, draw_weights, weight_nodes


def stream(seed):
    return torch.Generator().manual_seed(seed)


def mixture():
    parts = dist.Dirichlet(torch.tensor([[[1.0, 2.0, 9.0], [9.0, 2.0, 1.0]]] * 2))
    return dist.MixtureSameFamily(dist.Categorical(torch.ones(2, 2)), parts)


LAWS = {
    "dirichlet": lambda: dist.Dirichlet(torch.tensor([[0.05, 2.0, 0.5], [3.0, 1.0, 7.0]])),
    "logistic_normal": lambda: LogisticNormal(torch.randn(2, 2), torch.eye(2).expand(2, 2, 2)),
    "delta": lambda: dist.Delta(torch.tensor([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), event_dim=1),
    "of a user's own": mixture,
}


@pytest.mark.parametrize("name", LAWS)
@pytest.mark.parametrize("own", [False, True])
def test_draws_have_the_mean_of_the_law(name, own):
    law = LAWS[name]()
    streams = [stream(1), stream(2)] if own else stream(1)
    before = torch.get_rng_state()
    w = draw_weights(law, 4000, streams)
    assert torch.equal(torch.get_rng_state(), before)
    assert w.shape == (4000, 2, 3)
    assert w.dtype == torch.float32
    assert torch.allclose(w.sum(-1), torch.ones(4000, 2), atol=1e-5)
    assert ((w.mean(0) - law.mean).abs() <= 4.5 * w.std(0) / 4000**0.5 + 1e-3).all()
    streams = [stream(1), stream(2)] if own else stream(1)
    assert torch.equal(draw_weights(law, 4000, streams), w)


@pytest.mark.parametrize("name", ["dirichlet", "logistic_normal"])
def test_a_row_follows_from_its_own_stream(name):
    law = LAWS[name]()
    both = draw_weights(law, 5, [stream(1), stream(2)])
    same = draw_weights(law, 5, [stream(9), stream(2)])
    assert torch.equal(both[:, 1], same[:, 1])
    assert not torch.equal(both[:, 0], same[:, 0])


def test_no_gpu_is_seeded_on_the_way(monkeypatch):
    """A seed queued for a GPU would make a policy on it sample the same after every reward."""

    def seed_all(seed):
        raise AssertionError("the GPUs were seeded")

    monkeypatch.setattr(torch.cuda, "manual_seed_all", seed_all)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    draw_weights(mixture(), 3, stream(1))
    weight_nodes(mixture(), 3)
