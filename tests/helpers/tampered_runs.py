"""Trials with what a stopped run left, a search, score parts and files of settings."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import yaml
from helpers.tampered_models import SPOILS, use
from helpers.tampering import Trial, Words, json_faults, rewritten
from helpers.workspace import options
from safetensors.torch import load_file, save_file

CHECKPOINT = "checkpoint-3"
Change = Callable[[Path], object]


def _resumed(change: Change, seal: bool = True) -> Callable[[Path, Path], Words]:
    """Resume a run that was stopped in the middle, with a checkpoint that was changed.

    Args:
        change: Changes the folder of the checkpoint.
        seal: Whether the manifest is written again, so that the change is not seen there.
    """

    def build(place: Path, folder: Path) -> Words:
        leave = shutil.ignore_patterns("checkpoint-6", "*.nc", "config.json")
        run = shutil.copytree(place / "model", folder / "run", ignore=leave)
        change(run / CHECKPOINT)
        if seal:
            _seal(run / CHECKPOINT)
        settings = ("--train.output_dir", run, "--train.resume_from_checkpoint", run / CHECKPOINT)
        # Where the run was trained: the workspace may be a copy.
        held = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        return ("train", *options(Path(held["data"]["train"]).parent), *settings)

    return build


def _seal(checkpoint: Path) -> None:
    path = checkpoint / "manifest.json"
    manifest = json.loads(path.read_text())
    for name, facts in manifest["files"].items():
        held = (checkpoint / name).read_bytes() if (checkpoint / name).is_file() else b""
        facts |= {"size": len(held), "sha256": hashlib.sha256(held).hexdigest()}
    path.write_text(json.dumps(manifest))


def manifest_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with the manifest of a checkpoint."""
    content = json.loads((place / "model" / CHECKPOINT / "manifest.json").read_text())
    faults = json_faults(content, count)
    return [
        Trial(
            f"train: manifest.json: {what}",
            _resumed(rewritten("manifest.json", changed), seal=False),
            (CHECKPOINT, "manifest.json"),
        )
        for what, _, changed in faults
    ]


def state_trials(place: Path, count: int) -> list[Trial]:
    """Return trials with the trainer's state of a checkpoint."""
    content = json.loads((place / "model" / CHECKPOINT / "trainer_state.json").read_text())
    faults = json_faults(
        content,
        count,
        free=("trial_name", "trial_params", "stateful_callbacks.TrainerControl.args"),
        optional=(
            *content,
            "log_history.accuracy",
            *(f"log_history.{n}" for n in _logged(content)),
        ),
    )
    # What was logged may be anything that a number can be.
    faults = [(what, key, changed) for what, key, changed in faults if not _is_number(what)]
    return [
        Trial(
            f"train: trainer_state.json: {what}",
            _resumed(rewritten("trainer_state.json", changed)),
            ("trainer_state.json", key),
        )
        for what, key, changed in faults
    ]


def _is_number(what: str) -> bool:
    if what.endswith("_steps 1.5"):  # a share of the steps
        return True
    return what.startswith("log_history.") and what.endswith((" NaN", " Infinity", " 1.5", " -7"))


def _logged(content: Any) -> set[str]:
    return {name for entry in content["log_history"] for name in entry}


def _loaded(name: str, change: Callable[[Any], Any]) -> Change:
    def apply(checkpoint: Path) -> None:
        path = checkpoint / name
        held = torch.load(path, weights_only=False)
        torch.save(change(held), path)

    return apply


def _in(*keys: Any, value: Any) -> Callable[[Any], Any]:
    def change(held: Any) -> Any:
        inner = held
        for key in keys[:-1]:
            inner = inner[key]
        inner[keys[-1]] = value
        return held

    return change


def _without(*keys: Any) -> Callable[[Any], Any]:
    def change(held: Any) -> Any:
        inner = held
        for key in keys[:-1]:
            inner = inner[key]
        del inner[keys[-1]]
        return held

    return change


class _Program:
    """What a pickle must not run."""

    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("ran",)


