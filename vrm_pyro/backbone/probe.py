"""Test whether a transformers model is an encoder or a decoder by running it."""

import itertools
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.forward import accepted_inputs, last_states
from vrm_pyro.backbone.pooling import positions
from vrm_pyro.backbone.precision import computing_in
from vrm_pyro.errors import InputError


class Kind(NamedTuple):
    """Result of :func:`probe`.

    Args:
        is_decoder: Whether a token's state depends on earlier tokens only.
        takes_positions: Whether the model takes position ids that count from 0.
    """

    is_decoder: bool
    takes_positions: bool


def probe(model: Any, tokenizer: PreTrainedTokenizerBase, precision: str) -> Kind:
    """Run the model to find out whether attention is causal and position ids count from 0.

    The configuration does not tell: decoders may be tuned to attend in both directions. Some
    encoders count positions from the padding id; these then compute their own position ids.

    Args:
        model: A base model of transformers, on its device.
        tokenizer: Its tokenizer.
        precision: ``bfloat16`` or ``float32``.
    """
    accepted, device = accepted_inputs(model), next(model.parameters()).device
    ids = ordinary_ids(tokenizer)
    batch = torch.tensor([ids[:3], [*ids[:2], ids[3]]], device=device)
    mask = torch.ones_like(batch)

    def states(position_ids: Tensor | None) -> Tensor:
        with torch.inference_mode(), computing_in(precision, device):
            return last_states(model, batch, mask, None, position_ids, accepted)

    plain = states(None)
    size = float(plain.abs().max())
    # The rows differ in their last token alone.
    is_decoder = bool((plain[0, 0] - plain[1, 0]).abs().max() <= 1e-6 * size)
    if "position_ids" not in accepted:
        return Kind(is_decoder, False)
    difference = (plain - states(positions(mask))).abs().max()
    return Kind(is_decoder, bool(difference <= 1e-3 * size))


def ordinary_ids(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the first few token ids that are not special."""
    special = set(tokenizer.all_special_ids)
    return list(itertools.islice((i for i in range(len(tokenizer)) if i not in special), 4))


def check_vocabulary(name: str, model: Any, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise InputError unless the tokenizer has a vocabulary, and the model knows all of it."""
    if len(ordinary_ids(tokenizer)) < 4:
        # transformers makes an empty tokenizer where its files are missing.
        raise InputError(
            f"backbone {name}: its tokenizer has no vocabulary. Put the model's "
            "tokenizer.json and tokenizer_config.json beside config.json."
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"backbone {name}: the tokenizer has {len(tokenizer)} tokens, but the "
            f"model has embeddings for {rows}. They do not belong together; give a folder "
            "that holds a model with its own tokenizer."
        )
