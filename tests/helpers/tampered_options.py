"""Trials with options out of the range that torch or transformers know, and with huge numbers."""

import json
import shutil
from pathlib import Path

from helpers.tampering import Trial, Words
from helpers.workspace import options

HUGE = 10**9
_DEEP = "[" * 3000

#: Options of ``train``: name, values.
TRAIN: dict[str, tuple[object, ...]] = {
    "train.seed": (-1, 2**40, 10**30),
    "train.data_seed": (-5, 2**70),
    "train.optim": ("nosuch", "adamw_bnb_8bit", "galore_adamw", "lomo", "adamw_apex_fused"),
    "train.lr_scheduler_type": (
        "nosuch",
        "cosine_with_min_lr",
        "warmup_stable_decay",
    ),
    "train.lr_scheduler_kwargs": ('{"nosuch": 1}', "[1]", "many"),
    "train.optim_args": ("nosuch",),
    "train.gradient_checkpointing": ("true", "perhaps"),
    "train.dataloader_num_workers": (-1, HUGE),
    "train.dataloader_prefetch_factor": (2, 0, -1),
    "train.dataloader_persistent_workers": ("true",),
    "train.warmup_steps": (-1, ".nan"),
    "train.max_grad_norm": (-1, ".nan"),
    "train.adam_beta1": (2, -0.1, ".nan"),
    "train.adam_beta2": (1.0, -3),
    "train.adam_epsilon": (-1, ".nan"),
    "train.learning_rate": (".inf", ".nan", 0),
    "train.weight_decay": (".inf", -1),
    "train.num_train_epochs": (".nan", ".inf", -2),
    "train.max_steps": (10**30, "many"),
    "train.logging_steps": (0, -1, ".nan"),
    "train.save_total_limit": (0, -1),
    "train.gradient_accumulation_steps": (0, HUGE * HUGE),
    "train.per_device_eval_batch_size": (0, -1),
    "train.fp16": ("true",),
    "train.tf32": ("true",),
    "train.deepspeed": ("nosuch.json",),
    "train.fsdp": ("full_shard",),
    "train.push_to_hub": ("true",),
    "train.accelerator_config": ('{"nosuch": 1}', "nosuch.json"),
    "train.output_dir": ("~nosuch/run", "a\0b", ""),
    "train.resume_from_checkpoint": ("nowhere", "~nosuch/checkpoint-1"),
    "train.greater_is_better": ("true",),
    "train.label_smoothing_factor": (-1,),
    "train.neftune_noise_alpha": (5.0,),
    "train.eval_delay": (-1,),
    "train.torch_compile": ("true",),
    "model.num_objectives": (HUGE, 10**30),
    "model.extra_objectives": (HUGE,),
    "model.latent_dim": (HUGE, -1),
    "model.num_draws": (HUGE,),
    "model.ensemble_size": (HUGE,),
    "model.head_draws": (HUGE,),
    "model.head_size": (HUGE,),
    "model.max_length": (HUGE, 0),
    "model.layer": (HUGE, 0, -1),
    "model.backbone": ("~nosuch/bert", "a\0b", ""),
    "model.objectives": (_DEEP, "[clear, 3, [x]]"),
    "model.weight_prior": (_DEEP, '{"class_path": ' * 500),
    "model.weight_prior.hidden_size": (HUGE,),
    "model.reward_scale": (".inf", -1),
    "data.train": ("~nosuch/rows.jsonl", "a\0b", "", "[]", "[[x]]", _DEEP),
    "data.validation": ("~nosuch/rows.jsonl",),
    "data.validation_fraction": (".nan",),
    "data.split_seed": (-1, 10**30),
    "tuning.method": ("nosuch",),
    "tuning.rank": (0, -1, HUGE),
    "tuning.learning_rate": (-1, ".nan", ".inf"),
}