OPTIMIZER: dict[str, Callable[[Any], Any]] = {
    "moment of another shape": _in("state", 0, "exp_avg", value=torch.zeros(3)),
    "second moment of another shape": _in("state", 1, "exp_avg_sq", value=torch.zeros(2, 2)),
    "moment of whole numbers": _in(
        "state", 0, "exp_avg", value=torch.zeros(2, 2, dtype=torch.int64)
    ),
    "moment that is a text": _in("state", 0, "exp_avg", value="much"),
    "moment that is a number": _in("state", 2, "exp_avg_sq", value=1.0),
    "nan": lambda held: _fill(held, float("nan")),
    "negative second moment": lambda held: _fill(held, -1.0, "exp_avg_sq"),
    "step of another shape": _in("state", 0, "step", value=torch.zeros(4)),
    "step that is a text": _in("state", 0, "step", value="three"),
    "step of nan": _in("state", 0, "step", value=torch.tensor(float("nan"))),
    "no moment": _without("state", 0, "exp_avg"),
    "no state": _without("state"),
    "no groups": _without("param_groups"),
    "groups that are none": _in("param_groups", value="group"),
    "more groups": lambda held: {**held, "param_groups": held["param_groups"] * 2},
    "fewer parameters": _in("param_groups", 0, "params", value=[0, 1]),
    "parameters that repeat": _in("param_groups", 0, "params", value=[0] * 12),
    "rate that is a text": _in("param_groups", 0, "lr", value="fast"),
    "rate of nan": _in("param_groups", 0, "lr", value=float("nan")),
    "betas of another kind": _in("param_groups", 0, "betas", value=(5.0, "x")),
    "a list": lambda held: [held],
    "a tensor": lambda held: torch.zeros(3),
    "a program": lambda held: _Program(),
}
SCHEDULER: dict[str, Callable[[Any], Any]] = {
    "epoch that is a text": _in("last_epoch", value="three"),
    "negative epoch": _in("last_epoch", value=-9),
    "rates of another number": _in("base_lrs", value=[0.1, 0.2]),
    "rates that are texts": _in("base_lrs", value=["fast"]),
    "rates of nan": _in("base_lrs", value=[float("nan")]),
    "no epoch": _without("last_epoch"),
    "no rates": _without("base_lrs"),
    "lambdas that are none": _in("lr_lambdas", value=3),
    "something more": _in("optimizer", value="mine"),
    "a method": _in("get_lr", value="mine"),
    "a list": lambda held: [held],
    "a program": lambda held: _Program(),
}
RANDOM: dict[str, Callable[[Any], Any]] = {
    "no python": _without("python"),
    "no numpy": _without("numpy"),
    "no cpu": _without("cpu"),
    "cpu of another length": _in("cpu", value=torch.zeros(5, dtype=torch.uint8)),
    "cpu of another type": _in("cpu", value=torch.zeros(5056)),
    "cpu that is a text": _in("cpu", value="random"),
    "python of another length": _in("python", value=(3, (1, 2), None)),
    "python that is a text": _in("python", value="random"),
    "numpy that is a text": _in("numpy", value="random"),
    "numpy of another kind": _in("numpy", value=("PCG64", [1, 2], 3, 0, 0.0)),
    "a list": lambda held: [held],
    "a program": lambda held: _Program(),
}


def _fill(held: Any, value: float, key: str = "exp_avg") -> Any:
    held["state"][0][key].view(-1)[0] = value
    return held


def _weights(kind: str) -> Change:
    def change(checkpoint: Path) -> None:
        path = checkpoint / "model.safetensors"
        state = load_file(path)
        name = max(state, key=lambda n: state[n].is_floating_point() and state[n].numel())
        state[name] = SPOILS[kind](state[name].clone()).contiguous()
        save_file(state, path, metadata={"format": "pt"})

    return change


def checkpoint_trials() -> list[Trial]:
    """Return trials with the tensors of a checkpoint."""
    found = []
    for name, table in (
        ("optimizer.pt", OPTIMIZER),
        ("scheduler.pt", SCHEDULER),
        ("rng_state.pth", RANDOM),
    ):
        for what, change in table.items():
            build = _resumed(_loaded(name, change))
            found.append(Trial(f"train: {name}: {what}", build, (name,)))
        for what, data in (("empty", b""), ("no torch file", b"text" * 99)):
            build = _resumed(lambda c, n=name, d=data: (c / n).write_bytes(d))
            found.append(Trial(f"train: {name}: {what}", build, (name,)))
    for kind in SPOILS:
        build = _resumed(_weights(kind))
        found.append(Trial(f"train: model.safetensors: {kind}", build, ("model.safetensors",)))
    return found


