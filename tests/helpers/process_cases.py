"""Trainings that one process and two processes have to agree on.

Run as a program, with RANK and WORLD_SIZE set: ``process_cases.py FOLDER CASE ...`` trains the
named cases and leaves what each process holds at the end in ``FOLDER/CASE-RANK.pt``.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import weakref
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pyro.distributions as dist
import torch
from helpers.configs import network_config
from helpers.sources import NumberSource
from helpers.tiny_backbones import text, tiny_backbone
from torch.distributed.fsdp import fully_shard
from transformers import TrainerCallback

from vrm_pyro.backbone.sharding import is_shard, whole
from vrm_pyro.data.rows import load_table
from vrm_pyro.errors import Terminated
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.processes import from_all, num_processes, process_index
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import Tuner, TuningConfig, read_texts
from vrm_pyro.training.train import train

BASELINE = network_config(
    architecture="bradley_terry", head_size=8, head_dropout=0.0, max_length=100, dtype="float32"
)

VRM = network_config(  # as BASELINE without dropout, so that what should be equal is
    weight_prior=ConditionalDirichletPrior(hidden_size=8),
    feature_prior=ConditionalNormalPrior(hidden_size=8),
    latent_dim=3,
)


def number_source(num_prompts, seed=0, ratings=False):
    """Return from one to four responses a prompt, and pairs where there are two or more."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(2, 5, num_prompts)
    owner = np.repeat(np.arange(num_prompts), counts)
    start = np.cumsum(counts) - counts
    first = np.concatenate([s + np.arange(c - 1) for s, c in zip(start, counts, strict=True)])
    responses = rng.normal(size=(len(owner), 5)).astype(np.float32)
    return NumberSource(
        prompts=rng.normal(size=(num_prompts, 5)).astype(np.float32),
        responses=responses,
        response_prompt=owner,
        pair_first=first,
        pair_second=first + 1,
        preference=(responses[first, 0] > responses[first + 1, 0]).astype(np.float64),
        pair_weight=np.ones(len(first)),
        ratings=rng.normal(size=(len(owner), 2)) if ratings else np.zeros((len(owner), 0)),
        objectives=("a", "b") if ratings else (),
    )


def arguments(folder, batch, accumulated=1, **settings):
    """Settings of a run whose steps take ``2 * batch * accumulated`` prompts."""
    sizes = {"per_device_train_batch_size": batch, "gradient_accumulation_steps": accumulated}
    if num_processes() == 1:  # what two processes take
        sizes["gradient_accumulation_steps"] *= 2
    values = {
        "output_dir": str(folder),
        "num_train_epochs": 3,
        # Of the 11 prompts one process has two batches, and the other one.
        "per_device_eval_batch_size": 4,
        "logging_steps": 1,
        "use_cpu": True,
        "disable_tqdm": True,
    }
    return TrainArguments(**(values | sizes | settings))


class Seen(TrainerCallback):
    """What the random state of this process is at the first step, and when to leave."""

    def __init__(self, stop_after=None):
        self.state, self.stop_after = None, stop_after

    def on_step_begin(self, args, state, control, **kwargs):
        if self.state is None:
            self.state = torch.get_rng_state()

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.stop_after:
            raise KeyboardInterrupt


class SignalOne(TrainerCallback):
    """Send SIGTERM to the last process alone, in its fourth step."""

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == 3 and process_index() == num_processes() - 1:
            signal.raise_signal(signal.SIGTERM)


@contextmanager
def fixed_draws():
    """Make each row of draws depend only on the parameters of that row."""
    draw = dist.Dirichlet.rsample, dist.Normal.rsample

    def weights(law, shape=()):
        offset = torch.linspace(0.5, 1.5, law.event_shape[0])
        w = law.concentration * offset
        return (w / w.sum(-1, keepdim=True)).expand(*shape, *law.batch_shape, -1)

    def features(law, shape=()):
        return (law.loc + 0.4 * law.scale).expand(*shape, *law.batch_shape)

    dist.Dirichlet.rsample, dist.Normal.rsample = weights, features
    try:
        yield
    finally:
        dist.Dirichlet.rsample, dist.Normal.rsample = draw


