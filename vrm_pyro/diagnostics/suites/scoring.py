"""Score a benchmark with one model or several."""

from collections.abc import Sequence
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.rows import TableSpec
from vrm_pyro.data.source import FeatureSource
from vrm_pyro.diagnostics.evaluation import entry
from vrm_pyro.diagnostics.metrics.bootstrap import Difference
from vrm_pyro.diagnostics.metrics.pair_metrics import Estimate
from vrm_pyro.diagnostics.suites.beside import PairTable, beside
from vrm_pyro.diagnostics.suites.cases import CaseTable, case_table, read_cases
from vrm_pyro.diagnostics.suites.official import TOTAL, Official, official_scores
from vrm_pyro.diagnostics.suites.result import BenchmarkResult
from vrm_pyro.diagnostics.suites.suite import Case, Rewards, Suite
from vrm_pyro.diagnostics.suites.table import SUITES
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.features.memory import encode_table
from vrm_pyro.features.states import Features
from vrm_pyro.prediction.opening import ModelLike, as_scorer, log_losses, model_name
from vrm_pyro.prediction.scorer import Scorer, Scores, score_source

LEVEL = 0.9


def benchmark(
    suite: str,
    model: ModelLike,
    data: TableSpec,
    *,
    against: Sequence[ModelLike] = (),
    split: str | None = None,
    skip_invalid: bool = False,
    device: str | torch.device = "auto",
    dtype: str | None = None,
    progress: bool = False,
    cache: bool = False,
) -> BenchmarkResult:
    """Score a published benchmark of reward models by its official rule.

    ::

        found = vrm_pyro.benchmark("rewardbench2", "runs/rated", "allenai/reward-bench-2")
        print(found)

    Each completion is scored once. Beside the official sections stands what a model with
    uncertainty says about the same comparisons: calibration, accuracy by confidence, spread,
    weights and the effect of length (:func:`~vrm_pyro.diagnostics.suites.beside.beside`).

    Args:
        suite: ``rewardbench``, ``rewardbench2``, ``rm_bench``, ``judgebench``, ``rmb`` or ``ppe``.
        model: A trained model in any form.
        data: The published rows: files, patterns, Hub ids, rows as dicts, or a list of these.
        against: Further models, to be compared with the first on the same resampled prompts.
        split: Split of a Hub id; the one that the benchmark publishes when omitted.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        device: Where backbones run.
        dtype: Their precision; that of training when omitted.
        progress: Whether to show a progress bar while texts are encoded.
        cache: Whether to look for the states of texts on disk, and to keep them there.

    Raises:
        InputError: If there is no such benchmark, rows are not of it, or a model cannot be read.
    """
    if suite not in SUITES:
        raise InputError(
            f"benchmark: no benchmark {suite!r}{did_you_mean(suite, SUITES)} Choose one of "
            f"{', '.join(SUITES)}."
        )
    rule = SUITES[suite]
    cases, left_out = read_cases(rule, data, split, skip_invalid)
    texts = case_table(cases)
    pairs = _pair_table(rule, cases, texts)
    prompt = np.array([texts.table.response_prompt[held[0]] for held in texts.responses])
    scored: list[_Scored] = []
    for which in (model, *against):
        scorer = as_scorer(which, device=device, dtype=dtype)
        states = _states(scorer, texts, scored[-1] if scored else None, progress, cache)
        scores = score_source(scorer.model, cast(FeatureSource, states))
        rewards = [scores.reward[held].astype(np.float64) for held in texts.responses]
        official = official_scores(rule, rule.credits(cases, rewards), prompt)
        more = beside(scores, pairs, scorer.loaded.objectives)
        scored.append(_Scored(model_name(which), scorer, states, scores, rewards, official, more))
    first = scored[0]
    missing = [name for name in rule.needed if name not in first.official.names]
    content = {
        "suite": suite,
        "title": rule.title,
        "n_cases": len(cases),
        "n_completions": texts.num_completions,
        "left_out": left_out,
        "missing_sections": missing,
        "models": [found.values() for found in scored],
        "differences": [_differences(first, other) for other in scored[1:]],
    }
    return BenchmarkResult(content, rule.record(cases, first.rewards, first.name))


class _Scored(NamedTuple):
    """One model on the benchmark."""

    name: str
    scorer: Scorer
    states: Features
    scores: Scores
    rewards: list[Rewards]
    official: Official
    beside: dict[str, Any]

    def values(self) -> dict[str, Any]:
        """Return its part of the JSON."""
        official = self.official
        errors = official.standard_error()
        sections: dict[str, float | None] = {}
        for name, value, error in zip(official.names, official.values, errors, strict=True):
            sections |= entry(name, Estimate(float(value), float(error)))
        return {
            "model": self.name,
            TOTAL: sections[TOTAL],
            "sections": sections,
            "subsets": official.subsets,
            "beside": self.beside,
        }


def _states(
    scorer: Scorer, texts: CaseTable, before: _Scored | None, progress: bool, cache: bool
) -> Features:
    """Return the states of all texts; those of the model before if its backbone is the same."""
    if before is not None and _backbone(before.scorer) == _backbone(scorer):
        return before.states
    states = encode_table(
        texts.table, scorer.backbone, drop_identical=False, progress=progress, cache=cache
    )
    log_losses(states.rows, "texts")
    return states


def _backbone(scorer: Scorer) -> Any:
    """Return what the states of a text depend on."""
    return scorer.loaded.backbone, scorer.loaded.config.dtype


def _pair_table(suite: Suite, cases: Sequence[Case], texts: CaseTable) -> PairTable:
    index = np.concatenate(texts.pairs)
    counts = np.array([len(held) for held in texts.pairs])
    table = texts.table
    first = table.pair_first[index]
    return PairTable(
        index,
        first,
        table.pair_second[index],
        np.repeat([suite.section(case.subset) for case in cases], counts),
        np.repeat(1 / np.maximum(counts, 1), counts),
        table.response_prompt[first],
        np.array([len(text) for text in table.responses]),
    )


def _differences(first: _Scored, other: _Scored) -> dict[str, Any]:
    """Return first minus other in each section, with 90% limits over the same prompts."""
    gaps = first.official.draws - other.official.draws
    values = first.official.values - other.official.values
    return {
        "against": other.name,
        "level": LEVEL,
        "sections": {
            name: _difference(float(value), draws)
            for name, value, draws in zip(first.official.names, values, gaps.T, strict=True)
        },
    }


def _difference(value: float, draws: NDArray[np.float64]) -> dict[str, float] | None:
    """Return a difference as JSON values; None for a total that lacks a section."""
    if not np.isfinite(value):
        return None
    found = Difference.of_draws(value, draws[np.isfinite(draws)], LEVEL)
    return {
        "difference": found.difference,
        "standard_error": found.standard_error,
        "lower": found.lower,
        "upper": found.upper,
    }
