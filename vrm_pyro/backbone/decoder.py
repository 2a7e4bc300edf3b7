"""Backbones that read from left to right."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float32, Integer

from vrm_pyro.backbone.base import Progress
from vrm_pyro.backbone.batching import token_batches
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.backbone.packing import make_rows, pad_rows
from vrm_pyro.backbone.probe import ordinary_ids
from vrm_pyro.backbone.transformer import TransformerBackbone


class DecoderBackbone(TransformerBackbone):
    """A model of transformers that reads from left to right, such as Llama or Qwen3.

    A state is that of the last token and the mean over all, one after the other, unless
    ``pooling`` says otherwise. Where attention allows it, a prompt is computed once for all its
    responses.
    """

    is_decoder: ClassVar[bool] = True

    @cached_property
    def shares_prompts(self) -> bool:
        """Whether responses to one prompt can share its computation; tested on a short input.

        False if attention uses a window shorter than the longest sequence, if its kernel takes
        no custom mask, or if the last token's state changes.
        """
        if not self.takes_positions:
            return False
        config = self.model.config.get_text_config()
        window = getattr(config, "sliding_window", None)
        if window is not None and window < self.max_length and _uses_window(config):
            return False
        if getattr(config, "_attn_implementation", None) not in ("sdpa", "eager"):
            return False
        a, b, c, d = (np.array([i], dtype=np.int32) for i in ordinary_ids(self.tokenizer))
        zeros = np.zeros(4, dtype=np.int32)
        texts = [np.concatenate(ids) for ids in ((a, b, c, d), (a, b, d, c), (a, b, a, a))]
        pairs = [TokenSequence(ids, zeros, boundary=2, response_end=4) for ids in texts]
        with torch.inference_mode():
            together, apart = (
                self.row_states(pad_rows(make_rows(pairs, [0, 0, 0], "last", share, 64), 0))
                for share in (True, False)
            )
        tolerance = 1e-4 if self.precision == "float32" else 3e-2
        return bool((together - apart).abs().max() <= tolerance * apart.abs().max())

    def pair_states(
        self,
        prompts: Sequence[TokenSequence],
        responses: Sequence[TokenSequence],
        response_prompt: Sequence[int] | Integer[np.ndarray, " responses"],
        progress: Progress | None = None,
        responses_done: Progress | None = None,
    ) -> tuple[Float32[np.ndarray, "prompts hidden"], Float32[np.ndarray, "responses hidden"]]:
        """Return states of prompts and responses, each prompt computed once; see the base."""
        if not self.shares_prompts:
            return super().pair_states(
                prompts, responses, response_prompt, progress, responses_done
            )
        sequences = [*prompts, *responses]
        owner = np.concatenate([np.arange(len(prompts)), np.asarray(response_prompt)])
        longest = max(self.token_budget, self.max_length)
        rows = make_rows(sequences, owner, self.pooling, True, longest)
        states = np.empty((len(sequences), self.hidden_size), dtype=np.float32)
        for group in token_batches([len(row) for row in rows], self.token_budget, even=True):
            batch = pad_rows([rows[r] for r in group], self.pad_id)
            with torch.no_grad():
                states[batch.states.numpy()] = self.row_states(batch).cpu().numpy()
            if progress is not None:
                progress(len(batch.states))
            number = int((batch.states >= len(prompts)).sum())
            if responses_done is not None and number:
                responses_done(number)
        return states[: len(prompts)], states[len(prompts) :]


def _uses_window(config: Any) -> bool:
    """Whether any layer uses sliding-window attention."""
    kinds = getattr(config, "layer_types", None)
    if kinds is None:
        return bool(getattr(config, "use_sliding_window", True))
    return any(kind != "full_attention" for kind in kinds)
