"""Distil a reward model into a scalar one that vLLM and SGLang host as it is.

The scalar model is the backbone with one linear map of the last token's state, of the class that
transformers has for it, such as ``LlamaForSequenceClassification``. Its spread, weights and scores
are gone, and its reward is an approximation; the model card says how good.
"""

import copy
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import spearmanr
from torch import nn
from transformers import AutoModelForSequenceClassification

from vrm_pyro.atomic import write_directory
from vrm_pyro.backbone import TransformerBackbone, quiet_transformers
from vrm_pyro.backbone.batching import pad_batch
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, data_name
from vrm_pyro.integrations.huggingface.boundary import ANSWERS, PROMPTS, answered, render_ids
from vrm_pyro.integrations.huggingface.exported_template import exported_tokenizer
from vrm_pyro.integrations.huggingface.writing import require_transformer, take_backbone
from vrm_pyro.prediction.opening import ModelLike, as_model, as_scorer, read_inputs
from vrm_pyro.prediction.scorer import Scorer, score_source

Floats = NDArray[np.float64]

_FOLDS: Final = 5
# Ridge penalties, in units of the mean variance of a coordinate.
_PENALTIES: Final = tuple(10.0**power for power in range(-4, 4))
_EXACT: Final = 1e-3
_FEWEST: Final = 20


class Loss(NamedTuple):
    """What a scalar model keeps of the full one, on prompts that it was not fitted on.

    Attributes:
        kind: Kind of prompt; ``all`` for all of them.
        responses: Number of responses.
        r2: Share of the variance of E[r] that it explains, levels of prompts included.
        r2_within: The same of differences within prompts; NaN without any.
        agreement: Share of the pairs of the rows that it orders as the full model; NaN without.
        accuracy: Its accuracy on their labels.
        accuracy_full: That of the full model.
        rank_correlation: Mean over prompts with three responses or more of Spearman's rank
            correlation with the full model; NaN without any.
    """

    kind: str
    responses: int
    r2: float
    r2_within: float
    agreement: float
    accuracy: float
    accuracy_full: float
    rank_correlation: float


@dataclass(frozen=True)
class ScalarExport:
    """A scalar model in a folder, and what it lost.

    Args:
        path: The folder.
        penalty: The ridge penalty that was chosen.
        loss: What is kept, of all responses first, then by kind of prompt.
    """

    path: Path
    penalty: float
    loss: tuple[Loss, ...]

    def __fspath__(self) -> str:
        return str(self.path)


def export_scalar(
    model: ModelLike,
    out: str | os.PathLike[str],
    data: DataLike,
    *,
    dtype: str = "float32",
    max_shard_size: str = "5GB",
    backbone: str | None = None,
    device: str | torch.device = "auto",
    skip_invalid: bool = False,
    split: str = "train",
    overwrite: bool = False,
    cache: bool = True,
    progress: bool = False,
) -> ScalarExport:
    """Fit a linear head to E[r] on rows, and write a plain sequence classifier with one label.

    The folder is loaded once, and its rewards are compared with those of the head.

    Args:
        model: The folder of a run, a loaded model or a scorer; its backbone reads from left to
            right, and its states begin with that of the last token (pooling ``last`` or
            ``last+mean``).
        out: The folder to write.
        data: Rows with prompts and responses, as different as those that will be scored; labels
            and ratings are not needed. Subsets are the kinds of prompts.
        dtype: Precision of the weights in the folder.
        max_shard_size: Largest file of weights.
        backbone: Where the model's backbone is now, if it was moved.
        device: Where the backbone runs.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        overwrite: Whether to replace a folder that holds files.
        cache: Whether to use the disk cache of states.
        progress: Whether to show a progress bar while texts are encoded.

    Raises:
        InputError: If the backbone does not fit, there are too few rows, or the written model
            does not give the rewards of its head.
    """
    loaded = as_model(model)
    refuse_input_as_output(out, [data, loaded.directory, loaded.backbone.get("name"), backbone])
    scorer = as_scorer(model, backbone=backbone, device=device, dtype="float32")
    found = _check_backbone(scorer)
    inputs = read_inputs(
        scorer, data, skip_invalid=skip_invalid, split=split, cache=cache, progress=progress
    )
    module: Any = found.module_under_adapters
    width = int(module.config.get_text_config().hidden_size)
    states = np.asarray(inputs.source.responses[np.arange(inputs.table.num_responses)])
    last = states[:, :width].astype(np.float64)
    rewards = score_source(scorer.model, inputs.source).reward.astype(np.float64)
    prompt = np.asarray(inputs.table.response_prompt)
    if len(np.unique(prompt)) < _FEWEST:
        raise InputError(
            f"{len(np.unique(prompt))} prompts are too few to fit {width} numbers and to say what "
            f"is lost; give rows with {_FEWEST} at least, better thousands."
        )
    penalty, outside = _choose_penalty(last, rewards, prompt)
    head = _ridge(last, rewards, penalty)[0]
    loss = _losses(inputs.table, rewards, outside)
    with write_directory(out, overwrite=overwrite) as partial:
        with quiet_transformers():
            _write(scorer, head, partial, dtype, max_shard_size)
        card = _card(Path(out).resolve().name, data_name(data), len(rewards), penalty, loss)
        (partial / "README.md").write_text(card, encoding="utf-8")
    return ScalarExport(Path(out), penalty, loss)