_USE = "--model {place}/model --data {place}/test.jsonl"
#: Other command lines, and what the message names.
COMMANDS: tuple[tuple[str, str], ...] = (
    *(
        (f"{verb} {_USE} --out {{out}}/{name} --{option} {value}", option)
        for verb, name, option, value in (
            ("posterior", "p.nc", "draws", HUGE),
            ("posterior", "p.nc", "draws", 10**30),
            ("posterior", "p.nc", "seed", -1),
            ("posterior", "p.nc", "seed", 10**30),
            ("posterior", "p.nc", "device", "hpu"),
            ("posterior", "p.nc", "device", "cuda:99"),
            ("posterior", "p.nc", "dtype", "float99"),
            ("evaluate", "m.json", "device", "hpu"),
            ("evaluate", "m.json", "device", "nosuch"),
            ("evaluate", "m.json", "device", "xla"),
            ("evaluate", "m.json", "dtype", "int8"),
            ("evaluate", "m.json", "backbone", "~nosuch/bert"),
            ("evaluate", "m.json", "classes", "[os.system]"),
            ("evaluate", "m.json", "classes", "evil.Prior"),
            ("score", "s.jsonl", "device", "hpu"),
            ("score", "s.jsonl", "device", "meta"),
            ("score", "s.jsonl", "shard_rows", 0),
            ("score", "s.jsonl", "shard_rows", -3),
            ("score", "s.jsonl", "num_shards", 0),
            ("score", "s.jsonl", "shard", 4),
            ("report", "r.html", "draws", HUGE),
            ("report", "r.html", "worst", -1),
            ("report", "r.html", "seed", -1),
            ("report", "r.html", "khat_prompts", 0),
            ("report", "r.html", "psense_prompts", -1),
            ("report", "r.html", "against", "{place}/model"),
            ("report", "r.html", "against", "~nosuch/run"),
            ("report", "r.html", "diagnose", "~nosuch/d.json"),
            ("diagnose", "d.json", "draws", HUGE),
            ("diagnose", "d.json", "draws", 0),
            ("diagnose", "d.json", "prompts", 0),
            ("diagnose", "d.json", "seed", -1),
            ("diagnose", "d.json", "reference", "~nosuch/rows.jsonl"),
            ("export", "e", "max_shard_size", "5XB"),
            ("export", "e", "max_shard_size", "-1GB"),
            ("export", "e", "max_shard_size", "0"),
            ("export", "e", "max_shard_size", "nan"),
            ("export", "e", "device", "hpu"),
            ("export", "e", "adapter", "nosuch"),
            ("export", "e", "dtype", "int8"),
            ("export", "e", "without_boundary", "perhaps"),
        )
    ),
    *(
        (f"certify {_USE} --backbone_saw_these_labels no --{option} {value}", option)
        for option, value in (
            ("delta", 0),
            ("delta", 1),
            ("delta", -0.1),
            ("delta", ".nan"),
            ("delta_mc", -1),
            ("delta_mc", 0),
            ("delta_mc", ".nan"),
            ("chi", 0),
            ("chi", ".nan"),
            ("chi", ".inf"),
            ("chi", -2),
            ("prior_scales", "[]"),
            ("prior_scales", "[-1]"),
            ("prior_scales", "[.nan]"),
            ("prior_scales", "[.inf]"),
            ("draws", HUGE),
            ("draws", 0),
            ("steps", HUGE),
            ("steps", 0),
            ("seed", -1),
            ("seed", 10**30),
            ("loss", "nosuch"),
        )
    ),
    *(
        (f"explain --model {{place}}/model --prompt a --response b --response c {more}", name)
        for more, name in (
            ("--interval .nan", "interval"),
            ("--interval 1", "interval"),
            (f"--draws {HUGE}", "draws"),
            ("--draws 3", "draws"),
            ("--seed -1", "seed"),
            ("--seed 1000000000000000000000000", "seed"),
            ("--device hpu", "device"),
            ("--response @~nosuch/a", "response"),
        )
    ),
    *(
        (f"features --data {{place}}/test.jsonl --out {{out}}/s --{option} {value}", name)
        for option, value, name in (
            ("model.backbone", "~nosuch/bert", "~nosuch"),
            ("model.layer", f"{HUGE} --model.backbone {{place}}/bert", "layer"),
            ("model.layer", "0 --model.backbone {place}/bert", "layer"),
            ("model.max_length", f"{HUGE} --model.backbone {{place}}/bert", "max_length"),
            ("model.max_length", "0 --model.backbone {place}/bert", "max_length"),
            ("stored_dtype", "int8 --model.max_length 60 --model.backbone {place}/bert", "dtype"),
            ("device", "hpu --model.backbone {place}/bert", "device"),
            ("num_shards", "0", "num_shards"),
        )
    ),
    *(
        (f"simulate --out {{out}}/d --{option} {value}", option)
        for option, value in (
            ("pairs", 0),
            ("pairs", -1),
            ("pairs", 10**12),
            ("pairs_per_prompt", 0),
            ("pairs_per_prompt", 10**12),
            ("shared_responses", -1),
            ("shared_responses", 10**9),
            ("concentration", -1),
            ("concentration", ".nan"),
            ("beta", ".nan"),
            ("beta", ".inf"),
            ("rating_noise", -1),
            ("rating_noise", ".nan"),
            ("rating_missing", 2),
            ("rating_missing", ".nan"),
            ("label_noise", 0.9),
            ("label_noise", ".nan"),
            ("seed", -1),
            ("seed", 10**30),
        )
    ),
    *(
        (f"search --space heads --data.train {{place}}/train.jsonl --out {{out}}/s {more}", name)
        for more, name in (
            ("--folds 1", "folds"),
            (f"--folds {HUGE}", "folds"),
            ("--seeds 0", "seeds"),
            (f"--seeds {HUGE}", "seeds"),
            ("--trials 0", "trials"),
            ("--trials -1", "trials"),
            ("--config ~nosuch/a.yaml", "~nosuch"),
            ("--test ~nosuch/a.jsonl", "~nosuch"),
            ("--train.seed -1", "train.seed"),
            ("--train.optim nosuch", "optim"),
        )
    ),
    (f"diagnose {_USE} --out {{out}}/d.json --only nosuch", "nosuch"),
    (f"diagnose {_USE} --out {{out}}/d.json --only []", "no diagnostic"),
    (f"diagnose {_USE} --out {{out}}/d.json --against [nowhere]", "nowhere"),
    ("simulate --out {out}/d --shared_responses 1", "shared response"),
    ("psense --posterior {place}/p.nc --threshold .nan", "threshold"),
    ("psense --posterior {place}/p.nc --threshold -1", "threshold"),
    ("psense --posterior ~nosuch/p.nc", "~nosuch"),
    ("psense --posterior {place}/p.nc --plot {out}/a.txt", "plot"),
    ("doctor --max_responses 0", "max_responses"),
    ("doctor --max_responses -4", "max_responses"),
    ("doctor --data ~nosuch/a.jsonl", "~nosuch"),
    # An output that is or contains an input.
    *(
        (text, name)
        for text, name in (
            (
                "evaluate --model {own}/model --data {own}/test.jsonl --out {own}/test.jsonl",
                "test",
            ),
            ("evaluate --model {own}/model --data {own}/test.jsonl --out {own}/./test.jsonl", "t"),
            (
                "evaluate --model {own}/model --data {own}/*.jsonl --out {own}/test.jsonl",
                "*.jsonl",
            ),
            (
                "evaluate --model {own}/model --data [{own}/test.jsonl] --out {own}/test.jsonl",
                "te",
            ),
            ("evaluate --model {own}/model --data a --out {own}/model/config.json", "own/model"),
            ("score --model {own}/model --data {own}/test.jsonl --out {own}/test.jsonl", "test"),
            ("score --model {own}/model --data {own}/store --out {own}/store/store.json", "store"),
            ("posterior --model {own}/model --data a --out {own}/model/features/a.nc", "a"),
            ("diagnose --model {own}/model --data a --out {own}/model/model.safetensors", "model"),
            ("report --model {own}/model --data {own}/a.html --out {own}/a.html", "a.html"),
            ("explain --model {own}/model --data {own}/a --id 1 --out {own}/test.jsonl", "a"),
            (
                "certify --model {own}/model --data {own}/test.jsonl --out {own}/test.jsonl "
                "--backbone_saw_these_labels no",
                "test.jsonl",
            ),
            ("export --model {own}/model --data {own}/test.jsonl --out {own} --overwrite", "own"),
            ("export --model {own}/model --data {own}/a/b.jsonl --out {own}/a --overwrite", "a"),
            ("psense --posterior {own}/p.nc --out {own}/p.nc", "p.nc"),
            ("psense --posterior {own}/p.nc --plot {own}/p.nc", "p.nc"),
            ("features --data {own}/test.jsonl --out {own} --overwrite", "test.jsonl"),
            (
                "train --data.train {own}/train.jsonl --train.output_dir {own} --overwrite",
                "train.jsonl",
            ),
            (
                "search --space heads --data.train {own}/train.jsonl --out {own} --overwrite",
                "train.jsonl",
            ),
        )
    ),
)


