"""Summaries of a chunk's draws: mean, standard deviation and quantiles."""

from collections.abc import Mapping

import torch
from torch import Tensor

from vrm_pyro.prediction.posterior.variables import GROUPS, QUANTILES, SUMMARY_GROUPS


def summarize(groups: Mapping[str, Mapping[str, Tensor]]) -> dict[str, dict[str, Tensor]]:
    """Return mean, standard deviation and quantiles in place of draws.

    Args:
        groups: Variables of :data:`GROUPS` of some rows, draws along the first dimension.

    Returns:
        Variables of :data:`SUMMARY_GROUPS` of the same rows, quantiles along the last dimension.
        What has no draws is kept as it is; log densities of single draws are left out.

    >>> import torch
    >>> draws = torch.arange(5.0).reshape(5, 1)  # five draws of the reward of one response
    >>> found = summarize({"posterior": {"r": draws}})["posterior_summary"]
    >>> found["r_mean"], found["r_quantile"]
    (tensor([2.]), tensor([[0.2000, 1.0000, 2.0000, 3.0000, 3.8000]]))
    """
    found: dict[str, dict[str, Tensor]] = {}
    for group, variables in groups.items():
        name_of = f"{group}_summary"
        if name_of in SUMMARY_GROUPS:
            found[name_of] = {
                name: value
                for drawn, draws in variables.items()
                for name, value in _summary(drawn, draws).items()
                if name in SUMMARY_GROUPS[name_of]
            }
        elif group in SUMMARY_GROUPS:
            known = SUMMARY_GROUPS[group]
            found[group] = {name: value for name, value in variables.items() if name in known}
        else:
            assert all(variable.sampled for variable in GROUPS[group].values())
    return found


def _summary(name: str, draws: Tensor) -> dict[str, Tensor]:
    levels = draws.new_tensor(QUANTILES)
    # By sorting: torch.quantile refuses more than 16 million numbers.
    ordered = draws.sort(0).values
    place = levels * (len(draws) - 1)
    low = place.floor().long()
    high = (low + 1).clamp(max=len(draws) - 1)
    share = (place - low).reshape(-1, *[1] * (draws.dim() - 1))
    quantiles = torch.lerp(ordered[low], ordered[high], share)
    return {
        f"{name}_mean": draws.mean(0),
        f"{name}_sd": draws.std(0, correction=0),
        f"{name}_quantile": quantiles.movedim(0, -1),
    }
