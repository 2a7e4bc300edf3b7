"""The model card of an exported model."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import vrm_pyro
from vrm_pyro.integrations.huggingface.writing import ExportSettings, backbone_id
from vrm_pyro.models.checkpoint import LoadedModel

FIGURE: Final = "reliability.png"

RATES: Final = {
    "accuracy": "accuracy",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "calibration error (ECE)",
}


@dataclass(frozen=True)
class CardMetrics:
    """Metrics on rows, as the card shows them.

    Args:
        rows: Description of the rows.
        metrics: Result of :func:`vrm_pyro.diagnostics.evaluate.evaluate`.
        figure: File name of a reliability diagram in the same folder; None without one.
    """

    rows: str
    metrics: Mapping[str, Any]
    figure: str | None = None


@dataclass(frozen=True)
class Origin:
    """Facts about training, from the folder of a run.

    Args:
        training: Facts of the rows and the steps, from ``metrics.json``.
        validation: Metrics on the validation rows; None without validation rows.
        data: Names of the files or data sets of the training rows, without folders.
    """

    training: Mapping[str, Any] = field(default_factory=dict)
    validation: CardMetrics | None = None
    data: tuple[str, ...] = ()


def origin_of(metrics: Mapping[str, Any] | None, settings: Mapping[str, Any] | None) -> Origin:
    """Return the facts about training in the files of a run.

    Args:
        metrics: Content of ``metrics.json``; None if missing.
        settings: Content of ``config.yaml``; None if missing.
    """
    names = ((settings or {}).get("data") or {}).get("train") or ()
    names = [names] if isinstance(names, str) else names
    data = tuple(_short_name(str(name)) for name in names)
    if metrics is None:
        return Origin(data=data)
    rows = "rows held out from training; they chose the epoch that was kept"
    return Origin(dict(metrics.get("training") or {}), CardMetrics(rows, metrics), data)


def model_card(
    name: str,
    loaded: LoadedModel,
    origin: Origin,
    settings: ExportSettings,
    evaluation: CardMetrics | None = None,
) -> str:
    """Return the text of ``README.md``.

    Args:
        name: Name of the model.
        loaded: The model.
        origin: Facts about its training.
        settings: Settings of the export.
        evaluation: Metrics on the user's rows; None without any.
    """
    parts = [
        _front_matter(loaded),
        f"# {name}",
        _what(loaded),
        _use(loaded),
        "## Training data\n\n" + _data(loaded, origin),
        "## Metrics\n\n" + _metrics(origin, evaluation),
        "## Limits\n\n" + _limits(loaded, origin, settings),
        "## License\n\n" + _license(loaded),
    ]
    return "\n\n".join(parts) + "\n"


def _front_matter(loaded: LoadedModel) -> str:
    lines = [
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "tags:",
        "- reward-model",
        "- vrm_pyro",
    ]
    name = backbone_id(loaded.backbone["name"])
    if "/" in name:
        lines.append(f"base_model: {json.dumps(name)}")
    return "\n".join(["---", *lines, "---"])


def _what(loaded: LoadedModel) -> str:
    name = backbone_id(loaded.backbone["name"])
    how = {"lora": "trained with a low-rank adapter", "full": "trained with the heads"}
    backbone = f"`{name}`, {how.get(loaded.backbone.get('tuned', ''), 'kept frozen')}"
    text = f"A reward model of vrm_pyro {vrm_pyro.__version__} on the backbone {backbone}."
    if "file_sha256" in loaded.backbone:
        text += f" The backbone is from a GGUF file with SHA-256 {loaded.backbone['file_sha256']}."
    if not loaded.config.has_latents:
        return text + " It is a Bradley-Terry model: one reward for each response, no spread."
    objectives = ", ".join(loaded.objectives)
    unit = (
        "Ratings of these objectives were observed in training, so scores are expected ratings."
        if loaded.rated
        else "No ratings were observed in training: objectives are interchangeable, and neither "
        "weights nor scores can be interpreted."
    )
    if len(loaded.objectives) == 1:
        return (
            f"{text} It gives each response a distribution of the reward, by a score on one "
            f"objective ({objectives}): there are no weights. {unit}"
        )
    return (
        f"{text} It gives each response a distribution of the reward: weights of the objectives "
        f"({objectives}) follow from the prompt, scores on them from the response. {unit}"
    )


def _use(loaded: LoadedModel) -> str:
    more = (
        "out.reward_sd, out.weights, out.scores  # (B,), (B, K), (B, K)\n"
        if loaded.config.has_latents
        else ""
    )
    return f"""## Use

```python
import torch
import vrm_pyro.integrations.huggingface  # registers the class; no code comes with these weights
from transformers import AutoModelForSequenceClassification, AutoTokenizer

model = AutoModelForSequenceClassification.from_pretrained(path, num_labels=1)
tokenizer = AutoTokenizer.from_pretrained(path)
chat = [{{"role": "user", "content": "..."}}, {{"role": "assistant", "content": "..."}}]
text = tokenizer.apply_chat_template(chat, tokenize=False)
batch = tokenizer([text], return_tensors="pt", padding=True, add_special_tokens=False)
out = model(**batch)
out.logits[:, 0]  # mean reward, (B,)
{more}```

