"""Match the objectives of an ensemble's members that no rating names."""

from typing import Final

import torch

from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.models.ensemble import VRMEnsemble, match_objectives
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.contributions import contributions

#: Most training prompts that objectives are matched on.
MOST_PROMPTS: Final = 500


def align_members(model: RewardModel, dataset: PromptDataset, num_named: int) -> None:
    """Match the unnamed objectives of every member to those of the first; else do nothing.

    Each member learns such objectives in an order of its own. They are matched one to one by what
    they add to rewards, E[beta w_k s_k] minus its mean over the responses to the prompt. Source:
    spec 2.8.5.

    Args:
        model: A trained model.
        dataset: Its training prompts.
        num_named: How many objectives, the first ones, have a meaning given by ratings.
    """
    if not isinstance(model, VRMEnsemble) or model.num_objectives - num_named < 2:
        return
    some = PromptDataset(dataset.source, prompts=dataset.items[:MOST_PROMPTS])
    added = [_added(model, member, some)[:, num_named:] for member in range(len(model.members))]
    for member, found in enumerate(added):
        place = torch.tensor(match_objectives(added[0], found))
        model.order[member, num_named:] = num_named + place.to(model.order)


def _added(model: VRMEnsemble, member: int, dataset: PromptDataset) -> torch.Tensor:
    """Return what each objective of a member adds to rewards, centred by prompt, (rows, K)."""
    found = []
    for chunk in chunks(dataset):
        batch = chunk.batch.to(model.order.device)
        parts = contributions(model.members[member], batch).parts
        owner = batch.response_prompt
        sums = parts.new_zeros(batch.num_prompts, parts.shape[1]).index_add(0, owner, parts)
        found.append((parts - (sums / owner.bincount()[:, None])[owner]).cpu())
    return torch.cat(found) if found else torch.zeros(0, model.num_objectives, dtype=torch.double)
