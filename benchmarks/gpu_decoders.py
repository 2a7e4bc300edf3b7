"""Measure decoders on a GPU: tokens per second, model FLOPs utilisation and peak memory.

Decoders have random weights in the shapes of Qwen3-0.6B and Llama-8B, in bfloat16. Texts are
random words. Every method and side runs in a new process; out-of-memory failures are reported.

``frozen`` computes the states of prompts and responses. ``lora`` and ``full`` take training steps
with activation checkpointing, ours and TRL's RewardTrainer on the same pairs. ``score`` runs the
Scorer with 4 responses per prompt.

Token counts are those of the texts, with a prompt counted once per response, so both sides are
credited with the same work. Utilisation is the FLOPs of matrix products for this work without
sharing (2 N per token forward, 4 N backward, 2 N less with adapters; attention excluded), divided
by the peak of the card. With shared prompts it may therefore exceed what the card reaches.

    python benchmarks/gpu_decoders.py --peak_tflops 989 --out gpu_decoders.json    # H100 SXM
    python benchmarks/gpu_decoders.py --shapes tiny --device cpu --steps 3         # smoke test
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from decoder_throughput import (
    SKIPPED_STEPS,
    VOCABULARY,
    StepTimes,
    scorer_on,
    tokenizer,
    trl_pairs,
    words,
    write_pairs,
)
from emit import emit
from networks import network_config
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForSequenceClassification,
    PreTrainedConfig,
)

from vrm_pyro.backbone import TransformerBackbone, wrap_model
from vrm_pyro.data.rows import PreferenceTable, load_table
from vrm_pyro.features.memory import encode_table
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.finetuning import Tuner, TuningConfig, read_texts
from vrm_pyro.training.train import train

SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {
        "model_type": "qwen3", "hidden_size": 64, "intermediate_size": 128, "head_dim": 16,
        "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2,
        "vocab_size": VOCABULARY,
    },
    "qwen3-0.6b": {
        "model_type": "qwen3", "hidden_size": 1024, "intermediate_size": 3072, "head_dim": 128,
        "num_hidden_layers": 28, "num_attention_heads": 16, "num_key_value_heads": 8,
        "vocab_size": 151936,
    },
    "llama-8b": {
        "model_type": "llama", "hidden_size": 4096, "intermediate_size": 14336,
        "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": 8,
        "vocab_size": 128256,
    },
}  # fmt: skip
RATIOS = {"1:4": (128, 512), "4:1": (512, 128)}  # tokens of prompt and response
CASES = (
    ("frozen", "vrm"),
    ("lora", "vrm"),
    ("lora", "trl"),
    ("full", "vrm"),
    ("full", "trl"),
    ("score", "vrm"),
)
FLOPS_A_PARAMETER = {"frozen": 2, "lora": 4, "full": 6, "score": 2}
RANK = 16


def shape(name: str) -> PreTrainedConfig:
    """Return the configuration of a decoder."""
    values = dict(SHAPES[name])
    kind = values.pop("model_type")
    return AutoConfig.for_model(kind, max_position_embeddings=4096, pad_token_id=0, **values)


def random_model(options: argparse.Namespace, auto: Any, **settings: Any) -> Any:
    """Return a decoder with random bfloat16 weights, created on its device."""
    torch.manual_seed(0)
    config = shape(options.shape)
    for name, value in settings.items():
        setattr(config, name, value)
    with torch.device(options.device):
        return auto.from_config(config, dtype=torch.bfloat16)


def new_backbone(options: argparse.Namespace) -> TransformerBackbone:
    """Return the decoder as a backbone."""
    return wrap_model(
        random_model(options, AutoModel), tokenizer(), name=options.shape,
        source="random weights", max_length=2048, dtype="bfloat16", device=options.device,
    )  # fmt: skip


def arguments(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Return the settings of a run that both sides share."""
    return {
        "output_dir": str(folder / "run"),
        "max_steps": options.steps,
        "per_device_train_batch_size": options.pairs,
        "bf16": True,
        "use_cpu": options.device == "cpu",
        "disable_tqdm": True,
        "report_to": "none",
        "save_strategy": "no",
        "eval_strategy": "no",
        "logging_steps": 10_000,
    }


def train_ours(
    options: argparse.Namespace, rows: PreferenceTable, folder: Path, times: StepTimes
) -> None:
    """Train a VRM with its backbone."""
    backbone = new_backbone(options)
    tuner = Tuner(TuningConfig(options.method, rank=RANK, dropout=0.0), backbone)
    few = load_table(write_pairs(folder / "few.jsonl", 2, RATIOS[options.ratio], 1))
    made = TrainArguments(
        **arguments(options, folder), activation_checkpointing=True,
        load_best_model_at_end=False, early_stopping_patience=0,
    )  # fmt: skip
    sources = (read_texts(table, backbone) for table in (rows, few))
    train(network_config(), made, *sources, callbacks=[times], tuner=tuner)


