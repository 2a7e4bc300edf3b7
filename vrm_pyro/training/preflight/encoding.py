"""Check how texts reach the backbone: template, boundary, truncation, effect of batching."""

import unicodedata
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.backbone import Backbone, TransformerBackbone
from vrm_pyro.backbone.layout import TokenSequence
from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.data.turns import without_reasoning
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.reward_model import RewardModel
from vrm_pyro.training.preflight.check import Check

NUM_TEXTS: Final = 64
CUT_LIMIT: Final = 0.1
# Agreement of a reward computed alone and in a batch (spec 5.7).
DRIFT_LIMITS: Final = {"float32": 1e-4, "bfloat16": 3e-2}


def check_encoding(
    backbone: TransformerBackbone, table: PreferenceTable, num_texts: int = NUM_TEXTS
) -> list[Check]:
    """Return two checks: template and boundary, and truncated texts."""
    rows = _sample(table, num_texts)
    sequences = _encode(backbone, table, rows)
    return [check_boundary(backbone, table, rows, sequences), check_cuts(backbone, sequences)]


def check_boundary(
    backbone: TransformerBackbone,
    table: PreferenceTable,
    rows: NDArray[np.int64],
    sequences: list[TokenSequence],
) -> Check:
    """Check that the tokens after the boundary decode to the response, with one BOS."""
    name = "template and boundary"
    bos = backbone.tokenizer.bos_token_id
    doubled = sum(
        len(s) > 1 and bos is not None and s.input_ids[0] == s.input_ids[1] == bos
        for s in sequences
    )
    if doubled:
        return Check(
            name,
            "fail",
            f"{doubled} of {len(sequences)} texts begin with two {backbone.tokenizer.bos_token}",
            "Both text and template contain the token: remove it from the rows.",
        )
    wrong = []
    for row, sequence in zip(rows, sequences, strict=True):
        ids = sequence.input_ids[sequence.boundary : sequence.response_end]
        spelled = _letters(str(backbone.tokenizer.decode(ids, skip_special_tokens=True)))
        # Without reasoning: some templates move or drop it, and open an empty part of their own.
        meant = _letters(without_reasoning(table.responses[row]))
        cut = sequence.response_truncated and spelled
        if meant[:20] not in spelled and not (cut and spelled[-5:] in meant):
            wrong.append(int(row))
    finding = (
        f"{len(sequences) - len(wrong)} of {len(sequences)} responses are spelled by the tokens "
        f"after the boundary (template: {backbone.chat.template})"
    )
    if len(wrong) > 0.1 * len(sequences):
        return Check(
            name,
            "fail",
            f"{finding}; not, for one: {table.responses[wrong[0]][:60]!r}",
            "Does the tokenizer know this language, and does the chat template write the "
            "response unchanged?",
        )
    return Check(name, "ok", finding)


def check_cuts(backbone: Backbone, sequences: list[TokenSequence]) -> Check:
    """Check how many texts are longer than ``max_length``."""
    tokens = np.median([len(s) for s in sequences])
    responses = float(np.mean([s.response_truncated for s in sequences]))
    prompts = float(np.mean([s.prompt_truncated for s in sequences]))
    finding = (
        f"median {tokens:.0f} of {backbone.max_length} tokens, {responses:.0%} of the responses "
        f"lose their end, {prompts:.0%} of the prompts their beginning"
    )
    if max(responses, prompts) > CUT_LIMIT:
        return Check(
            "length in tokens",
            "warn",
            finding,
            "Raise model.max_length if the backbone allows it; time grows with it.",
        )
    return Check("length in tokens", "ok", finding)


def check_drift(
    backbone: Backbone,
    table: PreferenceTable,
    model: RewardModel | None = None,
    num_texts: int = NUM_TEXTS // 2,
) -> Check:
    """Check that a response scores the same alone and in a padded batch.

    Args:
        backbone: The backbone.
        table: Rows to take texts from.
        model: Compares rewards of this model; states, relative to their size, when omitted.
        num_texts: How many responses to compare.
    """
    rows = _sample(table, num_texts)
    sequences = _encode(backbone, table, rows)
    together = backbone.states(sequences)
    alone = np.concatenate([backbone.states([s]) for s in sequences])
    if model is None:
        what, size = "states", float(np.sqrt((together**2).mean()))
        drift = float(np.abs(together - alone).max()) / max(size, 1e-12)
    else:
        what = "rewards"
        prompts, owner = np.unique(table.response_prompt[rows], return_inverse=True)
        texts = backbone.encode_prompts([table.prompts[i] for i in prompts])
        drift = float(
            np.abs(_rewards(model, texts, together, owner) - _rewards(model, texts, alone, owner))
            .max()
            .item()
        )
    limit = DRIFT_LIMITS[backbone.precision]
    finding = (
        f"{what} of {len(rows)} responses alone and in a batch differ by at most {drift:.1e} "
        f"({backbone.precision})"
    )
    if drift > limit:
        return Check(
            "batch size",
            "warn",
            finding,
            f"More than {limit:g}: near ties may flip with the batch. Use float32 to compare "
            "close responses, and report the precision.",
        )
    return Check("batch size", "ok", finding)


def _rewards(
    model: RewardModel,
    prompts: NDArray[np.float32],
    responses: NDArray[np.float32],
    owner: NDArray[np.int64],
) -> NDArray[np.float64]:
    none = torch.zeros(0)
    with evaluation_mode(model) as device:
        batch = FeatureBatch(
            torch.from_numpy(prompts),
            torch.from_numpy(responses),
            torch.from_numpy(owner),
            none.long(),
            none.long(),
            none,
            none,
            torch.zeros(len(responses), 0),
            torch.zeros(len(responses), 0, dtype=torch.bool),
        ).to(device)
        return model.predict_responses(batch).reward.mean.double().cpu().numpy()


def _sample(table: PreferenceTable, count: int) -> NDArray[np.int64]:
    """Return responses spread evenly over the table."""
    count = min(count, table.num_responses)
    return np.linspace(0, table.num_responses - 1, count).round().astype(np.int64)


def _encode(
    backbone: Backbone, table: PreferenceTable, rows: NDArray[np.int64]
) -> list[TokenSequence]:
    responses = [table.responses[j] for j in rows]
    return backbone.sequences(table.prompts, responses, table.response_prompt[rows])


def _letters(text: str) -> str:
    """Return letters and digits alone, without case or accents: what every tokenizer keeps."""
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(c for c in plain if c.isalnum())
