"""Compare training and scoring with a decoder to TRL, whole sequences and transformers' pipeline.

The decoder is a random Llama with about 30M parameters, fully fine-tuned in float32 on the CPU.
Texts are random words. Both sides get the same tokens in the same batches.

``train``: seconds per step and peak memory of ``vrm-pyro`` and of TRL's RewardTrainer (activation
checkpointing off in both), with one pair per prompt, at two ratios of prompt to response length.
``head``: a step with the VRM head and one with the Bradley-Terry head on the same backbone and
batch, alternating in one process, and the time of the heads alone.
``score``: 16 responses per prompt, with the prompt computed once and with whole sequences.
``pipeline``: single responses of mixed length, against transformers' text-classification pipeline.

``train`` starts a new process for each side, alternating, and forms a ratio per repetition. The
other comparisons alternate within one process.

    python benchmarks/decoder_throughput.py --out decoder_throughput.json
"""

import argparse
import inspect
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from emit import emit, spread
from networks import network_config
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor
from transformers import (
    LlamaConfig,
    LlamaForSequenceClassification,
    LlamaModel,
    PreTrainedTokenizerFast,
    TrainerCallback,
    pipeline,
)

from vrm_pyro.backbone import TransformerBackbone, wrap_model
from vrm_pyro.data.dataset import collate
from vrm_pyro.data.rows import PreferenceTable, load_table
from vrm_pyro.models.checkpoint import LoadedModel
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import TextModule, Tuner, TuningConfig, read_texts
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.train import train

VOCABULARY = 8000
SPECIAL = ("<pad>", "<|im_start|>", "<|im_end|>", "<unk>")
TEMPLATE = (
    "{% for m in messages %}<|im_start|> {{ m['role'] }} {{ m['content'] }} <|im_end|> "
    "{% endfor %}{% if add_generation_prompt %}<|im_start|> assistant {% endif %}"
)
RATIOS = {"1:4": (64, 256), "4:1": (256, 64)}  # tokens of prompt and response
PROMPTS_A_STEP = 8
SKIPPED_STEPS = 2
SIDES = ("vrm", "trl")
# Columns of a batch for the backbone; the rest is for the heads.
TEXT_INPUTS = set(inspect.signature(TextModule.forward).parameters) - {"self", "labels"}


def tokenizer() -> PreTrainedTokenizerFast:
    """Return a tokenizer with one token per word."""
    words = [*SPECIAL, "user", "assistant", *(f"w{i}" for i in range(VOCABULARY - 6))]
    backend = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=backend,
        pad_token="<pad>",
        eos_token="<|im_end|>",
        unk_token="<unk>",
        chat_template=TEMPLATE,
        model_max_length=4096,
    )


def llama(**settings: Any) -> LlamaConfig:
    """Return the configuration of the decoder, with changes."""
    usual = {
        "vocab_size": VOCABULARY,
        "hidden_size": 512,
        "intermediate_size": 1408,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "max_position_embeddings": 4096,
        "pad_token_id": 0,
    }
    return LlamaConfig(**(usual | settings))


def new_backbone(**settings: Any) -> TransformerBackbone:
    """Return the decoder with random weights and a changed configuration."""
    torch.manual_seed(0)
    return wrap_model(
        LlamaModel(llama(**settings)), tokenizer(), name="random-llama", source="random weights",
        max_length=2048, dtype="float32", device="cpu",
    )  # fmt: skip


def words(count: int, generator: np.random.Generator) -> str:
    """Return a text with a given number of tokens."""
    return " ".join(f"w{i}" for i in generator.integers(VOCABULARY - 6, size=count))


def write_pairs(path: Path, num_pairs: int, sizes: tuple[int, int], seed: int) -> str:
    """Write comparisons of random words; lengths vary by a quarter."""
    generator = np.random.default_rng(seed)
    with path.open("w") as file:
        for _ in range(num_pairs):
            prompt, chosen, rejected = (
                words(int(size * generator.uniform(0.75, 1.25)), generator)
                for size in (sizes[0], sizes[1], sizes[1])
            )
            row = {"prompt": prompt, "chosen": chosen, "rejected": rejected}
            file.write(json.dumps(row) + "\n")
    return str(path)


