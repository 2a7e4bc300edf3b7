"""Weights cut into one shard for each process (FSDP2), and put together again to be kept."""

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
    """Leave to each process its shard of a model's weights, on its device, in place.

    A forward pass then puts the weights of one block together, computes, and lets them go again:
    all processes have to run as many passes as each other. What is trained of a model that is
    frozen elsewhere (adapters) stays whole: its gradients are those of any whole parameter, for
    whoever averages these.

    Args:
        model: The model, whole and equal in all processes.
        blocks: Its layers, each a unit of what is put together; none inside another.
        device: Where this process computes.
        low: Whether blocks compute in bfloat16; weights that are trained stay as they are, and
            gradients are summed in float32.
    """
    # Here, not above: FSDP takes a second to import, and few runs shard a backbone.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

    # No name may hold on to a parameter that is sharded: block by block, what is whole is freed.
    all_trained = all(value.requires_grad for value in model.parameters())
    adapters = set() if all_trained else {p for p in model.parameters() if p.requires_grad}
    policy = MixedPrecisionPolicy()
    if low and all_trained:
        policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (num_processes(),)),
        # Also the outermost: after validation its weights would stay, as they were before a step.
        "reshard_after_forward": True,
        "mp_policy": policy,
        "ignored_params": adapters,
    }
    for block in [*blocks, model]:
        fully_shard(block, **options)
    for value in adapters:
        value.data = value.data.to(device)


def find_blocks(model: nn.Module, named_by: Any) -> list[nn.Module]:
    """Return the layers of a model of transformers, and its embeddings where they stand apart.

    Args:
        model: The model, perhaps with adapters around it.
        named_by: The model of transformers, which says which modules should not be split.

    Raises:
        InputError: If it does not say, or skips layers at random.
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
    """Return whether a tensor is this process's shard of one."""
    tensors = sys.modules.get("torch.distributed.tensor")  # without it nothing was cut
    return tensors is not None and isinstance(value, tensors.DTensor)


def sharded_names(module: nn.Module) -> list[str]:
    """Return the names of a module's parameters that are shards."""
    return [name for name, value in module.named_parameters() if is_shard(value)]


def whole(value: Any) -> Any:
    """Return a tensor put together from its shards, anything else as it is.

    All processes have to call it.
    """
    return value.full_tensor() if is_shard(value) else value


def whole_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors put together on the CPU of the main process, and none elsewhere.

    All processes have to call it, with the same names in the same order. One tensor at a time is
    whole on each device.
    """
    kept = {}
    for name, value in state.items():
        together = whole(value.detach())
        if is_main():
            kept[name] = together.cpu()
    return kept


def whole_optimizer(optimizer: Optimizer) -> dict[str, Any]:
    """Return an optimizer's state as it would be with whole weights; see :func:`whole_state`."""
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
    """Return this process's shard of a whole tensor, where ``place`` is a shard.

    Args:
        value: The whole tensor, the same in all processes, on any device.
        place: The tensor whose shard is wanted.
    """
    if not is_shard(place) or value.shape != place.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    # Nothing is sent: each process has the whole one.
    return distribute_tensor(
        value.to(place.device), place.device_mesh, place.placements, src_data_rank=None
    )


def shard_optimizer(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """Return the state of :func:`whole_optimizer` as this process's optimizer takes it."""
    places = [value for group in optimizer.param_groups for value in group["params"]]
    cut = {
        index: {
            name: shard_like(value, places[index]) if isinstance(value, Tensor) else value
            for name, value in entries.items()
        }
        for index, entries in state["state"].items()
    }
    return {**state, "state": cut}
