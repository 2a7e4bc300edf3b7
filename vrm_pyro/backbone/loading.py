"""Finding a backbone: a local folder or GGUF file, the hub or its cache, or a package's copy."""

import logging
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from huggingface_hub import HfApi, hf_hub_url, try_to_load_from_cache
from huggingface_hub.constants import is_offline_mode
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModel, AutoTokenizer
from transformers.utils import logging as transformers_logging

from vrm_pyro.backbone.devices import usable_device
from vrm_pyro.backbone.gguf import SUFFIX, load_gguf
from vrm_pyro.backbone.packaged import DEFAULT_BACKBONE, PACKAGED, file_sha256
from vrm_pyro.backbone.transformer import TransformerBackbone
from vrm_pyro.backbone.wrapping import wrap_model
from vrm_pyro.errors import InputError

UNLOADABLE = (
    *(OSError, ValueError, TypeError, KeyError, RuntimeError),
    *(SafetensorError, StrictDataclassError),
    # Damaged GGUF files only.
    *(struct.error, IndexError, MemoryError),
)
"""What transformers raises about files that are incomplete, damaged or contradictory."""

HUB_TIMEOUT = 5.0
"""Seconds to wait for the hub's first answer before other places are tried."""

log = logging.getLogger(__name__)


def load_backbone(
    name: str = DEFAULT_BACKBONE,
    *,
    pooling: str = "auto",
    layer: int | Literal["auto"] | None = "auto",
    max_length: int | None = None,
    dtype: str = "auto",
    device: str | torch.device = "auto",
    token_budget: int | None = None,
    adapter: Path | None = None,
) -> TransformerBackbone:
    """Load a frozen encoder or decoder of transformers.

    Tried in this order: ``name`` as a local folder or ``.gguf`` file; the hub's cache on this
    machine; the hub, after one quick request shows that it answers; and, for the default backbone
    and ``smollm2``, the copy that a Python package carries. No code that comes with a model is
    run.

    Args:
        name: A local folder or GGUF file, the id of a model on the hub, or ``smollm2``
            (SmolLM2-135M-Instruct).
        pooling: See :func:`~vrm_pyro.backbone.wrap_model`.
        layer: See :func:`~vrm_pyro.backbone.wrap_model`.
        max_length: See :func:`~vrm_pyro.backbone.wrap_model`.
        dtype: See :func:`~vrm_pyro.backbone.wrap_model`.
        device: See :func:`~vrm_pyro.backbone.wrap_model`.
        token_budget: See :func:`~vrm_pyro.backbone.wrap_model`.
        adapter: Folder of a low-rank adapter (peft) to put around it.

    Raises:
        InputError: If the model is not found or cannot be used.
    """
    device = usable_device(device)  # before anything is loaded
    model, tokenizer, source, file = _find(str(name), "float32" if dtype == "float32" else "auto")
    log.info("backbone %s: loaded from %s", name, source)
    backbone = wrap_model(
        model,
        tokenizer,
        name=str(name),
        source=source,
        pooling=pooling,
        layer=layer,
        max_length=max_length,
        dtype=dtype,
        device=device,
        token_budget=token_budget,
    )
    backbone.file_sha256 = file_sha256(file) if file else None
    if adapter is not None:
        _put_adapter(backbone, adapter)
    return backbone


def _put_adapter(backbone: TransformerBackbone, folder: Path) -> None:
    try:
        from peft import PeftModel
    except ImportError as error:
        raise InputError(
            f'{folder}: an adapter needs peft to be read: pip install "vrm-pyro[lora]".'
        ) from error
    try:
        with peft_calls():
            backbone.model = PeftModel.from_pretrained(backbone.model, str(folder))
        backbone.model.eval().to(backbone.device)
    except UNLOADABLE as error:
        raise InputError(
            f"{folder}: the adapter cannot be put on backbone {backbone.name}: "
            f"{' '.join(str(error).split())}"
        ) from error


Found = tuple[Any, Any, str, Path | None]
"""Model, tokenizer, where they came from in words, and the GGUF file that holds them."""