def train_trl(
    options: argparse.Namespace, rows: PreferenceTable, folder: Path, times: StepTimes
) -> None:
    """Train TRL's scalar reward model on the same pairs."""
    from peft import LoraConfig, TaskType
    from trl import RewardConfig, RewardTrainer

    reader = new_backbone(argparse.Namespace(shape="tiny", device="cpu"))
    model = random_model(options, AutoModelForSequenceClassification, num_labels=1)
    lora = LoraConfig(
        task_type=TaskType.SEQ_CLS, r=RANK, lora_dropout=0.0, target_modules="all-linear"
    )
    full = options.method == "full"
    trainer = RewardTrainer(
        model=model.float() if full else model,  # float32 master weights, as ours
        args=RewardConfig(
            **arguments(options, folder), gradient_checkpointing=True, max_length=None
        ),
        processing_class=reader.tokenizer,
        train_dataset=trl_pairs(rows, reader),
        callbacks=[times],
        peft_config=None if full else lora,
    )
    trainer.train()


def passes(options: argparse.Namespace, rows: PreferenceTable) -> list[float]:
    """Encode or score all rows several times; return the seconds of each pass but the first."""
    backbone = new_backbone(options)
    if options.method == "frozen":
        run: Any = lambda: encode_table(rows, backbone)  # noqa: E731
    else:
        scorer = scorer_on(backbone)
        generator = np.random.default_rng(2)
        size = RATIOS[options.ratio][1]
        prompts = [prompt for prompt in rows.prompts for _ in range(4)]
        answers = [words(size, generator) for _ in prompts]
        run = lambda: scorer(prompts, answers)  # noqa: E731
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return seconds[1:]


def work(options: argparse.Namespace) -> dict[str, Any]:
    """Run one case in this process; return time and memory."""
    prompt, response = RATIOS[options.ratio]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = options.pairs * options.steps
        path = write_pairs(folder / "rows.jsonl", count, (prompt, response), 0)
        rows = load_table(path)
        if options.method in ("lora", "full"):
            times = StepTimes()
            trains = train_ours if options.side == "vrm" else train_trl
            trains(options, rows, folder, times)
            seconds = np.diff(times.ends)[SKIPPED_STEPS - 1 :].tolist()
            tokens = 2 * options.pairs * (prompt + response)
        else:
            seconds = passes(options, rows)
            a_prompt = 2 if options.method == "frozen" else 4
            tokens = a_prompt * count * (prompt + response)
    with torch.device("meta"):
        empty = AutoModel.from_config(shape(options.shape))
        embedded = empty.get_input_embeddings().weight.numel()
        computing = sum(value.numel() for value in empty.parameters()) - embedded
    rate = tokens / float(np.median(seconds))
    on_gpu = options.device == "cuda"
    found = {
        "tokens_a_second": round(rate),
        "seconds": [round(value, 4) for value in seconds],
        "peak_memory_gib": torch.cuda.max_memory_allocated() / 2**30 if on_gpu else None,
    }
    if options.peak_tflops:
        flops = rate * computing * FLOPS_A_PARAMETER[options.method]
        found["utilisation"] = flops / (options.peak_tflops * 1e12)
    return found


def main() -> None:
    """Run all cases, each in a new process, or a single case in this one."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=["qwen3-0.6b", "llama-8b"])
    parser.add_argument("--methods", nargs="+", choices=FLOPS_A_PARAMETER, default=None)
    parser.add_argument("--ratios", nargs="+", choices=RATIOS, default=list(RATIOS))
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--pairs", type=int, default=8, help="pairs in a step")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument(
        "--peak_tflops",
        type=float,
        default=0,
        help="peak of the card for dense bfloat16, from its data sheet",
    )
    parser.add_argument("--out", default=None, help="JSON file for the result")
    for name in ("worker", "shape", "method", "side", "ratio"):
        parser.add_argument(f"--{name}", default=None, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        try:
            print(json.dumps(work(options)))
        except torch.OutOfMemoryError:
            print(json.dumps({"out_of_memory": True}))
        return
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU found; for a smoke test use --device cpu --shapes tiny.")
    results = []
    for name in options.shapes:
        for ratio in options.ratios:
            for method, side in CASES:
                if options.methods is None or method in options.methods:
                    case = {"shape": name, "ratio": ratio, "method": method, "side": side}
                    results.append({**case, **run_worker(options, case)})
                    print(json.dumps(results[-1]), flush=True)
    device = torch.cuda.get_device_name() if options.device == "cuda" else "cpu"
    emit({"device": device, "torch": torch.__version__, "results": results}, options.out)


def run_worker(options: argparse.Namespace, case: dict[str, str]) -> dict[str, Any]:
    """Run a case in a new process, so that its peak memory is measured alone."""
    named = {**case, "worker": "yes"}
    kept = ("steps", "pairs", "device", "peak_tflops")
    named |= {name: str(getattr(options, name)) for name in kept}
    command = [sys.executable, __file__, *(f"--{key}={value}" for key, value in named.items())]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return {"failed": done.stderr.strip().splitlines()[-1]}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


if __name__ == "__main__":
    main()