# Texts of the settings of a run, and what the message names beside the file.
SETTINGS: tuple[tuple[str, str], ...] = (
    ("", "config.yaml"),
    ("- a\n- b\n", "config.yaml"),
    ("model: [1, 2\n", "config.yaml"),
    ("model: 3\n", "model"),
    ("data: words\n", "data"),
    ("train: [1]\n", "train"),
    ("model:\n  weight_prior:\n    class_path: evil.Prior\n", "evil.Prior"),
    ("model:\n  weight_prior: evil.Prior\n", "evil.Prior"),
    ("model:\n  guide:\n    class_path: evil.Guide\n    init_args: {a: 1}\n", "evil.Guide"),
    ("model:\n  likelihood:\n    class_path: os.system\n", "os.system"),
    ("model: !!python/object/apply:os.system ['true']\n", "config.yaml"),
    ("a: &a [x, *a]\nmodel: *a\n", "config.yaml"),
    ("model: " + "[" * 5000 + "\n", "config.yaml"),
    ("model: " + "{a: " * 3000 + "1\n", "config.yaml"),
    (
        "a: &a [1,1,1,1,1,1,1,1,1]\n"
        + "".join(
            f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n"
            for i in range(9)
        )
        + "model: *j\n",
        "config.yaml",
    ),
    ("model:\n  latent_dim: many\n", "latent_dim"),
    ("model:\n  colour: blue\n", "colour"),
    ("colour: blue\n", "colour"),
    ("model:\n  latent_dim: 99999\n", "latent_dim"),
    ("train:\n  learning_rate: .nan\n", "learning_rate"),
    ("data:\n  train: [1, 2]\n", "data.train"),
)
_RUNS = "evil.py"


def settings_trials() -> list[Trial]:
    """Return trials with config.yaml in the folder of a run that is resumed, and with --config."""
    found = []
    for i, (text, named) in enumerate(SETTINGS):

        def held(place: Path, folder: Path, text: str = text) -> Words:
            leave = shutil.ignore_patterns("checkpoint-6", "*.nc", "config.json")
            run = shutil.copytree(place / "model", folder / "run", ignore=leave)
            (run / "config.yaml").write_text(text)
            return (
                "train",
                "--train.output_dir",
                run,
                "--train.resume_from_checkpoint",
                "true",
                "--train.use_cpu",
                "true",
            )

        def given(place: Path, folder: Path, text: str = text, verb: str = "train") -> Words:
            (folder / "config.yaml").write_text(text)
            out = ("--train.output_dir", folder / "run")
            return ("train", "--config", folder / "config.yaml", *options(place), *out)

        found.append(Trial(f"train: settings of a run {i}", held, ("config.yaml", named)))
        if "99999" in text or ".nan" in text or "[1, 2]" in text:
            continue  # options win over a file
        found.append(Trial(f"train: --config {i}", given, ("config.yaml",)))
    return found


def part_trials(count: int) -> list[Trial]:
    """Return trials with the parts of a score file that are merged."""
    content = {"format": "vrm-pyro score parts 1", "key": {"rows": "0" * 64, "shard_rows": 5}}
    texts = [json.dumps(changed) for _, _, changed in json_faults(content, count)]
    texts += ["", "[", "[]", "null", "[" * 9000, '{"format": 1}']

    def build(place: Path, folder: Path, text: str) -> Words:
        parts = folder / "out.parts"
        parts.mkdir()
        (parts / "score.json").write_text(text)
        command = use("score", place / "model", place / "test.jsonl", folder)
        return (*command, "--num_shards", 2, "--merge")

    return [
        Trial(
            f"score: score.json {text[:40]}", lambda p, f, t=text: build(p, f, t), ("out.parts",)
        )
        for text in texts
    ]
