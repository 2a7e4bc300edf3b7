"""Choose pairs one by one, so that they do not all say the same."""

import numpy as np
from numpy.typing import NDArray

from vrm_pyro.prediction.acquisition.information import LabelInformation


def select_pairs(
    information: LabelInformation, prompt: NDArray[np.int64], number: int, per_prompt: int = 1
) -> list[int]:
    """Return pairs in the order in which they are worth a label.

    The first has the highest expected information. Each later one the highest of what is left:
    its information about the parameters times the share of its epistemic variance that the labels
    before would not explain (Delta is Gaussian in the parameters, a label an observation of it
    with the variance of its logit), and its information about w, shared among the pairs of its
    prompt.

    Args:
        information: What each label would say, N pairs.
        prompt: Prompt of each pair, (N,).
        number: Number of pairs; fewer if prompts run out.
        per_prompt: Most pairs of one prompt.
    """
    deviations = information.deviations.astype(np.float64)
    variance = (deviations**2).sum(1)
    left = variance.copy()
    belief = np.eye(deviations.shape[1])  # covariance of the parameters' values
    groups, group = np.unique(prompt, return_inverse=True)
    taken = np.zeros(len(groups), dtype=np.int64)
    free = np.ones(len(prompt), dtype=bool)
    chosen: list[int] = []
    for _ in range(number):
        share = np.divide(left, variance, out=np.zeros_like(left), where=variance > 0)
        score = information.parameters * share + information.weights / (1 + taken[group])
        score = np.where(free, score, -np.inf)
        best = int(np.argmax(score))
        if not free[best]:
            break
        chosen.append(best)
        taken[group[best]] += 1
        free[best] = False
        if taken[group[best]] >= per_prompt:
            free[group == group[best]] = False
        direction = belief @ deviations[best]
        total = deviations[best] @ direction + information.noise[best]
        left = np.maximum(left - (deviations @ direction) ** 2 / total, 0)
        belief -= np.outer(direction, direction) / total
    return chosen
