"""Which modules of a backbone become shards of their own."""

import pytest
from helpers.tiny_backbones import tiny_backbone

from vrm_pyro.backbone.sharding import find_blocks
from vrm_pyro.errors import InputError


class TestFindBlocks:
    def test_layers_and_embeddings(self):
        backbone = tiny_backbone("llama-chat")
        model = backbone.model
        blocks = find_blocks(model, backbone.module_under_adapters)
        assert blocks == [*model.layers, model.embed_tokens]

    def test_no_block_inside_another(self):
        model = tiny_backbone("llama-chat").model
        model._no_split_modules = {"LlamaDecoderLayer", "LlamaAttention"}
        assert find_blocks(model, model) == [*model.layers, model.embed_tokens]

    def test_layers_that_are_not_known_or_skipped(self):
        model = tiny_backbone("llama-chat").model
        model._no_split_modules = []
        with pytest.raises(InputError, match="LlamaModel does not say what its layers are"):
            find_blocks(model, model)
        model._no_split_modules = ["LlamaDecoderLayer"]
        model.config.layerdrop = 0.1
        with pytest.raises(InputError, match="skips layers at random"):
            find_blocks(model, model)
