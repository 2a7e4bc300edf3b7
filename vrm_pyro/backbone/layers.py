"""Cut a transformers model after one of its layers."""

import logging
from contextlib import suppress
from typing import Any

from torch import nn

from vrm_pyro.errors import InputError

log = logging.getLogger(__name__)


def default_layer(model: Any) -> int | None:
    """Return the layer at two thirds of a decoder's depth; None where none can be left out.

    The last layers of a language model turn towards the next token. What a text is like, and so
    what ratings and preferences say of it, is read better below them, at two thirds of the cost.
    """
    number = model.config.get_text_config().num_hidden_layers
    if len(_layer_lists(model, number)) != 1:
        log.info("%s does not keep its layers in one list: all are used", type(model).__name__)
        return None
    return max(1, round(number * 2 / 3))


def keep_layers(model: Any, layer: int | None, name: str) -> None:
    """Remove the layers of a model above one, in place; do nothing for None.

    What follows the last layer stays: in models that normalise the input of each layer, such as
    Llama, the final norm. So states of any layer have a like scale, and no token outweighs the
    others in a mean.

    Args:
        model: A base model of transformers, without adapters.
        layer: Number of layers to keep, from 1.
        name: What the user called the model.

    Raises:
        InputError: If the model has fewer layers, or does not keep them in one list.
    """
    if layer is None:
        return
    config = model.config.get_text_config()
    number = config.num_hidden_layers
    if not 1 <= layer <= number:
        raise InputError(
            f"backbone {name}: layer is {layer}, but it has {number} layers. Give a number from 1 "
            f"to {number}, or null for the last."
        )
    lists = _layer_lists(model, number)
    if len(lists) != 1:
        raise InputError(
            f"backbone {name}: layer is {layer}, but {type(model).__name__} does not keep its "
            "layers in one list, so none can be left out. Set layer to null."
        )
    del lists[0][layer:]
    config.num_hidden_layers = layer
    for key in ("layer_types", "attention_layers"):
        kinds = getattr(config, key, None)
        if kinds is not None and len(kinds) == number:
            with suppress(AttributeError):  # some follow from the number of layers alone
                setattr(config, key, kinds[:layer])
    if hasattr(config, "attention_layers"):  # of GPT-Neo, which reads them from attention_types
        config.attention_types = [[config.attention_layers, 1]]


def _layer_lists(model: nn.Module, number: int) -> list[nn.ModuleList]:
    return [m for m in _outermost(model, nn.ModuleList) if len(m) == number]


def _outermost(model: nn.Module, kind: type[nn.Module]) -> list[nn.ModuleList]:
    """Return the modules of a class that are in no other of that class."""
    found: list[nn.ModuleList] = []
    inside: set[nn.Module] = set()
    for module in model.modules():  # outer ones first
        if isinstance(module, kind) and module not in inside:
            found.append(module)  # type: ignore[arg-type]
            inside.update(module.modules())
    return found
