"""Configs, checkpoints and options that are not usable, and what the message must say.

Lists of ``(name, what, fragments)``: every fragment stands in the message. ``CONFIGS`` hold the
text of a YAML file for ``train``; ``CHECKPOINTS`` a function that damages a copy of a model;
``OPTIONS`` a command line with ``{place}`` for the workspace and ``{out}`` for an empty folder.
"""

import json
import os

import torch
from safetensors.torch import load_file, save_file

VIB = (
    "model:\n  mode: vib\n  weight_prior: DirichletPrior\n  feature_prior: NormalPrior\n"
    "  guide: LabelBlindGuide\n"
)


def setting(group, name, value):
    return f"{group}:\n  {name}: {value}\n"


def prior(name, arguments):
    return f"model:\n  weight_prior:\n    class_path: {name}\n    init_args:\n      {arguments}\n"


CONFIGS = [
    ("not YAML", "model: [1, 2\n", ("wrong.yaml", "line 2, column 1")),
    ("a tab", "model:\n\tmode: vib\n", ("wrong.yaml", "line 2, column 1")),
    ("empty", "", ("wrong.yaml", "is empty, or no mapping")),
    ("a list", "- model\n- data\n", ("wrong.yaml", "no mapping of settings")),
    ("not UTF-8", b"model:\n  mode: \xff\n", ("wrong.yaml", "0xff")),
    ("unknown group", "modle:\n  mode: vib\n", ("modle.mode", "did you mean 'model.mode'?")),
    ("misspelled", setting("model", "latent_dims", 3), ("did you mean 'model.latent_dim'?",)),
    ("misspelled in train", setting("train", "learning_rates", 1), ("'train.learning_rate'?",)),
    ("text for a number", setting("model", "latent_dim", "many"), ("'many'", "a whole number")),
    ("unknown choice", setting("model", "mode", "vibe"), ("model.mode", "conditional, vib")),
    ("null", setting("model", "mode", "null"), ("model.mode is null", "leave the line out")),
    (
        "unknown class",
        setting("model", "weight_prior", "DirichletPriors"),
        ("model.weight_prior", "did you mean 'DirichletPrior'?", "dotted path"),
    ),
    (
        "class of another table",
        setting("model", "weight_prior", "NormalPrior"),
        (
            "model.weight_prior",
            "'NormalPrior'",
            "ConditionalDirichletPrior, ConditionalLogistic",
        ),
    ),
    (
        "class that is nowhere",
        setting("model", "weight_prior", "nowhere.MyPrior"),
        ("model.weight_prior", "cannot import 'nowhere.MyPrior'", "Python finds here"),
    ),
    (
        "class that is no prior",
        setting("model", "weight_prior", "json.JSONDecoder"),
        ("model.weight_prior", "'json.JSONDecoder'"),
    ),
    (
        "setting that a class does not have",
        prior("DirichletPrior", "concentrations: 1.0"),
        ("DirichletPrior has no setting 'concentrations'", "--model.weight_prior.help"),
    ),
    (
        "setting of a class of another type",
        prior("DirichletPrior", "concentration: big"),
        ("model.weight_prior", "concentration is 'big'", "a number such as 0.1"),
    ),
    (
        "setting of a class out of range",
        prior("DirichletPrior", "concentration: -1.0"),
        ("DirichletPrior: concentration is -1.0", "> 0"),
    ),
    (
        "priors of another mode",
        setting("model", "mode", "vib"),
        (
            "model.weight_prior is ShrinkageDirichletPrior",
            "takes DirichletPrior, LogisticNormalPrior",
        ),
    ),
    (
        "guide of another mode",
        setting("model", "guide", "LabelBlindGuide"),
        ("model.guide is LabelBlindGuide", "OutcomeAwareGuide"),
    ),
    (
        "objective of another mode",
        VIB + "  objective: pairwise\n",
        ("model.objective is pairwise", "mode vib takes sampled or integrated"),
    ),
    (
        "objective that rows do not allow",
        setting("model", "objective", "collapsed"),
        ("model.objective is collapsed", "one is in 2", "Use integrated"),
    ),
    (
        "tempered KL in mode conditional",
        setting("model", "kl_weights", 0.1),
        ("model.kl_weights is 0.1", "exact KL", "hyperprior_weight"),
    ),
    (
        "supervision of another mode",
        setting("model", "supervision", "weights"),
        ("model.supervision is weights", "set model.supervision to scores"),
    ),
    (
        "free bits where there is no floor",
        VIB + "  objective: sampled\n  supervision: none\n  free_bits_weights: 1.0\n",
        ("model.free_bits_weights", "use integrated"),
    ),
    ("not a number", setting("model", "reward_scale", ".nan"), ("model.reward_scale is nan",)),
    ("no draws", setting("model", "num_draws", 0), ("model.num_draws is 0", "at least 1")),
    (
        "no power",
        setting("model", "rating_power", 0.0),
        ("model.rating_power is 0.0", "set model.supervision to none"),
    ),
    (
        "objective named twice",
        setting("model", "objectives", "[clear, clear]"),
        ("model.objectives names 'clear' twice",),
    ),
    (
        "objective that no row rates",
        setting("model", "objectives", "[clear, kind]"),
        ("model.objectives names 'kind'", "rated are clear, safe"),
    ),
    (
        "scores without features for them",
        "model:\n  scores: identity\n  latent_dim: 3\n",
        ("model.latent_dim (3)", "number of objectives (2)"),
    ),
    ("longer than the backbone reads", setting("model", "max_length", 9999), ("at most 128",)),
    ("no backbone", setting("model", "backbone", "./nowhere"), ("./nowhere", "no such folder")),
    (
        "schedule that is none",
        setting("train", "eval_strategy", "sometimes"),
        ("settings of train", "sometimes", "'epoch'"),
    ),
    (
        "settings of train that clash",
        setting("train", "eval_strategy", "steps"),
        ("train.load_best_model_at_end", "strategy to match"),
    ),
    ("negative rate", setting("train", "learning_rate", -1.0), ("train.learning_rate is -1.0",)),
    (
        "empty batches",
        setting("train", "per_device_train_batch_size", 0),
        ("train.per_device_train_batch_size is 0", "positive"),
    ),
    (
        "unknown metric",
        setting("train", "metric_for_best_model", "rouge"),
        ("train.metric_for_best_model is 'rouge'", "log_loss, accuracy"),
    ),
    (
        "metric turned around",
        setting("train", "metric_for_best_model", "accuracy"),
        ("better when larger", "set train.greater_is_better true"),
    ),
    ("unknown logger", setting("train", "report_to", "nowhere"), ("train.report_to", "nowhere")),
    (
        "negative patience",
        setting("train", "early_stopping_patience", -2),
        ("train.early_stopping_patience is -2", "0 or more"),
    ),
    ("no epoch", setting("train", "num_train_epochs", 0), ("train.num_train_epochs is 0",)),
    (
        "nothing held out",
        "data:\n  validation: null\n  validation_fraction: 1.5\n",
        ("data.validation_fraction is 1.5", "between 0 and 1"),
    ),
    ("negative limit", setting("data", "max_prompts", -1), ("data.max_prompts is -1",)),
]


