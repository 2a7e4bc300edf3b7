"""Shard a backbone's weights over processes with FSDP2, and gather them to save."""

import sys
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from vrm_pyro.errors import InputError
from vrm_pyro.processes import is_main, num_processes


def shard_model(
    model: nn.Module, blocks: list[nn.Module], device: torch.device, low: bool
) -> None:
    """Shard a model's weights over all processes, in place.

    A forward pass gathers the weights of one block, computes, and frees them, so all processes
    must run the same number of passes. If only part of the model is trained (adapters), the
    trained parameters are not sharded; the caller averages their gradients.

    Args:
        model: The full model, equal in all processes.
        blocks: The layers, each gathered as one unit; none inside another.
        device: Device of this process.
        low: Whether blocks compute in bfloat16. Trained weights keep their dtype, and gradients
            are summed in float32.
    """
    # Imported here: FSDP takes a second to import, and few runs shard a backbone.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # Keep no reference to a sharded parameter: full weights are freed block by block.
    all_trained = all(value.requires_grad for value in model.parameters())
    adapters = set() if all_trained else {p for p in model.parameters() if p.requires_grad}
    policy = MixedPrecisionPolicy()
    if low and all_trained:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (num_processes(),)),
        # The outermost too: its gathered weights would stay after validation and become stale.
        "reshard_after_forward": True,
        "mp_policy": policy,
        "ignored_params": adapters,
    }
    for block in [*blocks, model]:
        fully_shard(block, **options)
    for value in adapters:
        value.data = value.data.to(device)


def find_blocks(model: nn.Module, named_by: Any) -> list[nn.Module]:
    """Return the layers of a transformers model, and its embeddings if outside the layers.

    Args:
        model: The model, with or without adapters.
        named_by: The transformers model, whose ``_no_split_modules`` names the layers.

    Raises:
        InputError: If the model names no layers, or uses LayerDrop.
    """
    kinds = set(getattr(named_by, "_no_split_modules", None) or ())
    blocks: list[nn.Module] = []
    inside: set[nn.Module] = set()
    for module in model.modules():  # outer ones first
        if module not in inside and type(module).__name__ in kinds:
            blocks.append(module)
            inside.update(module.modules())
    if not blocks:
        raise InputError(
            f"tuning.shard is true, but {type(named_by).__name__} does not say what its layers "
            "are. Set tuning.shard false."
        )
    for name in ("layerdrop", "encoder_layerdrop", "decoder_layerdrop"):
        if getattr(named_by.config, name, 0):
            raise InputError(
                f"tuning.shard is true, but the backbone skips layers at random ({name} in its "
                "config.json), each process other ones. Set that to 0, or tuning.shard false."
            )
    embeddings = named_by.get_input_embeddings()
    return blocks if embeddings in inside else [*blocks, embeddings]


def is_shard(value: Any) -> bool:
    """Return whether a value is this process's shard of a tensor."""
    tensors = sys.modules.get("torch.distributed.tensor")  # not imported: nothing is sharded
    return tensors is not None and isinstance(value, tensors.DTensor)


def sharded_names(module: nn.Module) -> list[str]:
    """Return the names of a module's sharded parameters."""
    return [name for name, value in module.named_parameters() if is_shard(value)]


def whole(value: Any) -> Any:
    """Return the full tensor of a shard; anything else unchanged.

    All processes have to call it.
    """
    return value.full_tensor() if is_shard(value) else value


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gather full tensors on the CPU of the main process; return none on other processes.

    All processes have to call it, with the same names in the same order. Each device holds one
    full tensor at a time.
    """
    kept = {}
    for name, value in state.items():
        together = whole(value.detach())
        if is_main():
            kept[name] = together.cpu()
    return kept


def whole_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Gather an optimizer's state as if weights were not sharded; see :func:`whole_state`."""
    state = optimizer.state_dict()
    kept = {}
    for index, entries in state["state"].items():
        together = {name: whole(value) for name, value in entries.items()}
        if is_main():
            kept[index] = {
                name: value.cpu() if isinstance(value, Tensor) else value
                for name, value in together.items()
            }
    return {**state, "state": kept}


def shard_like(value: Tensor, place: Any) -> Tensor:
    """Return this process's shard of a full tensor, sharded as ``place`` is.

    Args:
        value: The full tensor, equal in all processes, on any device.
        place: The tensor whose sharding is copied; if it is no shard, ``value`` is returned.
    """
    if not is_shard(place) or value.shape != place.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Nothing is sent: each process has the full tensor.
    return distribute_tensor(
        value.to(place.device), place.device_mesh, place.placements, src_data_rank=None
    )


def shard_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Shard the state of :func:`whole_optimizer` for this process's optimizer."""
    places = [value for group in optimizer.param_groups for value in group["params"]]
    cut = {
        index: {
            name: shard_like(value, places[index]) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    return {**state, "state": cut}