class StepTimes(TrainerCallback):
    """Record the end time of each step."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note the time."""
        self.ends.append(time.perf_counter())


def work(side: str, ratio: str, steps: int, seed: int) -> dict[str, Any]:
    """Train on one side in this process; return seconds of each step and peak memory."""
    times = StepTimes()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = PROMPTS_A_STEP * steps
        rows = load_table(write_pairs(folder / "train.jsonl", size, RATIOS[ratio], seed))
        common = {
            "output_dir": str(folder / "run"),
            "max_steps": steps,
            "per_device_train_batch_size": PROMPTS_A_STEP,
            "learning_rate": 1e-5,
            "use_cpu": True,
            "disable_tqdm": True,
            "report_to": "none",
            "save_strategy": "no",
            "eval_strategy": "no",
            "logging_steps": 10_000,
        }
        if side == "trl":
            _train_trl(rows, common, times)
        else:
            backbone = new_backbone()
            tuner = Tuner(TuningConfig("full"), backbone)
            few = load_table(write_pairs(folder / "v.jsonl", 2, RATIOS[ratio], seed + 1))
            arguments = TrainArguments(
                **common, load_best_model_at_end=False, early_stopping_patience=0
            )
            sources = (read_texts(table, backbone) for table in (rows, few))
            train(network_config(), arguments, *sources, callbacks=[times], tuner=tuner)
    seconds = np.diff(times.ends)[SKIPPED_STEPS - 1 :]
    return {
        "seconds_a_step": seconds.tolist(),
        "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }


def trl_pairs(rows: PreferenceTable, backbone: TransformerBackbone) -> Any:
    """Return the tokens of both texts of each pair, in the format of TRL's RewardTrainer."""
    from datasets import Dataset

    encoded = backbone.chat.encode(rows.prompts, rows.responses, rows.response_prompt)
    return Dataset.from_dict(
        {
            "chosen_ids": [encoded[j].input_ids.tolist() for j in rows.pair_first],
            "rejected_ids": [encoded[j].input_ids.tolist() for j in rows.pair_second],
        }
    )


def _train_trl(rows: PreferenceTable, common: dict[str, Any], times: StepTimes) -> None:
    from trl import RewardConfig, RewardTrainer

    backbone = new_backbone()
    pairs = trl_pairs(rows, backbone)
    torch.manual_seed(0)
    trainer = RewardTrainer(
        model=LlamaForSequenceClassification(llama(num_labels=1)),
        args=RewardConfig(**common, bf16=False, gradient_checkpointing=False, max_length=None),
        processing_class=backbone.tokenizer,
        train_dataset=pairs,
        callbacks=[times],
    )
    trainer.train()


def in_turns(ratio: str, options: argparse.Namespace) -> dict[str, Any]:
    """Train each side in a new process, alternating in changing order."""
    found: dict[str, list[dict[str, Any]]] = {side: [] for side in SIDES}
    for turn in range(options.turns):
        for side in SIDES if turn % 2 == 0 else SIDES[::-1]:
            command = [
                sys.executable, __file__, "--worker", side, "--ratio", ratio,
                "--steps", str(options.steps), "--seed", str(turn),
            ]  # fmt: skip
            done = subprocess.run(command, check=True, capture_output=True, text=True)
            found[side].append(json.loads(done.stdout.splitlines()[-1]))
    medians = {
        side: [float(np.median(run["seconds_a_step"])) for run in runs]
        for side, runs in found.items()
    }
    ours, other = SIDES
    return {
        "part": "train",
        "prompt:response": ratio,
        "seconds_a_step": medians,
        f"throughput of {ours} over {other}": spread(
            [b / a for a, b in zip(medians[ours], medians[other], strict=True)]
        ),
        f"peak memory of {ours} over {other}": spread(
            [
                a["peak_rss_mib"] / b["peak_rss_mib"]
                for a, b in zip(found[ours], found[other], strict=True)
            ]
        ),
    }


def head(ratio: str, options: argparse.Namespace) -> dict[str, Any]:
    """Time full training steps with each head: same backbone, batch and kind of optimizer."""
    backbone = new_backbone()
    tuner = Tuner(TuningConfig("full"), backbone)
    with tempfile.TemporaryDirectory() as name:
        size = PROMPTS_A_STEP * (options.steps + 1)
        pairs = load_table(write_pairs(Path(name) / "rows.jsonl", size, RATIOS[ratio], 0))
        arguments = TrainArguments(output_dir=name, use_cpu=True, disable_tqdm=True)
    data = tuner.dataset(read_texts(pairs, backbone), 0.0, 1.0, np.arange(size))
    seconds: dict[str, list[float]] = {}
    alone: dict[str, list[float]] = {}
    steps = {}
    for side in ("vrm", "bradley_terry"):
        config = network_config(architecture="vrm" if side == "vrm" else "bradley_terry")
        torch.manual_seed(0)
        conditionals = build_model(
            config, backbone.hidden_size, config.num_objectives, rated=False
        )
        module = tuner.wrap(TrainingModule(conditionals, config, size), arguments).train()
        optimizer = torch.optim.AdamW(module.parameters(), lr=1e-5)
        steps[side], seconds[side], alone[side] = (module, optimizer), [], []
    for number in range(options.steps + 1):
        items = range(PROMPTS_A_STEP * number, PROMPTS_A_STEP * (number + 1))
        batch = collate([data[i] for i in items])
        for side in list(steps) if number % 2 else list(steps)[::-1]:
            module, optimizer = steps[side]
            start = time.perf_counter()
            module(**batch)["loss"].backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), arguments.max_grad_norm)
            optimizer.step()
            optimizer.zero_grad()
            if number:  # the first step creates the optimizer state
                seconds[side].append(time.perf_counter() - start)
                alone[side].append(head_seconds(module, batch))
    extra = [
        (a - b) / step
        for a, b, step in zip(*alone.values(), seconds["bradley_terry"], strict=True)
    ]
    ratios = [a / b for a, b in zip(seconds["vrm"], seconds["bradley_terry"], strict=True)]
    return {
        "part": "head",
        "prompt:response": ratio,
        "seconds_a_step": {side: spread(found) for side, found in seconds.items()},
        "time of vrm over bradley_terry": spread(ratios)
        | {"standard_error": float(np.std(ratios, ddof=1) / len(ratios) ** 0.5)},
        "seconds_of_the_head_alone": {side: spread(found) for side, found in alone.items()},
        "its extra time over a step with bradley_terry": spread(extra),
    }