def _describe(folder, change):
    path = folder / "config.json"
    description = json.loads(path.read_text())
    change(description)
    path.write_text(json.dumps(description))


def _tensors(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path, metadata={"format": "pt"})


def _cut(path, size):
    path.write_bytes(path.read_bytes()[:size])


def _widen(tensors):
    name = next(name for name in sorted(tensors) if tensors[name].dim() == 2)
    tensors[name] = torch.zeros(3, 7)


CHECKPOINTS = [
    ("no config", lambda m: (m / "config.json").unlink(), ("no config.json", "resume_from")),
    ("cut config", lambda m: _cut(m / "config.json", 40), ("config.json", "not valid JSON")),
    (
        "another library's",
        lambda m: _describe(m, lambda d: d.update(model_type="bert")),
        ("config.json", "no model of vrm_pyro"),
    ),
    (
        "later format",
        lambda m: _describe(m, lambda d: d.update(format=99)),
        ("format 99", "update vrm-pyro"),
    ),
    (
        "missing key",
        lambda m: _describe(m, lambda d: d.pop("hidden_size")),
        ("config.json", "'hidden_size' is missing"),
    ),
    (
        "value of another kind",
        lambda m: _describe(m, lambda d: d.update(hidden_size="wide")),
        ("config.json", "'hidden_size' is 'wide'"),
    ),
    (
        "settings of another kind",
        lambda m: _describe(m, lambda d: d.update(settings=[1])),
        ("config.json", "'settings' is [1]"),
    ),
    (
        "setting of another kind",
        lambda m: _describe(m, lambda d: d["settings"].update(latent_dim="many")),
        ("config.json", "'latent_dim' is 'many'"),
    ),
    (
        "unknown setting",
        lambda m: _describe(m, lambda d: d["settings"].update(colour="blue")),
        ("config.json", "unknown setting 'colour'"),
    ),
    (
        "class that names code",
        lambda m: _describe(
            m, lambda d: d["settings"].update(guide={"class": "os.system", "args": {}})
        ),
        ("config.json", "no class 'os.system'", "--classes"),
    ),
    (
        "arguments that a class does not take",
        lambda m: _describe(m, lambda d: d["settings"]["guide"]["args"].update(depth=3)),
        ("config.json", "OutcomeAwareGuide does not take these arguments"),
    ),
    ("no weights", lambda m: (m / "model.safetensors").unlink(), ("model.safetensors", "missing")),
    (
        "cut weights",
        lambda m: _cut(m / "model.safetensors", 1000),
        ("model.safetensors", "truncated"),
    ),
    (
        "pickled weights",
        lambda m: torch.save({}, m / "model.safetensors"),
        ("model.safetensors", "not safetensors"),
    ),
    (
        "weights lack a tensor",
        lambda m: _tensors(m, lambda t: t.pop(sorted(t)[0])),
        ("model.safetensors", "lacks tensor", "do not belong together"),
    ),
    (
        "weights of another shape",
        lambda m: _tensors(m, _widen),
        ("model.safetensors", "has shape (3, 7)", "do not belong together"),
    ),
    (
        "weights with something more",
        lambda m: _tensors(m, lambda t: t.update(extra=torch.zeros(1))),
        ("model.safetensors", "unexpected tensor 'extra'"),
    ),
    (
        "backbone that is gone",
        lambda m: _describe(m, lambda d: d["backbone"].update(name="./nowhere")),
        ("./nowhere",),
    ),
    (
        "backbone that has changed",
        lambda m: _describe(m, lambda d: d["backbone"].update(weights_hash="0" * 64)),
        ("weights changed since the model was trained",),
    ),
]