def train_trials() -> list[Trial]:
    """Return trials with options of ``train``."""

    def build(place: Path, folder: Path, name: str, value: object) -> Words:
        settings = options(place, **{"train__output_dir": folder / "run", name: value})
        if name.startswith("tuning.") and name != "tuning.method":
            settings += ["--tuning.method", "lora"]
        return ("train", *settings)

    return [
        Trial(
            f"train: --{name} {str(value)[:30]}",
            lambda place, folder, n=name, v=value: build(place, folder, n.replace(".", "__"), v),
            (name.rpartition(".")[2],),
        )
        for name, values in TRAIN.items()
        for value in values
    ]


def command_trials() -> list[Trial]:
    """Return trials with other command lines."""

    def build(place: Path, folder: Path, text: str) -> Words:
        own = folder / "own"
        if "{own}" in text:  # what a trial could lose is a copy
            shutil.copytree(
                place, own, ignore=shutil.ignore_patterns("bert", "features", "export")
            )
            (own / "a").mkdir()
            shutil.copy(place / "test.jsonl", own / "a" / "b.jsonl")
        return [word.format(place=place, out=folder, own=own) for word in text.split()]

    return [
        Trial(text[:90], lambda place, folder, t=text: build(place, folder, t), (name,))
        for text, name in COMMANDS
    ]