def head_seconds(module: TextModule, batch: dict[str, Tensor]) -> float:
    """Return the time of forward and backward of the heads, from states to their gradients."""
    generator = torch.Generator().manual_seed(0)
    labels = {name: batch[name] for name in batch if name not in TEXT_INPUTS}
    states = {
        name: torch.randn(
            len(batch[place]), module.reader.hidden_size, generator=generator
        ).requires_grad_()
        for name, place in (("prompts", "prompt_state"), ("responses", "response_state"))
    }
    start = time.perf_counter()
    module.conditionals(**states, **labels)["loss"].backward()
    seconds = time.perf_counter() - start
    module.zero_grad()
    return seconds


def alternate(sides: dict[str, Callable[[], Any]], turns: int) -> dict[str, list[float]]:
    """Return the seconds of each side, alternating in changing order after one warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns + 1):
        for name in list(sides) if turn % 2 else list(sides)[::-1]:
            start = time.perf_counter()
            sides[name]()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return seconds


def scorer_on(backbone: TransformerBackbone) -> Scorer:
    """Return a scorer with random heads."""
    torch.manual_seed(1)
    config = network_config()
    model = build_model(config, backbone.hidden_size, config.num_objectives, rated=False).eval()
    names = tuple(f"objective_{k}" for k in range(config.num_objectives))
    facts = {"name": backbone.name, "weights_hash": backbone.weights_hash}
    return Scorer(LoadedModel(model, config, names, False, facts), backbone)


def new_scorer(share: bool) -> Scorer:
    """Return a scorer with random weights, with or without prompt sharing."""
    backbone = new_backbone()
    assert backbone.shares_prompts
    vars(backbone)["shares_prompts"] = share
    return scorer_on(backbone)


def score(options: argparse.Namespace) -> dict[str, Any]:
    """Compare shared prompts with whole sequences for 16 responses per prompt."""
    generator = np.random.default_rng(0)
    prompts = [words(256, generator) for _ in range(options.prompts)]
    answers = [words(128, generator) for _ in range(16 * len(prompts))]
    owners = [prompt for prompt in prompts for _ in range(16)]
    scorers = {"shared": new_scorer(True), "whole sequences": new_scorer(False)}
    rewards = {
        name: np.array([line["reward_mean"] for line in scorer(owners, answers)])
        for name, scorer in scorers.items()
    }
    seconds = alternate(
        {n: (lambda s=s: s(owners, answers)) for n, s in scorers.items()}, options.turns
    )
    shared, whole = seconds.values()
    return {
        "part": "score",
        "prompt:response": "2:1",
        "responses a prompt": 16,
        "seconds": seconds,
        "largest difference of rewards": float(np.ptp(list(rewards.values()), axis=0).max()),
        "throughput of shared over whole sequences": spread(
            [b / a for a, b in zip(shared, whole, strict=True)]
        ),
    }


def against_pipeline(options: argparse.Namespace) -> dict[str, Any]:
    """Compare our scorer with transformers' pipeline on single responses of mixed length."""
    generator = np.random.default_rng(0)
    sizes = np.exp(generator.normal(np.log(60), 0.8, size=(options.texts, 2))).clip(4, 700)
    prompts = [words(int(a), generator) for a, _ in sizes]
    answers = [words(int(b), generator) for _, b in sizes]
    scorer = new_scorer(True)
    encoded = scorer.backbone.chat.encode(prompts, answers)
    texts = [scorer.backbone.tokenizer.decode(s.input_ids) for s in encoded]
    torch.manual_seed(0)
    classifier = pipeline(
        "text-classification",
        model=LlamaForSequenceClassification(llama(num_labels=1)).eval(),
        tokenizer=scorer.backbone.tokenizer,
        function_to_apply="none",
        device="cpu",
    )
    again = classifier.tokenizer(texts, add_special_tokens=False)["input_ids"]
    assert again == [s.input_ids.tolist() for s in encoded]
    seconds = alternate(
        {
            "ours": lambda: scorer(prompts, answers),
            "pipeline 32": lambda: classifier(texts, batch_size=32),
            "pipeline 1": lambda: classifier(texts, batch_size=1),
        },
        options.turns,
    )
    lengths = [len(s) for s in encoded]
    return {
        "part": "pipeline",
        "tokens": {"median": float(np.median(lengths)), "most": max(lengths)},
        "seconds": seconds,
        **{
            f"throughput of ours over the pipeline, batch size {size}": spread(
                [b / a for a, b in zip(seconds["ours"], seconds[f"pipeline {size}"], strict=True)]
            )
            for size in (32, 1)
        },
    }


def main() -> None:
    """Measure and print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("train", "head", "score", "pipeline")
    parser.add_argument("--parts", nargs="+", choices=parts, default=parts)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--prompts", type=int, default=4, help="of part score")
    parser.add_argument("--texts", type=int, default=192, help="of part pipeline")
    parser.add_argument("--out", default=None)
    parser.add_argument("--worker", choices=SIDES, default=None)
    parser.add_argument("--ratio", choices=list(RATIOS), default="1:4")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(work(options.worker, options.ratio, options.steps, options.seed)))
        return
    results = []
    for part in options.parts:
        if part == "score":
            results.append(score(options))
        elif part == "pipeline":
            results.append(against_pipeline(options))
        else:
            measure = in_turns if part == "train" else head
            results += [measure(ratio, options) for ratio in RATIOS]
        print(json.dumps(results[-1]), flush=True)
    size = sum(p.numel() for p in LlamaModel(llama()).parameters())
    machine = {
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load": os.getloadavg()[0],
        "torch": torch.__version__,
    }
    emit({"parameters": size, "results": results, "machine": machine}, options.out)


if __name__ == "__main__":
    main()