USE = "evaluate --model {place}/model --data {place}/test.jsonl"
OPTIONS = [
    ("train without rows", "train", ("data.train is not set", "--data.train rows.jsonl")),
    ("no model", "evaluate --data {place}/test.jsonl --out {out}/m", ("required: --model",)),
    (
        "model that is not there",
        "evaluate --model {out}/no --data {place}/test.jsonl --out {out}/m",
        ("no such directory",),
    ),
    ("unknown option", f"{USE} --out {{out}}/m --dat x", ("unknown option --dat", "--data")),
    ("pattern without quotes", f"{USE} more.jsonl --out {{out}}/m", ("'more.jsonl'", "quotes")),
    ("out is a folder", f"{USE} --out {{out}}", ("is a folder", "name of a file")),
    ("device that is none", f"{USE} --out {{out}}/m --device tpu9", ("--device", "tpu9")),
    ("classes that are none", f"{USE} --out {{out}}/m --classes no.Such", ("--classes no.Such",)),
    (
        "draws of nothing",
        "posterior --model {place}/model --data {place}/test.jsonl --draws 0 --out {out}/p.nc",
        ("--draws is 0", "at least 1"),
    ),
    (
        "draws as another format",
        "posterior --model {place}/model --data {place}/test.jsonl --out {out}/p.json",
        ("p.json", "ends in .nc"),
    ),
    ("no pairs to simulate", "simulate --out {out}/d --pairs 0", ("pairs",)),
    (
        "noise that is none",
        "simulate --out {out}/d --label_noise 3",
        ("label_noise", "3"),
    ),
    (
        "store of a store",
        "features --data {place}/store --out {out}/s",
        ("is already a feature store",),
    ),
    (
        "states of another backbone",
        "train --data.train {place}/store --model.max_length 50 --train.output_dir {out}/run",
        ("model.max_length is 50", "60"),
    ),
    (
        "config that is not there",
        "train --config {out}/no.yaml",
        ("no such file", "shipped one: bayesian_head, bradley_terry, bradley_terry_laplace"),
    ),
    ("doctor on states", "doctor --data {place}/store", ("is a feature store",)),
]

# Root may write anywhere.
if hasattr(os, "geteuid") and os.geteuid() != 0:
    OPTIONS.append(("a place one may not write", f"{USE} --out /m.json", ("/m.json",)))
