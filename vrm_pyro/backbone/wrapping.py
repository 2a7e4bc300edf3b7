"""Make a backbone from a loaded transformers model."""

from typing import Literal

import torch
from torch import nn
from transformers import PreTrainedTokenizerBase

from vrm_pyro.backbone.decoder import DecoderBackbone
from vrm_pyro.backbone.devices import usable_device
from vrm_pyro.backbone.encoder import EncoderBackbone
from vrm_pyro.backbone.layers import default_layer, keep_layers
from vrm_pyro.backbone.precision import choose_precision, prepare
from vrm_pyro.backbone.probe import check_vocabulary, probe
from vrm_pyro.backbone.template_trial import try_template
from vrm_pyro.backbone.transformer import TransformerBackbone


def wrap_model(
    model: nn.Module,
    tokenizer: PreTrainedTokenizerBase,
    *,
    name: str,
    source: str,
    pooling: str = "auto",
    layer: int | Literal["auto"] | None = "auto",
    max_length: int | None = None,
    dtype: str = "auto",
    device: str | torch.device = "auto",
    token_budget: int | None = None,
) -> TransformerBackbone:
    """Return a frozen encoder or decoder backbone around a transformers model.

    Args:
        model: A transformers base model, one that returns ``last_hidden_state``. It is
            changed in place: evaluation mode, no gradients, no pooler, no layers above
            ``layer``.
        tokenizer: Its tokenizer.
        name: What the user called it.
        source: Where the weights came from, in words.
        pooling: ``mean``, ``response_mean``, ``last``, ``last+mean`` (one after the other), or
            ``auto`` (by kind of backbone).
        layer: Number of the layer whose states are read, from 1; layers above it are not
            computed. None for the last; ``auto`` is the last of an encoder, and the one at two
            thirds of a decoder's depth. A final norm of the model is applied in any case.
        max_length: Most tokens of a sequence, special tokens included; None for all that the
            model reads, at most 1,024.
        dtype: ``float32``; ``bfloat16`` (autocast); or ``auto``, which is bfloat16 where the
            device computes in it natively. States are always returned as float32.
        device: Where to run; ``auto`` is the GPU when there is one.
        token_budget: Most tokens in a batch, padding included; by device when omitted.

    Raises:
        InputError: If model, tokenizer and settings do not fit together.
    """
    device = usable_device(device)
    precision = choose_precision(dtype, device)
    number = None if layer == "auto" else layer
    keep_layers(model, number, name)
    model = prepare(model, precision).to(device)
    check_vocabulary(name, model, tokenizer)
    try_template(tokenizer, name)
    kind = probe(model, tokenizer, precision)
    if layer == "auto" and kind.is_decoder:
        number = default_layer(model)
        keep_layers(model, number, name)
    return (DecoderBackbone if kind.is_decoder else EncoderBackbone)(
        model,
        tokenizer,
        name=name,
        source=source,
        pooling=pooling,
        layer=number,
        max_length=max_length,
        precision=precision,
        takes_positions=kind.takes_positions,
        token_budget=token_budget,
    )
