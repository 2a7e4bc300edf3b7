"""Backbones from GGUF files: weights as float32, tokenizer and chat template from the file."""

import importlib
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import pre_tokenizers
from transformers import (
    AutoConfig,
    AutoModel,
    GgufConfig,
    PreTrainedTokenizerFast,
    modeling_gguf_pytorch_utils,
)
from transformers.integrations.gguf import read_gguf_metadata
from transformers.integrations.gguf.gguf_tokenizer_mapping import GGUF_PRE_TOKENIZER_SPLITS

from vrm_pyro.errors import InputError

SUFFIX = ".gguf"


def load_gguf(path: Path, name: str) -> tuple[Any, Any, dict[str, Any]]:
    """Return model, tokenizer and transformers' loading report of a GGUF file.

    Weights are float32 whatever the precision of the backbone: so they have one hash.

    Args:
        path: The file.
        name: What the user called it.

    Raises:
        InputError: If the package ``gguf`` is missing, or the file has no architecture.
    """
    try:
        import gguf  # noqa: F401 - optional; transformers imports it too
    except ImportError as error:
        raise InputError(
            f'backbone {name}: a GGUF file needs gguf to be read: pip install "vrm-pyro[gguf]".'
        ) from error
    place: dict[str, Any] = {
        "pretrained_model_name_or_path": str(path.parent),
        "gguf_file": path.name,
    }
    metadata, _ = read_gguf_metadata(str(path))
    with _fast_reader():
        config = AutoConfig.from_pretrained(**place)
        # Not AutoTokenizer: it would read the configuration again.
        tokenizer = PreTrainedTokenizerFast.from_pretrained(**place)
        model, report = AutoModel.from_pretrained(
            **place,
            config=config,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            output_loading_info=True,
        )
    _split_texts(tokenizer, metadata, name)
    limit = getattr(config.get_text_config(), "max_position_embeddings", None)
    tokenizer.model_max_length = limit or tokenizer.model_max_length
    _forget_file(model)
    return model, tokenizer, report


def _forget_file(model: Any) -> None:
    """Remove the marks of a quantized model: its weights are plain numbers now.

    And the folder's name: others, such as peft, would look for a config.json there.
    """
    model.config.name_or_path = model.name_or_path = ""
    model.is_quantized = False
    model.hf_quantizer = None
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config


def _split_texts(tokenizer: Any, metadata: dict[str, Any], name: str) -> None:
    """Split texts before merges as the file's ``tokenizer.ggml.pre`` says.

    transformers knows most names; it splits all others as GPT-2 does.
    """
    kind = metadata.get("tokenizer.ggml.pre", "default")
    if metadata.get("tokenizer.ggml.model") != "gpt2" or kind in GGUF_PRE_TOKENIZER_SPLITS:
        return
    if kind == "smollm":
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=True),
                pre_tokenizers.ByteLevel(add_prefix_space=False),
            ]
        )
    elif kind not in ("default", "gpt-2"):
        warnings.warn(
            f"backbone {name}: its rule for splitting texts, {kind!r}, is not known here; texts "
            "are split as GPT-2 does, so some tokens may differ from those it was trained on. "
            "Prefer a folder with the original tokenizer.json.",
            UserWarning,
            stacklevel=2,
        )


@contextmanager
def _fast_reader() -> Iterator[None]:
    """Let transformers read a file's fields once, three times as fast, and without a bar.

    It makes several readers of one file, each of which slices a memory map some hundred thousand
    times; slices of an ordinary array over the same memory are cheaper.
    """
    gguf: Any = importlib.import_module("gguf")
    original, bar = gguf.GGUFReader, modeling_gguf_pytorch_utils.tqdm

    class Reader(original):  # type: ignore[misc, valid-type]
        @property
        def data(self) -> Any:
            return self._data

        @data.setter
        def data(self, value: Any) -> None:
            self._data = np.asarray(value)

    gguf.GGUFReader = cache(Reader)
    modeling_gguf_pytorch_utils.tqdm = partial(bar, disable=True)
    try:
        yield
    finally:
        gguf.GGUFReader = original
        modeling_gguf_pytorch_utils.tqdm = bar