def _check_backbone(scorer: Scorer) -> TransformerBackbone:
    backbone = require_transformer(scorer.backbone)
    if not backbone.is_decoder or backbone.pooling not in ("last", "last+mean"):
        raise InputError(
            f"backbone {backbone.name} with pooling {backbone.pooling}: a scalar model reads the "
            "last token of a decoder. Train with a decoder and --model.pooling last or last+mean; "
            "or serve this model with vrm-pyro serve."
        )
    if backbone.chat.chat_template is None:
        raise InputError(
            f"backbone {backbone.name}: it has no chat template, so engines would write other "
            "texts than those it was trained on. Serve it with vrm-pyro serve."
        )
    return backbone


def _ridge(states: Floats, rewards: Floats, penalty: float) -> tuple[Floats, float]:
    """Return weights and intercept that minimise squared error plus the penalised weights."""
    mean, level = states.mean(0), rewards.mean()
    centred = states - mean
    scale = max(float(centred.var(0).mean()), 1e-12)
    gram = centred.T @ centred
    gram[np.diag_indices_from(gram)] += penalty * scale * len(states)
    weights = np.linalg.solve(gram, centred.T @ (rewards - level))
    return weights, float(level - mean @ weights)


def _choose_penalty(
    states: Floats, rewards: Floats, prompt: NDArray[np.int64]
) -> tuple[float, Floats]:
    """Return the penalty with the least squared error on prompts left out, and predictions."""
    order = np.random.default_rng(0).permutation(prompt.max() + 1)
    fold = order[prompt] % _FOLDS
    best, kept = np.inf, (0.0, rewards)
    for penalty in _PENALTIES:
        outside = np.empty_like(rewards)
        for f in range(_FOLDS):
            weights, level = _ridge(states[fold != f], rewards[fold != f], penalty)
            outside[fold == f] = states[fold == f] @ weights + level
        error = float(((outside - rewards) ** 2).mean())
        if error < best:
            best, kept = error, (penalty, outside)
    return kept


def _losses(table: PreferenceTable, full: Floats, scalar: Floats) -> tuple[Loss, ...]:
    """Return what is kept, of all responses and by kind of prompt."""
    kinds = _kinds(table)
    names = sorted({kind for kind in kinds if kind is not None})
    found = [_loss("all", table, full, scalar, np.ones(len(full), dtype=bool))]
    for name in names if len(names) > 1 else ():
        found.append(_loss(name, table, full, scalar, np.array([k == name for k in kinds])))
    return tuple(found)


def _kinds(table: PreferenceTable) -> list[str | None]:
    """Return the subset of each response, of its own or of its pairs."""
    kinds: list[str | None] = list(table.response_subset)
    for n, name in enumerate(table.pair_subset):
        for j in (int(table.pair_first[n]), int(table.pair_second[n])):
            kinds[j] = kinds[j] or name
    return kinds


def _loss(
    kind: str, table: PreferenceTable, full: Floats, scalar: Floats, kept: NDArray[np.bool_]
) -> Loss:
    prompt = np.asarray(table.response_prompt)
    pairs = np.flatnonzero(kept[table.pair_first])
    first, second = table.pair_first[pairs], table.pair_second[pairs]
    label = table.preference[pairs]
    by_full, by_scalar = full[first] > full[second], scalar[first] > scalar[second]
    told = label != 0.5
    ranks = []
    for p in np.unique(prompt[kept]):
        own = kept & (prompt == p)
        if own.sum() > 2 and np.ptp(full[own]) > 0 and np.ptp(scalar[own]) > 0:
            ranks.append(float(spearmanr(full[own], scalar[own]).statistic))
    within = [_within(values, prompt)[kept] for values in (full, scalar)]
    return Loss(
        kind,
        int(kept.sum()),
        _r2(full[kept], scalar[kept]),
        _r2(*within),
        _mean(by_full == by_scalar),
        _mean((by_scalar == (label > 0.5))[told]),
        _mean((by_full == (label > 0.5))[told]),
        _mean(ranks),
    )