Trainers of TRL take the path as it is, once `vrm_pyro.integrations.huggingface` is imported. In a
pipeline, pass
`function_to_apply="none"`: a reward is no logit of a class."""


def _data(loaded: LoadedModel, origin: Origin) -> str:
    facts = origin.training
    if not facts and not origin.data:
        return "The folder of the run holds no record of them. Say here what they were."
    lines = []
    if origin.data:
        lines.append("Files or data sets: " + ", ".join(f"`{name}`" for name in origin.data) + ".")
    if "train_pairs" in facts:
        lines.append(
            f"{facts['train_pairs']:,} comparisons on {facts['train_prompts']:,} prompts"
            + (", with ratings of " + ", ".join(loaded.objectives) if loaded.rated else "")
            + "."
        )
    if name := facts.get("labels_are_sign_of"):
        meaning = (
            "all weight on it explains them, and nothing else about weights could be learned."
            if name in loaded.objectives
            else "weights say how it follows from the objectives."
        )
        lines.append(f"The labels are the sign of the ratings of {name}: {meaning}")
    elif facts.get("labels_are_function_of_ratings"):
        lines.append(
            "The labels are the sign of the mean rating difference: weights are 1/K by "
            "construction, and nothing about them could be learned."
        )
    lines.append(
        "What languages, topics and people they come from is not recorded; add it before you "
        "share the model."
    )
    return "\n".join(lines)


def _metrics(origin: Origin, evaluation: CardMetrics | None) -> str:
    known = [e for e in (origin.validation, evaluation) if e is not None]
    if not known:
        return "None were measured."
    parts = []
    for found in known:
        values = found.metrics
        ratings = values.get("ratings") or {}
        counts = [
            f"{values['n_pairs']:,} comparisons on {values['n_prompts']:,} prompts"
            if values["n_pairs"]
            else "",
            f"{ratings['n_ratings']:,} ratings" if ratings.get("n_ratings") else "",
        ]
        rows = [
            f"{' and '.join(filter(None, counts))}: {found.rows}.",
            "",
            "| rate | value | standard error, by prompt |",
            "| --- | --- | --- |",
        ]
        for held, key, words in (
            *((values, key, words) for key, words in RATES.items()),
            (ratings, "log_score", "log score of a rating"),
        ):
            if held.get(key) is not None:
                error = held.get(f"{key}_se")
                shown = "-" if error is None else f"{error:.3f}"
                rows.append(f"| {words} | {held[key]:.3f} | {shown} |")
        baseline = values.get("length_baseline") or {}
        if baseline.get("longest") is not None:
            rows += ["", f"The longer response is preferred in {baseline['longest']:.3f} of them."]
        if found.figure is not None:
            rows += ["", f"![Confidence against the share of right predictions]({found.figure})"]
        parts.append("\n".join(rows))
    return "\n\n".join(parts)


def _limits(loaded: LoadedModel, origin: Origin, settings: ExportSettings) -> str:
    limits = [
        "Compare rewards of responses to one prompt only: their level is not identified.",
        f"Texts are cut at {loaded.backbone.get('max_length', 512):,} tokens: the prompt's "
        "beginning first, then the response's end.",
        "A row of token ids is divided where the chat template last begins an answer. A response "
        "that writes those tokens itself moves the boundary: keep special tokens out of it.",
    ]
    if loaded.config.has_latents:
        over = [
            words
            for words, holds in (
                (
                    ", over what the training rows leave open of the head",
                    loaded.config.bayesian_head,
                ),
                (f", and over {len(loaded.members)} members", len(loaded.members) > 1),
            )
            if holds
        ] or [". It is not doubt about the network, and need not grow on unfamiliar text"]
        limits.insert(
            1,
            "`reward_sd` is how much the reward of this text varies over what w and z may be"
            f"{''.join(over)}.",
        )
    if settings.without_boundary == "whole_text":
        limits.append(
            "A row in which no answer begins is read as a whole, prompt and response alike, which "
            "is not how the model was trained."
        )
    if settings.dtype != "float32":
        limits.append(
            f"The backbone is stored in {settings.dtype}; rewards differ a little from those of "
            "the run, whose weights are float32."
        )
    if origin.validation is None:
        limits.append("No metrics came with the run.")
    limits.append("It was not tested on text in which people try to deceive it.")
    return "\n".join(f"- {line}" for line in limits)


def _license(loaded: LoadedModel) -> str:
    name = backbone_id(loaded.backbone["name"])
    return (
        "None is stated: it is for whoever shares the model to say. The weights hold those of the "
        f"backbone `{name}`, whose license applies to them, and were fitted to the training data, "
        "whose terms may apply, too. vrm_pyro itself is under Apache-2.0."
    )


def _short_name(name: str) -> str:
    local = Path(name).expanduser()
    return local.name if local.is_absolute() or local.exists() else name
