"""Backbones: frozen models that turn prompts and responses into states."""

from vrm_pyro.backbone.base import DEFAULT_TOKEN_BUDGET, TOKEN_BUDGETS, Backbone, Text
from vrm_pyro.backbone.batching import TokenBatch, pad_batch, token_batches
from vrm_pyro.backbone.decoder import DecoderBackbone
from vrm_pyro.backbone.encoder import EncoderBackbone
from vrm_pyro.backbone.loading import (
    DEFAULT_BACKBONE,
    load_backbone,
    packaged_folder,
    peft_calls,
    quiet_transformers,
)
from vrm_pyro.backbone.packing import Row, RowBatch, make_rows, pad_rows
from vrm_pyro.backbone.pooling import (
    DEFAULT_ENCODER_POOLING,
    POOLINGS,
    last_position,
    masked_mean,
    pool,
    positions,
)
from vrm_pyro.backbone.precision import choose_precision, has_native_bfloat16
from vrm_pyro.backbone.transformer import TransformerBackbone
from vrm_pyro.backbone.wrapping import wrap_model

__all__ = [
    "DEFAULT_BACKBONE",
    "DEFAULT_ENCODER_POOLING",
    "DEFAULT_TOKEN_BUDGET",
    "POOLINGS",
    "TOKEN_BUDGETS",
    "Backbone",
    "DecoderBackbone",
    "EncoderBackbone",
    "Row",
    "RowBatch",
    "Text",
    "TokenBatch",
    "TransformerBackbone",
    "choose_precision",
    "has_native_bfloat16",
    "last_position",
    "load_backbone",
    "make_rows",
    "masked_mean",
    "packaged_folder",
    "pad_batch",
    "pad_rows",
    "peft_calls",
    "pool",
    "positions",
    "quiet_transformers",
    "token_batches",
    "wrap_model",
]