def held(result, seen, module_state=None):
    entries = result.log_history
    return {
        "losses": [e["loss"] for e in entries if "loss" in e],
        "evaluations": [
            {k: e[k] for k in e if "per_second" not in k and "runtime" not in k}
            for e in entries
            if "eval_log_loss" in e
        ],
        "state": dict(result.loaded.model.state_dict()) | (module_state or {}),
        "steps": result.metrics["steps"],
        "random": seen.state,
    }


def frozen(
    folder,
    config=BASELINE,
    num_prompts=23,
    ratings=False,
    stop_after=None,
    callbacks=(),
    **settings,
):
    seen = Seen(stop_after)
    sources = [number_source(n, s, ratings) for n, s in ((num_prompts, 1), (11, 2))]
    made = arguments(folder, **({"batch": 4} | settings))
    return held(train(config, made, *sources, callbacks=[seen, *callbacks]), seen)


def sampled(folder, **settings):
    with fixed_draws():
        return frozen(folder, replace(VRM, objective="sampled"), ratings=True, **settings)


def noisy(folder):
    """With draws as they come, other ones in each process."""
    return frozen(folder, VRM, ratings=True)


def uneven(folder, seed):
    """Sizes that leave processes with fewer prompts, or none, in the last step of an epoch."""
    rng = np.random.default_rng(seed)
    sizes = {"batch": int(rng.integers(1, 5)), "accumulated": int(rng.integers(1, 3))}
    count = int(rng.integers(1, 16)) * 2 - 1
    # Not Adam: it makes steps of rounding errors where a gradient is zero (the head's last bias).
    plain = {"optim": "sgd", "learning_rate": 0.1}
    return frozen(folder, num_prompts=count, num_train_epochs=2, **sizes, **plain)


def write_rows(path, num_prompts, seed):
    with open(path, "w") as file:
        for i in range(num_prompts):
            for k in range(1 + i % 3):
                row = {
                    "prompt": text(seed + i, 3 + i % 5),
                    "chosen": "good " + text(seed + 10 * i + k, 2 + i % 4),
                    "rejected": text(seed + 10 * i + k + 5000, 3 + k) + " bad",
                }
                file.write(json.dumps(row) + "\n")
    return str(path)


def tuned(folder, method, checkpointing=False, budget=0, **settings):
    """Backbone and head of a tiny Llama; the last step has prompts for one process alone."""
    rates = {"learning_rate": 1e-3, "dropout": 0.0}
    more = {name: settings.pop(name) for name in ("shard", "frozen_fraction") if name in settings}
    tuning = TuningConfig(method, rank=4, max_batch_tokens=budget, **rates, **more)
    backbone = tiny_backbone("llama-chat", max_length=100)
    tuner = Tuner(tuning, backbone)
    folder.mkdir(exist_ok=True)
    tables = [
        load_table(write_rows(folder / f"{name}-{process_index()}.jsonl", size, seed))
        for name, size, seed in (("train", 13, 0), ("validation", 5, 90_000))
    ]
    sources = [read_texts(table, backbone) for table in tables]
    seen = Seen(settings.pop("stop_after", None))
    values = {"num_train_epochs": 2, "activation_checkpointing": checkpointing}
    made = arguments(folder, 2, **({"max_grad_norm": 1e9} | values | settings))
    result = train(BASELINE, made, *sources, callbacks=[seen], tuner=tuner)
    parameters = dict(backbone.model.named_parameters())
    if tuner.shards:
        held_here = sum(p.to_local().numel() for p in parameters.values() if is_shard(p))
        assert 0 < held_here < 0.6 * sum(p.numel() for p in parameters.values() if is_shard(p))
    trained = {n: whole(p.detach()) for n, p in parameters.items() if p.requires_grad}
    return held(result, seen, {f"backbone.{n}": p for n, p in trained.items()})


