"""Trials with the folder of a run: its description, its weights and its other files."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
from helpers.tampering import Trial, Words, json_faults, rewritten
from safetensors.torch import load_file, save_file

_CERTIFY = ("--backbone_saw_these_labels", "no", "--draws", 20, "--steps", 2)
_REPORT = ("--draws", 100, "--khat_prompts", 2, "--psense_prompts", 0)
#: What each verb that reads a model takes beside --model, --data and --out.
VERBS: dict[str, tuple[object, ...]] = {
    "evaluate": (),
    "score": (),
    "posterior": ("--draws", 5),
    "certify": _CERTIFY,
    "report": _REPORT,
    "diagnose": ("--prompts", 2, "--draws", 100, "--only", "collapse"),
    "export": (),
    "explain": (),
}
_ENDING = {"posterior": ".nc", "report": ".html"}
# Of files for people: dates, counts, words.
_FREE = ("version", "settings.backbone", "settings.dtype", "settings.pooling", "settings.layer")
_NULLABLE = ("settings.recalibrate",)  # null asks for tensors, which are refused if missing


def copied(place: Path, folder: Path, name: str = "model") -> Path:
    """Return a copy of the workspace's run, without its states and draws."""
    leave = shutil.ignore_patterns("features", "*.nc")
    return shutil.copytree(place / name, folder / "model", ignore=leave)


def use(verb: str, model: Path, data: Path, folder: Path) -> Words:
    """Return the command line of a verb on a model and rows."""
    if verb == "explain":
        texts = ("--prompt", "one", "--response", "two", "--response", "three")
        return (verb, "--model", model, *texts)
    out = folder / f"out{_ENDING.get(verb, '')}"
    return (verb, "--model", model, "--data", data, "--out", out, *VERBS[verb])


def _with(verb: str, change: Callable[[Path], object]) -> Callable[[Path, Path], Words]:
    def build(place: Path, folder: Path) -> Words:
        model = copied(place, folder)
        change(model)
        return use(verb, model, place / "test.jsonl", folder)

    return build


def turns(count: int) -> list[str]:
    """Return verbs that read a model, in turn."""
    names = list(VERBS)
    return [names[i % len(names)] for i in range(count)]


def description_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with config.json of a run."""
    content = json.loads((place / "model" / "config.json").read_text(encoding="utf-8"))
    # An earlier version wrote fewer settings: one that is absent has its default.
    optional = [f"settings.{name}" for name in content["settings"]]
    optional += [
        f"settings.{name}.args.{key}"
        for name, value in content["settings"].items()
        if isinstance(value, dict)
        for key in value["args"]
    ]
    faults = json_faults(content, count, _FREE, [*optional, "version"], _NULLABLE)
    return [
        Trial(
            f"{verb}: config.json: {what}",
            _with(verb, rewritten("config.json", changed)),
            ("config.json", key),
        )
        for verb, (what, key, changed) in zip(turns(len(faults)), faults, strict=True)
    ]


def _tensor(name: str, spoil: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], object]:
    def change(model: Path) -> None:
        path = model / "model.safetensors"
        state = load_file(path)
        state[name] = spoil(state[name].clone()).contiguous()
        save_file(state, path, metadata={"format": "pt"})

    return change


def filled(value: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return a function that puts a value into the first place of a tensor."""

    def spoil(tensor: torch.Tensor) -> torch.Tensor:
        tensor.view(-1)[0] = value
        return tensor

    return spoil


SPOILS: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "nan": filled(float("nan")),
    "inf": filled(float("inf")),
    "whole numbers": lambda t: t.to(torch.int64),
    "longer": lambda t: torch.cat([t.view(-1), t.view(-1)]),
}


def weight_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with model.safetensors of a run."""
    state = load_file(place / "model" / "model.safetensors")
    names = [name for name, value in sorted(state.items()) if value.is_floating_point()]
    kinds = list(SPOILS)
    found = []
    for i, verb in enumerate(turns(count)):
        name, kind = names[(7 * i) % len(names)], kinds[(i // len(VERBS) + i) % len(kinds)]
        build = _with(verb, _tensor(name, SPOILS[kind]))
        found.append(Trial(f"{verb}: {name} {kind}", build, ("model.safetensors", name)))
    return found


FREE_METRICS = ("bins", "detail")


def metric_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with metrics.json of a run, which the card and the report show."""
    content = json.loads((place / "model" / "metrics.json").read_text(encoding="utf-8"))
    faults = json_faults(content, count, ("training.seconds",))
    return [
        Trial(
            f"{verb}: metrics.json: {what}",
            _with(verb, rewritten("metrics.json", changed)),
            ("metrics.json", key),
        )
        for verb, (what, key, changed) in zip(
            ("export", "report") * len(faults), faults, strict=False
        )
    ]


def finding_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with the file of diagnose that a report shows."""
    content = json.loads((place / "d.json").read_text(encoding="utf-8"))
    content["findings"] = content["findings"][:2]
    free = ("model", "level", "num_prompts", "num_prompts_of_costly", "draws", "seed", "alarms")
    needed = ("findings", "findings.name", "findings.verdict")
    optional = [f"findings.{name}" for name in content["findings"][0] if name not in needed]
    faults = json_faults(content, count, free, [n for n in optional if n not in needed])

    def build(text: str) -> Callable[[Path, Path], Words]:
        def made(place: Path, folder: Path) -> Words:
            (folder / "d.json").write_text(text, encoding="utf-8")
            command = use("report", place / "model", place / "test.jsonl", folder)
            return (*command, "--diagnose", folder / "d.json")

        return made

    return [
        Trial(f"report: d.json: {what}", build(json.dumps(changed)), ("d.json", key))
        for what, key, changed in faults
    ]
