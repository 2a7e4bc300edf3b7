"""Rows, a tiny backbone and a trained model on disk, and the command line as a function."""

import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import NamedTuple

import numpy as np
from filelock import FileLock
from helpers.tiny_backbones import save_tiny_backbone, text

from vrm_pyro.cli import main

OBJECTIVES = ("clear", "safe")


class Run(NamedTuple):
    """What one command did."""

    code: int
    out: str
    err: str


def vrm_pyro(*arguments, warnings_are="error"):
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with warnings.catch_warnings():
        warnings.simplefilter(warnings_are)
        # As pytest's own settings: Pyro's annotations are reported by the type checker of tests.
        warnings.filterwarnings("ignore", module="beartype")
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            code = main([str(argument) for argument in arguments])
    return Run(code, out.getvalue(), err.getvalue())


def process(*arguments, **settings):
    """Run the command line in a separate process."""
    command = [sys.executable, "-m", "vrm_pyro.cli", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, **settings)
    return Run(done.returncode, done.stdout, done.stderr)


def succeed(*arguments, **settings):
    """Run the command line and return what it printed; it has to succeed."""
    run = vrm_pyro(*arguments, **settings)
    assert run.code == 0, run.err
    return run


def rows(num_prompts=24, seed=0, ratings=True):
    """Return three pairs a prompt over three responses; labels follow one objective a prompt."""
    rng = np.random.default_rng(seed)
    made = []
    for i in range(num_prompts):
        texts = [text(10_000 * seed + 100 * i + j, 4 + 3 * j) for j in range(3)]
        scores = rng.normal(3.0, 1.0, (3, 2)).round(2)
        for first, second in ((0, 1), (1, 2), (2, 0)):
            if scores[first, i % 2] < scores[second, i % 2]:
                first, second = second, first
            row = {
                "prompt": text(10_000 * seed + 100 * i + 99, 5 + i % 3),
                "chosen": texts[first],
                "rejected": texts[second],
                "id": f"{seed}-{i}-{first}{second}",
                "subset": f"kind {i % 2}",
            }
            if ratings:
                row["chosen_ratings"] = dict(zip(OBJECTIVES, scores[first], strict=True))
                row["rejected_ratings"] = dict(zip(OBJECTIVES, scores[second], strict=True))
            made.append(row)
    return made


def write_rows(path, made):
    """Write rows as JSON lines."""
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in made), encoding="utf-8")
    return path


def lines(path):
    """Read JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def options(place, **settings):
    """Return options of ``train`` for a quick run in a workspace."""
    values = {
        "model.backbone": place / "bert",
        "model.max_length": 60,
        "model.dtype": "float32",  # in bfloat16 a state depends on its batch
        "model.recalibrate": "false",  # takes longer than the training
        "data.train": place / "train.jsonl",
        "data.validation": place / "validation.jsonl",
        "train.num_train_epochs": 2,
        "train.per_device_train_batch_size": 8,
        "train.use_cpu": "true",
        **{name.replace("__", "."): value for name, value in settings.items()},
    }
    return [part for k, v in values.items() if v is not None for part in (f"--{k}", str(v))]


def store_options(place, max_length=60):
    """Return the options of ``features`` for states as the model of a workspace knows them."""
    settings = ("--model.max_length", max_length, "--model.dtype", "float32")
    return ("--model.backbone", place / "bert", *settings)


def make_workspace(folder):
    """Write rows, a backbone, a store and a trained model into a folder."""
    folder.mkdir(exist_ok=True)
    save_tiny_backbone(folder / "bert")
    write_rows(folder / "train.jsonl", rows(24, seed=0))
    write_rows(folder / "validation.jsonl", rows(8, seed=1))
    write_rows(folder / "test.jsonl", rows(8, seed=2))
    settings = {
        "model.objective": "pairwise",
        "model.hyperprior_weight": 0.001,
        "model.rating_power": 1,
        "model.rating_likelihood.init_args.scale": 0.5,
        "model.rating_likelihood.init_args.learn_scale": "true",
        "model.weight_prior.init_args.hidden_size": 64,
        "model.feature_prior.init_args.dropout": 0.7,
    }
    networks = ("--config", "networks", *options(folder, **settings))
    succeed("train", *networks, "--train.output_dir", folder / "model")
    data = ("--data", folder / "train.jsonl", "--out", folder / "store")
    succeed("features", *data, *store_options(folder))
    return folder


def make_baseline(place, folder):
    """Train a Bradley-Terry model on the rows of a workspace."""
    settings = options(place, train__num_train_epochs=1)
    succeed("train", "--config", "bradley_terry", *settings, "--train.output_dir", folder)


def shared_by_workers(tmp_path_factory, name, make):
    """Return a folder that the first of the processes that share the tests makes for all.

    Tests only read it: one that writes makes a copy.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / name, base / f"{name}.done"
    with FileLock(base / f"{name}.lock"):
        if not done.exists():
            # What a maker that failed has left would be in the way of the next one.
            shutil.rmtree(folder, ignore_errors=True)
            make(folder)
            done.touch()
    return folder


def everything(folder):
    """Return each file below a folder with its bytes, hidden ones too."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }
