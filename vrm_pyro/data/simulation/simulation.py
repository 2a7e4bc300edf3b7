"""Simulated comparisons of texts with the true latent variables."""

from dataclasses import dataclass
from typing import Any

import xarray as xr

from vrm_pyro import names
from vrm_pyro.errors import InputError

SPLITS: tuple[str, ...] = ("train", "validation", "test")
KIND_DIM = "kind"


@dataclass(frozen=True, repr=False)
class Simulation:
    """Simulated comparisons of texts with the true latent variables.

    ``truth`` has the dimensions ``prompt``, ``response`` and ``pair`` with ids as coordinates
    (those of ``pair`` are the ids of the rows), and ``objective``, ``feature`` and ``kind`` with
    names:

    ==================================================  =====================
    variable                                            dimensions
    ==================================================  =====================
    w                                                   prompt, objective
    prompt_kind, split, prompt_text                     prompt
    z, level (z as the text shows it, -2 to 2)          response, feature
    s, rating                                           response, objective
    r, response_prompt                                  response
    pair_prompt, first_response, second_response        pair
    chosen_response, rejected_response                  pair
    delta (reward of first minus second), p_first       pair
    first_preferred (the label), p_chosen               pair
    kind_weights (mean of w)                            kind, objective
    loading A                                           objective, feature
    intercept b, rating_offset o                        objective
    beta, concentration, rating_scale tau, label_noise  none
    ==================================================  =====================

    Args:
        prompts: Prompt texts, in the order of ``truth.prompt``.
        responses: Response texts, in the order of ``truth.response``.
        truth: See above.
    """

    prompts: tuple[str, ...]
    responses: tuple[str, ...]
    truth: xr.Dataset

    def __repr__(self) -> str:
        pairs = self.truth.sizes[names.PAIR_DIM]
        return (
            f"Simulation({pairs:,} pairs, {len(self.prompts):,} prompts, "
            f"{len(self.responses):,} responses)"
        )

    def rows(self, split: str) -> list[dict[str, Any]]:
        """Return the rows of one split, in the row schema of the command line.

        Raises:
            InputError: If ``split`` is not one of :data:`SPLITS`.
        """
        if split not in SPLITS:
            raise InputError(f"simulate: no split {split!r}; choose one of {', '.join(SPLITS)}.")
        truth = self.truth
        in_split = (truth["split"] == split).values
        kinds = truth["prompt_kind"].values.tolist()
        ratings = self._ratings()
        prompt = truth.indexes[names.PROMPT_DIM].get_indexer(truth["pair_prompt"])
        responses = truth.indexes[names.RESPONSE_DIM]
        chosen = responses.get_indexer(truth["chosen_response"])
        rejected = responses.get_indexer(truth["rejected_response"])
        ids = truth[names.PAIR_DIM].values.tolist()
        rows = []
        for name, i, a, b in zip(ids, prompt, chosen, rejected, strict=True):
            if not in_split[i]:
                continue
            row: dict[str, Any] = {
                "prompt": self.prompts[i],
                "chosen": self.responses[a],
                "rejected": self.responses[b],
            }
            if ratings:
                row |= {"chosen_ratings": ratings[a], "rejected_ratings": ratings[b]}
            rows.append(row | {"subset": kinds[i], "source": "simulated", "id": name})
        return rows

    def _ratings(self) -> list[dict[str, float | None]]:
        """Ratings of every response by objective, or an empty list when none was observed."""
        rating = self.truth[names.RATING].transpose(names.RESPONSE_DIM, names.OBJECTIVE_DIM)
        if not rating.notnull().any():
            return []
        objectives = rating[names.OBJECTIVE_DIM].values.tolist()
        return [
            # JSON has no NaN: a missing rating is null.
            {k: None if v != v else v for k, v in zip(objectives, values, strict=True)}
            for values in rating.values.tolist()
        ]