def _find(name: str, dtype: str) -> Found:
    try:
        path = Path(name).expanduser()
    except RuntimeError as error:  # ~nobody
        raise InputError(f"backbone {name}: {error}") from error
    if path.is_dir():
        if not (path / "config.json").is_file():
            raise InputError(
                f"backbone {name}: this folder has no config.json. Give a folder that "
                "save_pretrained wrote, with config.json, weights and tokenizer files; or a "
                ".gguf file."
            )
        return _load(path, name, dtype, f"local folder {path}")
    if path.is_file() and path.suffix.lower() == SUFFIX:
        return _load(path, name, dtype, f"local file {path}")
    local = name.startswith(("/", ".", "~")) or name.count("/") > 1 or path.exists()
    if local or path.suffix.lower() == SUFFIX:
        raise InputError(
            f"backbone {name}: there is no such folder. Give a folder that holds config.json, "
            "weights and tokenizer files, a .gguf file, or the id of a model on the hub."
        )
    packaged = PACKAGED.get(name)
    hub = name if packaged is None else packaged.hub
    try:
        cached = try_to_load_from_cache(hub, "config.json")
    except HFValidationError as error:
        raise InputError(
            f"backbone {name}: neither a local folder nor an id on the hub ({error})"
        ) from error
    if isinstance(cached, str):
        try:
            return _load(hub, name, dtype, "the hub's cache on this machine")
        except InputError as error:
            log.info("backbone %s: the hub's cache is not complete (%s)", name, error)
    problem = _hub_problem(hub)
    if problem is None:
        return _load(hub, name, dtype, "the hub", online=True)
    if packaged is not None:
        copy = packaged_folder(name)
        if copy is not None:
            return _load(copy, name, dtype, f"the package {packaged.package}")
        advice = f"Run {packaged.install}, which brings a copy of it, or give"
    else:
        advice = "Check the id, connect to the hub, set HF_HUB_CACHE to a filled cache, or give"
    raise InputError(
        f"backbone {name}: not on this machine, and {problem}. {advice} the path of a local "
        "folder with the model."
    )


def packaged_folder(name: str = DEFAULT_BACKBONE) -> Path | None:
    """Return the copy of a backbone that a package carries, or None if it is not installed.

    Args:
        name: A key of :data:`~vrm_pyro.backbone.packaged.PACKAGED`.

    Returns:
        A folder; for ``smollm2`` a GGUF file.

    Raises:
        InputError: If its files are not the original ones.
    """
    return PACKAGED[name].find()


def _hub_problem(name: str) -> str | None:
    """Return why the hub cannot give a model, or None when it can; takes seconds at most.

    transformers would retry an unreachable hub for about twenty seconds per file.
    """
    if is_offline_mode():
        return "HF_HUB_OFFLINE is set"
    try:
        url = hf_hub_url(name, "config.json")
        HfApi().get_hf_file_metadata(url=url, timeout=HUB_TIMEOUT)
    except HfHubHTTPError as error:
        # Gated, private and missing repositories: the first line says which.
        return f"the hub refused it ({str(error).strip().splitlines()[0]})"
    except Exception as error:  # noqa: BLE001 - the HTTP client's errors share no base over versions
        return f"the hub does not answer ({type(error).__name__}: {error})"
    return None


def _load(location: str | Path, name: str, dtype: str, source: str, online: bool = False) -> Found:
    file = location if isinstance(location, Path) and location.is_file() else None
    try:
        with quiet_transformers(not online):
            if file is None:
                model, tokenizer, report = _load_folder(str(location), name, dtype, not online)
            else:
                model, tokenizer, report = load_gguf(file, name)
    except InputError:
        raise
    except UNLOADABLE as error:
        needs = (
            "It needs config.json, weights (model.safetensors) and tokenizer files of one model."
            if file is None
            else "The file may be cut off or damaged: compare its size and SHA-256 with the "
            "original's."
        )
        raise InputError(
            f"backbone {name}: cannot be loaded from {location}: "
            f"{' '.join(str(error).split())} {needs}"
        ) from error
    missing = sorted(k for k in report["missing_keys"] if not k.startswith("pooler."))
    if missing:
        raise InputError(
            f"backbone {name}: the weights lack {len(missing)} of the model's tensors, such as "
            f"{missing[0]}; they would be random. The weights belong to another architecture "
            "than config.json says."
        )
    return model, tokenizer, source, file


def _load_folder(location: str, name: str, dtype: str, local: bool) -> tuple[Any, Any, Any]:
    """Return model, tokenizer and transformers' loading report."""
    options: dict[str, Any] = {"local_files_only": local, "trust_remote_code": False}
    config = AutoConfig.from_pretrained(location, **options)
    if getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"backbone {name}: {config.model_type} has an encoder and a decoder. Choose "
            "an encoder (such as BERT) or a decoder (such as Llama)."
        )
    tokenizer = AutoTokenizer.from_pretrained(location, **options)
    model, report = AutoModel.from_pretrained(
        location,
        dtype=torch.float32 if dtype == "float32" else "auto",
        output_loading_info=True,
        **options,
    )
    return model, tokenizer, report


@contextmanager
def peft_calls() -> Iterator[None]:
    """Silence a deprecation warning that peft 0.21 triggers in transformers 5."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*is_gradient_checkpointing.*", FutureWarning)
        yield


@contextmanager
def quiet_transformers(active: bool = True) -> Iterator[None]:
    """Keep transformers' loading bars and key reports off the terminal."""
    if not active:
        yield
        return
    verbosity, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
