"""Trials with posterior files and with exported models."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from helpers.tampered_models import SPOILS
from helpers.tampering import Trial, Words, json_faults
from safetensors.torch import load_file, save_file

from vrm_pyro.integrations.huggingface import VRMForSequenceClassification

Change = Callable[[dict[str, xr.Dataset]], object]


def _psense(change: Change) -> Callable[[Path, Path], Words]:
    def build(place: Path, folder: Path) -> Words:
        with xr.open_datatree(place / "p.nc", engine="netcdf4") as tree:
            groups = {name: node.to_dataset().load() for name, node in tree.children.items()}
        change(groups)
        path = folder / "p.nc"
        xr.DataTree.from_dict(groups).to_netcdf(path, engine="netcdf4")
        return ("psense", "--posterior", path, "--out", folder / "psense.json")

    return build


def _value(group: str, name: str, value: float) -> Change:
    def change(groups: dict[str, xr.Dataset]) -> None:
        held = groups[group]
        array = held[name].values.copy()
        array.reshape(-1)[3 % array.size] = value
        groups[group] = held.assign({name: (held[name].dims, array)})

    return change


def _cast(group: str, name: str, kind: str) -> Change:
    def change(groups: dict[str, xr.Dataset]) -> None:
        held = groups[group]
        groups[group] = held.assign({name: (held[name].dims, held[name].values.astype(kind))})

    return change


def _cut(group: str, name: str) -> Change:
    """Cut the last dimension of one array of a group, under another name."""

    def change(groups: dict[str, xr.Dataset]) -> None:
        held = groups[group]
        dims = (*held[name].dims[:-1], "other")
        groups[group] = held.drop_vars(name).assign({name: (dims, held[name].values[..., :-1])})

    return change


def _shorter(group: str, dim: str) -> Change:
    """Cut one dimension of a whole group."""

    def change(groups: dict[str, xr.Dataset]) -> None:
        groups[group] = groups[group].isel({dim: slice(0, -1)})

    return change


def _drop(group: str, name: str) -> Change:
    return lambda groups: groups.update({group: groups[group].drop_vars(name)})


_READ = {
    "posterior": ("w", "s", "r"),
    "log_prior": ("lp_w", "lp_z"),
    "sample_stats": ("log_weight", "lp_outcomes", "lp_ratings", "lp_preferences"),
}
_PLACES = ("response_prompt", "pair_first", "pair_second", "pair_prompt")


def posterior_trials(count: int) -> list[Trial]:
    """Return trials with a posterior file."""
    found: list[tuple[str, str, Change]] = []
    for group, names in _READ.items():
        for name in names:
            for value in (np.nan, np.inf):
                found.append((name, f"{value}", _value(group, name, value)))
            found.append((name, "dropped", _drop(group, name)))
            found.append((name, "texts", _cast(group, name, "str")))
            found.append((name, "cut", _cut(group, name)))
    found += [("w", "negative", _value("posterior", "w", -2.0))]
    found += [("w", "above 1", _value("posterior", "w", 7.0))]
    for name in _PLACES:
        found += [
            (name, str(value), _value("constant_data", name, value)) for value in (-1, 10**6)
        ]
        found.append((name, "floats", _cast("constant_data", name, "float64")))
        found.append((name, "cut", _cut("constant_data", name)))
    found.append(("response_prompt", "dropped", _drop("constant_data", "response_prompt")))
    for group, dim in (
        ("sample_stats", "draw"),
        ("sample_stats", "prompt"),
        ("log_prior", "draw"),
        ("log_prior", "prompt"),
        ("log_prior", "response"),
        ("posterior", "response"),
        ("constant_data", "response"),
        ("constant_data", "pair"),
    ):
        found.append((dim, f"of {group} shorter", _shorter(group, dim)))
    trials = [
        Trial(f"psense: {name} {what}", _psense(change), ("p.nc", name))
        for name, what, change in found
    ]
    for group in (*_READ, "constant_data"):
        build = _psense(lambda groups, g=group: groups.pop(g))
        trials.append(Trial(f"psense: no {group}", build, ("p.nc", group)))
    for what, data in (("empty", b""), ("text", b"text" * 99), ("cut", None)):
        trials.append(Trial(f"psense: {what}", _bytes(data), ("p.nc",)))
    return trials[:count]


def _bytes(data: bytes | None) -> Callable[[Path, Path], Words]:
    def build(place: Path, folder: Path) -> Words:
        held = (place / "p.nc").read_bytes()
        (folder / "p.nc").write_bytes(held[: len(held) // 2] if data is None else data)
        return ("psense", "--posterior", folder / "p.nc")

    return build


def export_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with config.json and weights of an exported model."""
    content = json.loads((place / "export" / "config.json").read_text(encoding="utf-8"))
    held = {name: content[name] for name in ("head", "reading", "self_test")}
    described = content["head"]["settings"]
    optional = [f"head.settings.{name}" for name in described]
    optional += [
        f"head.settings.{name}.args.{key}"
        for name, value in described.items()
        if isinstance(value, dict)
        for key in value["args"]
    ]
    free = (
        "head.version",
        *(f"head.settings.{n}" for n in ("backbone", "dtype", "pooling", "layer", "max_length")),
        "head.backbone",
    )
    faults = json_faults(held, count, free, optional)
    rest = {name: value for name, value in content.items() if name not in held}
    trials = [
        Trial(f"from_pretrained: {what}", _loading({**rest, **changed}), ("config.json", key))
        for what, key, changed in faults
    ]
    described_backbone = content["backbone"]["config"]
    for name, value in (
        ("adapter", 3),
        ("adapter", {"nosuch": 1}),
        ("empty_reward", "low"),
        ("empty_reward", float("inf")),
        ("without_boundary", 3),
        ("without_boundary", "perhaps"),
        ("backbone", None),
        ("backbone", {"config": 3}),
        ("backbone", {"config": {}}),
        ("backbone", {"config": {**described_backbone, "model_type": "nosuch"}}),
        ("backbone", {"config": {**described_backbone, "hidden_size": "wide"}}),
        ("backbone", {"config": {**described_backbone, "intermediate_size": 48}}),
    ):
        build = _loading({**content, name: value})
        trials.append(Trial(f"from_pretrained: {name} {str(value)[-30:]}", build, (name,)))
    for part in ("head.", "backbone."):
        for kind in ("nan", "inf"):
            trials.append(Trial(f"from_pretrained: {part} {kind}", _weights(part, kind), (part,)))
    return trials


def _loading(content: Any) -> Callable[[Path, Path], Callable[[], object]]:
    def build(place: Path, folder: Path) -> Callable[[], object]:
        export = shutil.copytree(place / "export", folder / "export")
        (export / "config.json").write_text(json.dumps(content), encoding="utf-8")
        return lambda: VRMForSequenceClassification.from_pretrained(export)

    return build


def _weights(part: str, kind: str) -> Callable[[Path, Path], Callable[[], object]]:
    def build(place: Path, folder: Path) -> Callable[[], object]:
        export = shutil.copytree(place / "export", folder / "export")
        path = export / "model.safetensors"
        state = load_file(path)
        name = min(n for n in state if n.startswith(part) and state[n].is_floating_point())
        state[name] = SPOILS[kind](state[name].clone()).contiguous()
        save_file(state, path, metadata={"format": "pt"})
        return lambda: VRMForSequenceClassification.from_pretrained(export)

    return build
