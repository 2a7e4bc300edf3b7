"""Lines of a score file by prompt: its responses against each other."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.backbone.messages import Messages
from vrm_pyro.data.chunks import chunks
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.prediction.group_rewards import group_rewards
from vrm_pyro.prediction.reward_draws import predictive_draws
from vrm_pyro.prediction.scorer.lines import short
from vrm_pyro.prediction.scorer.scores import Scores
from vrm_pyro.prediction.text_streams import text_streams

NUM_DRAWS: Final = 4000
"""Joint draws behind P(best), whose standard error is at most .008."""

_MAX_RESPONSES: Final = 1024  # in a chunk: draws of them take 16 MB


class _Entry(NamedTuple):
    """A response of a row: id of the row, place in it, index of the response."""

    name: str
    place: int
    response: int


class Standing(NamedTuple):
    """What a response is within its group, by index of the response: (R,) each.

    Attributes:
        sd: Standard deviation of its reward relative to the group's mean.
        p_best: Probability that it has the highest reward of the group.
    """

    sd: NDArray[np.float64]
    p_best: NDArray[np.float64]


def prompt_lines(
    model: RewardModel,
    source: FeatureSource,
    scores: Scores,
    table: PreferenceTable,
    k: float = 1.0,
) -> Iterator[dict[str, Any]]:
    """Yield a line for each prompt, in the order in which the rows first have it.

    ``id`` is that of the prompt's first row, and ``responses`` holds an object for each response
    of all its rows, in their order: ``id`` and ``response_index`` as in
    :func:`~vrm_pyro.prediction.scorer.lines.table_lines`, ``reward_mean``, ``reward_sd``,
    ``p_best`` (probability of the highest reward in the group; they add up to 1, and equal
    responses share theirs), ``lower_bound`` (``reward_mean`` minus k standard deviations of the
    reward relative to the group's mean, as :class:`vrm_pyro.VRMReward` has it) and ``rank`` (1 is
    the highest mean; equal ones share a rank).

    Numbers depend on the texts of the group alone, not on other prompts.

    Source: spec 2.9, the joint distribution of the rewards of one prompt's responses.

    Args:
        model: The model.
        source: States of the table's texts.
        scores: Scores of all its responses.
        table: The rows; labels and ratings are not read.
        k: Standard deviations that ``lower_bound`` subtracts.
    """
    groups: dict[int, list[_Entry]] = {}
    for entry in _entries(table):
        groups.setdefault(int(table.response_prompt[entry.response]), []).append(entry)
    counts = np.zeros(table.num_responses, dtype=np.int64)
    for group in groups.values():
        np.add.at(counts, [entry.response for entry in group], 1)
    texts = table.prompts, table.responses
    found = standing(model, source, texts, counts, np.array(sorted(groups), dtype=np.int64))
    for group in groups.values():
        mean = scores.reward[[entry.response for entry in group]]
        yield {
            "id": group[0].name,
            "responses": [
                {
                    "id": entry.name,
                    "response_index": entry.place,
                    "reward_mean": short(own),
                    "reward_sd": short(np.sqrt(scores.variance[entry.response])),
                    "p_best": short(found.p_best[entry.response]),
                    "lower_bound": short(own - k * found.sd[entry.response]),
                    "rank": 1 + int((mean > own).sum()),
                }
                for entry, own in zip(group, mean, strict=True)
            ],
        }


def _entries(table: PreferenceTable) -> Iterator[_Entry]:
    order = table.row_order
    for item, (name, n) in enumerate(zip(order.names, order.pair.tolist(), strict=True)):
        if n < 0:
            yield _Entry(name, int(order.index[item]), int(order.response[item]))
        else:
            yield _Entry(name, 0, int(table.pair_first[n]))
            yield _Entry(name, 1, int(table.pair_second[n]))


def standing(
    model: RewardModel,
    source: FeatureSource,
    texts: tuple[Sequence[Messages], Sequence[str]],
    counts: NDArray[np.int64],
    prompts: NDArray[np.int64],
) -> Standing:
    """Return each response's numbers within its group, the responses to the same prompt.

    Args:
        model: The model.
        source: States of the texts.
        texts: All prompts and responses of the source; they choose the draws behind P(best).
        counts: How often each response stands in its group, shape (R,); 0 for one that does not.
        prompts: Prompts whose groups are asked for; numbers of others are 0.
    """
    sd, p_best = np.zeros(len(counts)), np.zeros(len(counts))
    with evaluation_mode(model) as device:
        dataset = PromptDataset(source, prompts=prompts)
        for chunk in chunks(dataset, max_responses=_MAX_RESPONSES):
            batch = chunk.batch.to(device)
            often = counts[chunk.responses]
            spread = group_rewards(model, batch, torch.from_numpy(often).to(batch.responses))
            sd[chunk.responses] = spread.sd().double().cpu().numpy()
            owner = batch.response_prompt.tolist()
            said = [texts[1][j] for j in chunk.responses]
            asked = [texts[0][i] for i in chunk.prompts]
            streams = text_streams(0, 0, asked, list(zip(owner, said, strict=True)))
            draws = predictive_draws(model, batch, NUM_DRAWS, streams).cpu().numpy()
            ends = np.searchsorted(owner, np.arange(len(chunk.prompts) + 1))
            for start, end in zip(ends[:-1], ends[1:], strict=True):
                own = draws[:, start:end]
                own = np.where(often[start:end] > 0, own, -np.inf)
                best = own == own.max(1, keepdims=True)
                share = best / (best * often[start:end]).sum(1, keepdims=True)
                p_best[chunk.responses[start:end]] = share.mean(0)
    return Standing(sd, p_best)