def freeing_shard(block, **options):
    """As ``fully_shard``; what was whole must be gone when a block is done."""
    left = options["ignored_params"]
    parameters = [p for p in block.parameters() if not is_shard(p) and p not in left]
    whole_ones = [weakref.ref(value) for value in parameters]
    del parameters
    fully_shard(block, **options)
    assert whole_ones, block
    assert not any(value() is not None for value in whole_ones), block


def sharded(folder, method="full", **settings):
    """The backbone in shards; the norm of all gradients is clipped in every step."""
    sgd = {"optim": "sgd", "learning_rate": 0.1} if settings.get("budget") else {}
    with mock.patch("torch.distributed.fsdp.fully_shard", freeing_shard):
        return tuned(folder, method, True, shard=True, max_grad_norm=0.1, **sgd, **settings)


CASES = {
    "frozen": frozen,
    "sampled": sampled,
    "noisy": noisy,
    "lora": lambda folder: tuned(folder, "lora", checkpointing=True),
    "full": lambda folder: tuned(folder, "full"),
    "budget": lambda folder: tuned(folder, "full", budget=60),
    "sharded": sharded,
    "sharded-lora": lambda folder: sharded(folder, "lora", frozen_fraction=0.4),
    "sharded-budget": lambda folder: sharded(folder, budget=60),
    "sharded-later": lambda folder: sharded(folder, frozen_fraction=0.4),
    "sharded-low": lambda folder: sharded(folder, bf16=True),
    "sharded-cut": lambda folder: sharded(folder, stop_after=5),
    "sharded-stop": lambda folder: sharded(folder, stop_after=5),
    "sharded-resume": lambda folder: sharded(folder, resume_from_checkpoint="true"),
    "resume": lambda folder: frozen(folder, resume_from_checkpoint="true"),
    "cut": lambda folder: frozen(folder, stop_after=5),
    "signal": lambda folder: frozen(folder, callbacks=[SignalOne()]),
    **{f"uneven-{i}": lambda folder, i=i: uneven(folder, i) for i in range(20)},
}


def run_case(name, folder):
    """Train one case in this process; its last checkpoint where it stops before its end."""
    try:
        return CASES[name](Path(folder))
    except (Terminated, KeyboardInterrupt):
        return max(int(path.name.split("-")[1]) for path in Path(folder).glob("checkpoint-*"))


def start_pair(*command, **environment):
    """Start a program twice, as two processes that a launcher started."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    here = Path(__file__).parents[1]
    path = os.pathsep.join([str(here), str(here.parent), os.environ.get("PYTHONPATH", "")])
    common = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    common |= {"PYTHONPATH": path, "OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
    return [
        subprocess.Popen(
            [sys.executable, *map(str, command)],
            env=os.environ | common | {"RANK": str(i), "LOCAL_RANK": str(i)} | environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for i in range(2)
    ]


def end_pair(pair):
    """Return exit codes and what was said, in the order of the processes."""
    try:
        said = [process.communicate(timeout=240)[0] for process in pair]
    finally:
        for process in pair:
            process.kill()
            process.communicate()
    return [process.returncode for process in pair], said


def run_pair(folder, names):
    """Train cases on two processes; return what each of the two held."""
    codes, said = end_pair(start_pair(__file__, folder, *names))
    assert codes == [0, 0], "\n".join(said)
    return {
        name: [torch.load(Path(folder) / f"{name}-{i}.pt") for i in range(2)] for name in names
    }


if __name__ == "__main__":
    place = Path(sys.argv[1])
    for case in sys.argv[2:]:
        # "resume" goes on with what "cut" left.
        found = run_case(case, place / case.replace("resume", "cut"))
        torch.save(found, place / f"{case}-{process_index()}.pt")
        from_all(None)