def space_trials() -> list[Trial]:
    """Return trials with spaces of a search."""
    texts = (
        "",
        "- a",
        "train: 3",
        "train: {learning_rate: {low: 1}}",
        "train: {learning_rate: {low: .nan, high: 1}}",
        "train: {learning_rate: {low: 2, high: 1}}",
        "train: {learning_rate: {low: 1.0e-4, high: 1.0e-2, log: maybe}}",
        "train: {learning_rate: []}",
        "train: {learning_rate: [fast]}",
        "train: {nosuch: [1, 2]}",
        "model: {latent_dim: [1000000000]}",
        "model: {weight_prior: [evil.Prior]}",
        "model: {weight_prior: [{class_path: evil.Prior}]}",
        "a: &a [*a]\ntrain: *a",
        "train: " + "{a: " * 3000,
        "train: " + "[" * 5000,
        json.dumps({"train": {"learning_rate": [0.1] * 101_000}}),
    )

    def build(place: Path, folder: Path, text: str) -> Words:
        (folder / "space.yaml").write_text(text, encoding="utf-8")
        rows = ("--data.train", place / "train.jsonl", "--trials", 1, "--folds", 2)
        backbone = ("--model.backbone", place / "bert", "--model.max_length", 60)
        return (
            "search",
            "--space",
            folder / "space.yaml",
            *rows,
            *backbone,
            "--out",
            folder / "s",
        )

    return [
        # A combination that does not fit is a trial that fails, by its setting.
        Trial(
            f"search: {text[:40]}",
            lambda p, f, t=text: build(p, f, t),
            ("latent_dim",) if "latent_dim" in text else ("space.yaml",),
        )
        for text in texts
    ]
