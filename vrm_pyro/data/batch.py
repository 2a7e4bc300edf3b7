"""Minibatches of prompts on three flat index sets: prompts, responses, pairs."""

from dataclasses import dataclass, fields
from functools import cached_property

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from vrm_pyro.data.rankings import Rankings, from_pairs
from vrm_pyro.data.source import OPTIONAL_COLUMNS


@dataclass(frozen=True)
class FeatureBatch:
    """A set of prompts with all their responses and pairs.

    Flat index sets instead of a rectangular prompt x response block: real prompts have from one
    to dozens of responses, and a response may be in many pairs or in none.

    Args:
        prompts: Prompt states, shape (P, prompt_width).
        responses: Response states, shape (R, response_width). Both widths are the
            backbone's; in simulations they may differ.
        response_prompt: Row of ``prompts`` each response belongs to, shape (R,).
        pair_first: Row of ``responses``, shape (N,).
        pair_second: Row of ``responses``, shape (N,).
        preference: Probability in [0, 1] that the first response is preferred, shape (N,).
        pair_weight: Power on each pair's likelihood, shape (N,).
        ratings: Standardised ratings, any finite number where missing, shape (R, K).
        rating_mask: True where a rating was observed, shape (R, K).
        pair_margin: Known threshold of each pair, NaN where it has none, shape (N,); None if no
            pair of the data set has one.
        pair_ranking: Number of the ranking that each pair comes from, -1 for none, shape (N,);
            None if the data set has no ranking.
    """

    prompts: Float[Tensor, "prompts prompt_width"]
    responses: Float[Tensor, "responses response_width"]
    response_prompt: Int[Tensor, " responses"]
    pair_first: Int[Tensor, " pairs"]
    pair_second: Int[Tensor, " pairs"]
    preference: Float[Tensor, "... pairs"]
    pair_weight: Float[Tensor, " pairs"]
    ratings: Float[Tensor, "... responses objectives"]
    rating_mask: Bool[Tensor, "responses objectives"]
    pair_margin: Float[Tensor, " pairs"] | None = None
    pair_ranking: Int[Tensor, " pairs"] | None = None

    def __post_init__(self) -> None:
        for name in OPTIONAL_COLUMNS:
            column = getattr(self, name)
            assert column is None or column.shape == self.pair_first.shape, name

    @property
    def num_prompts(self) -> int:
        """Number of prompts P."""
        return self.prompts.shape[0]

    @property
    def num_responses(self) -> int:
        """Number of responses R."""
        return self.responses.shape[0]

    @property
    def num_pairs(self) -> int:
        """Number of pairs N."""
        return self.pair_first.shape[0]

    @property
    def pair_prompt(self) -> Tensor:
        """Prompt row of every pair, shape (N,)."""
        return self.response_prompt[self.pair_first]

    @property
    def margin_column(self) -> Tensor | None:
        """Margin of every pair with a trailing dimension, shape (N, 1); None without margins."""
        return None if self.pair_margin is None else self.pair_margin.unsqueeze(-1)

    @cached_property
    def rankings(self) -> Rankings | None:
        """The rankings that the pairs come from; None without rankings.

        Raises:
            ValueError: If a ranking lacks some of its pairs.
        """
        if self.pair_ranking is None:
            return None
        rows = self.ranked.nonzero().squeeze(-1)
        if len(rows) == 0:
            return None
        return from_pairs(
            self.pair_ranking[rows],
            (self.pair_first[rows], self.pair_second[rows]),
            self.preference[rows],
            self.pair_weight[rows],
        )

    @property
    def ranked(self) -> Tensor:
        """Whether each pair is part of a ranking, shape (N,)."""
        if self.pair_ranking is None:
            return torch.zeros_like(self.pair_first, dtype=torch.bool)
        return self.pair_ranking >= 0

    @property
    def plain_weight(self) -> Tensor:
        """Weight of each pair outside rankings, 0 for pairs of rankings, shape (N,)."""
        return torch.where(self.ranked, 0.0, self.pair_weight)

    @property
    def has_ratings(self) -> bool:
        """Whether any rating is observed in this batch."""
        return bool(self.rating_mask.any())

    def swap_pairs(self) -> "FeatureBatch":
        """Return the same data with first and second exchanged in every pair."""
        values = dict(self.as_dict())
        values["pair_first"], values["pair_second"] = self.pair_second, self.pair_first
        values["preference"] = 1 - self.preference
        return FeatureBatch(**values)

    def as_dict(self) -> dict[str, Tensor]:
        """Return the tensors by name, as ``transformers.Trainer`` passes them around."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: value for name, value in values.items() if value is not None}

    def to(self, target: torch.device | torch.dtype | str) -> "FeatureBatch":
        """Return a copy on a device, or with its floating tensors in a dtype."""
        if isinstance(target, torch.dtype):
            return FeatureBatch(
                **{
                    k: v.to(target) if v.is_floating_point() else v
                    for k, v in self.as_dict().items()
                }
            )
        return FeatureBatch(**{k: v.to(target) for k, v in self.as_dict().items()})
