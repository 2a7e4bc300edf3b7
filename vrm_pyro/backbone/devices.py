"""Whether a device can be computed on."""

import torch

from vrm_pyro.errors import InputError


def usable_device(device: str | torch.device) -> torch.device:
    """Return a device by its name; ``auto`` is the GPU when there is one.

    >>> usable_device("cpu")
    device(type='cpu')
    >>> usable_device("abacus")
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: --device abacus: ...

    Raises:
        InputError: If there is no such device, or this torch cannot compute there.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).item()  # each kind of device fails in its own way
    except Exception as error:
        raise InputError(
            f"--device {device}: {str(error).splitlines()[0]} Give auto, cpu, or a GPU such as "
            "cuda."
        ) from error
    return found