def _within(values: Floats, prompt: NDArray[np.int64]) -> Floats:
    size = np.bincount(prompt)
    centred: Floats = values - (np.bincount(prompt, values) / np.maximum(size, 1))[prompt]
    return centred


def _r2(truth: Floats, found: Floats) -> float:
    spread = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - found) ** 2).sum()) / spread if spread > 1e-12 else float("nan")


def _mean(values: Sequence[float] | NDArray[Any]) -> float:
    return float(np.mean(values)) if len(values) else float("nan")


def _write(scorer: Scorer, head: Floats, folder: Path, dtype: str, max_shard_size: str) -> None:
    """Write the classifier and its tokenizer, load it, and compare it with its head."""
    backbone = require_transformer(scorer.backbone)
    conversations = [(p, a) for p in PROMPTS for a in ANSWERS[:2]]
    tokenizer = exported_tokenizer(backbone.chat)
    rows = [render_ids(tokenizer, answered(p, a), False) for p, a in conversations]
    known = [(ids, pair) for ids, pair in zip(rows, conversations, strict=True) if ids]
    expected = []
    for _, (prompt, answer) in known:
        source = scorer.encode([prompt], [answer])
        expected.append(float(source.responses[0][: len(head)].astype(np.float64) @ head))
    sequences = [s for _, (p, a) in known for s in backbone.chat.encode([p], [a])]
    module, _ = take_backbone(backbone, "merge")
    config = copy.deepcopy(module.config)
    config.num_labels, config._name_or_path = 1, ""
    config.get_text_config().pad_token_id = tokenizer.pad_token_id
    config.pad_token_id = tokenizer.pad_token_id
    with torch.device("meta"):
        try:
            made: Any = AutoModelForSequenceClassification.from_config(config)
        except ValueError as error:
            raise InputError(
                f"transformers has no sequence classifier for {config.model_type} models, so none "
                "can be written. Serve the model with vrm-pyro serve."
            ) from error
    kind = getattr(torch, dtype)
    setattr(made, made.base_model_prefix, module.to(kind))
    made.score = nn.Linear(len(head), 1, bias=False, device=module.device, dtype=kind)
    made.score.weight.data.copy_(torch.from_numpy(head)[None])
    made.config.dtype = dtype
    made.save_pretrained(folder, max_shard_size=max_shard_size)
    tokenizer.save_pretrained(folder)
    del made, module
    _compare(folder, sequences, np.array(expected), int(tokenizer.pad_token_id), dtype)


def _compare(
    folder: Path, sequences: Sequence[Any], expected: Floats, pad_id: int, dtype: str
) -> None:
    """Raise InputError unless the written model gives what its head gives of the states."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, num_labels=1).eval()
    batch = pad_batch(sequences, pad_id)
    with torch.no_grad():
        logits = model(batch.input_ids, attention_mask=batch.attention_mask).logits[:, 0]
    worst = float(np.abs(logits.float().numpy() - expected).max())
    spread = max(float(np.ptp(expected)), 0.1 * float(np.abs(expected).max()), 1e-4)
    limit = (_EXACT if dtype == "float32" else 0.15) * spread
    if not worst <= limit:
        raise InputError(
            f"the written model differs from its head by {worst:.3g} (at most {limit:.3g}): "
            "transformers pools another token for this tokenizer, whose padding may be the token "
            "that ends an answer. Serve the model with vrm-pyro serve."
        )


def _card(name: str, data: str, responses: int, penalty: float, loss: Sequence[Loss]) -> str:
    """Return the model card: what this is, and what it lost."""
    lines = [
        "---",
        "library_name: transformers",
        "pipeline_tag: text-classification",
        "---",
        "",
        f"# {name}",
        "",
        "A scalar reward model distilled from a variational one (vrm_pyro): one linear map of the "
        "last token's state, fitted to the mean reward. Any engine that hosts sequence "
        "classifiers with one label hosts it; the reward is the raw logit. Spread, weights of "
        "objectives and scores are gone: the full model has them.",
        "",
        f"Fitted by ridge regression (penalty {penalty:g}) on {responses} responses of "
        f"{Path(data).name if data != 'the rows' else 'rows given to the export'}. What it keeps "
        "of the full model, on prompts left out of the fit (five folds):",
        "",
        "| prompts | responses | R² | R² within prompts | same order of pairs | accuracy "
        "| accuracy of the full model | rank correlation |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in loss:
        cells = ["–" if np.isnan(value) else f"{value:.3f}" for value in row[2:]]
        lines.append(f"| {row.kind} | {row.responses} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])
