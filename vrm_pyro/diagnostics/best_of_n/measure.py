"""Measure best-of-n against a gold reward."""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.diagnostics.best_of_n.estimator import Floats, expected_best, surest_mean
from vrm_pyro.diagnostics.best_of_n.result import Z_90, BestOfN
from vrm_pyro.diagnostics.best_of_n.rules import GroupScores, group_scores
from vrm_pyro.diagnostics.metrics.bootstrap import prompt_bootstrap
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.features.reading import DataLike, read_data, rows_of
from vrm_pyro.prediction.opening import ModelLike, as_model, model_name, read_inputs
from vrm_pyro.prediction.scorer.scorer import UnlabelledStates

KS: Final = (0.0, 0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)
"""Values of k that validation prompts choose among."""
COVERAGE: Final = np.round(np.arange(0.3, 1.01, 0.1), 2)
ABSTAIN: Final = 0.3
"""Share of the least sure choices whose removal is tested."""


def best_of_n(
    model: ModelLike,
    data: DataLike,
    gold: str,
    *,
    against: Sequence[ModelLike] = (),
    validation: DataLike | None = None,
    k: float = 1.0,
    level: float = 0.1,
    max_n: int | None = None,
    seed: int = 0,
    split: str = "train",
    skip_invalid: bool = False,
    device: str | torch.device = "auto",
    dtype: str | None = None,
    progress: bool = False,
    cache: bool = False,
) -> BestOfN:
    """Measure the gold reward of the best of n candidates, by rule of choosing, for every n.

    ::

        found = vrm_pyro.best_of_n("runs/rated", "candidates.jsonl", "overall")
        print(found)

    Rules of the model: ``mean``, ``lower_bound`` (mean - k sd), ``quantile``, ``p_best``, and
    ``minimum`` over the members of an ensemble (or draws of uncertain parameters); of each other
    model its ``mean``, and ``minimum`` likewise. ``longest`` and ``gold`` itself stand beside.
    Scores are relative to all candidates of the prompt. Estimates are unbiased
    (:func:`~vrm_pyro.diagnostics.best_of_n.estimator.expected_best`), intervals are over prompts.

    Args:
        model: A trained model in any form.
        data: Rows with candidates and their gold rewards, as ratings of one objective: single
            responses with ``ratings``, or several ``responses`` with a list of ``ratings``. Equal
            texts count once.
        gold: Name of that objective.
        against: Further models, whose rules are compared with those of the first.
        validation: Rows likewise, by which k is chosen: the value with the highest gold reward at
            ``max_n``, the smallest of equal ones. ``k`` is used when omitted.
        k: Standard deviations that ``lower_bound`` subtracts.
        level: Level of ``quantile``, in (0, 1).
        max_n: Largest n; prompts with fewer candidates are left out. By default the number of
            candidates that half of the prompts have.
        seed: Seed of draws and of resampling.
        split: Split of a Hub id.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        device: Where backbones run.
        dtype: Their precision; that of training when omitted.
        progress: Whether to show a progress bar while texts are encoded.
        cache: Whether to use the disk cache of states.

    Raises:
        InputError: If rows or models cannot be read, no row rates ``gold``, or no prompt has
            ``max_n`` candidates.
    """
    if not 0 < level < 1:
        raise InputError(f"best-of-n: level is {level}, but must lie between 0 and 1.")
    if not np.isfinite(k) or k < 0:
        raise InputError(f"best-of-n: k is {k}, but must be 0 or more.")
    settings: dict[str, Any] = {"device": device, "dtype": dtype, "progress": progress}
    settings["cache"] = cache

    def read(rows: DataLike, most: int | None) -> _Candidates:
        table = rows_of(read_data(rows, skip_invalid=skip_invalid, split=split, every_row=True))
        return _candidates(table, gold, most)

    tried: dict[float, float] | None = None
    if validation is not None:
        held = read(validation, None)
        scores = _scores(model, held, level, seed, settings)
        found_of = {x: float(held.curves(scores.mean - x * scores.sd)[:, -1].mean()) for x in KS}
        tried = found_of
        k = max(KS, key=lambda x: (found_of[x], -x))
    used = read(data, max_n)
    first = _scores(model, used, level, seed, settings)
    rules = {
        "mean": first.mean,
        "lower_bound": first.mean - k * first.sd,
        "quantile": first.quantile,
        "p_best": first.p_best,
    }
    if first.minimum is not None:
        rules["minimum"] = first.minimum
    others = []
    for other in against:
        found = _scores(other, used, level, seed, settings)
        name = model_name(other)
        others.append(f"{name} mean")
        rules[f"{name} mean"] = found.mean
        if found.minimum is not None:
            others.append(f"{name} minimum")
            rules[f"{name} minimum"] = found.minimum
    rules["longest"] = used.length
    rules["gold"] = used.gold
    curves = {name: used.curves(score) for name, score in rules.items()}
    own = [name for name in rules if name not in (*others, "longest", "gold")]
    pairs = [(name, "mean") for name in own[1:]] + [(a, b) for a in own for b in others]
    return BestOfN(
        {
            "model": model_name(model),
            "gold": gold,
            "n_prompts": used.num_prompts,
            "n_candidates": len(used.gold),
            "prompts_left_out": used.left_out,
            "max_n": used.max_n,
            "k": k,
            "k_on_validation": None if tried is None else {str(x): v for x, v in tried.items()},
            "level": level,
            "rules": {name: _summary(curve) for name, curve in curves.items()},
            "differences": [
                {"rule": a, "against": b, **_summary(curves[a] - curves[b])} for a, b in pairs
            ],
            "selective": {
                name: used.selective(rules[name], first.p_above, seed)
                for name in ("mean", "lower_bound")
            },
        }
    )


class _Candidates(NamedTuple):
    """Candidates with a gold reward, by prompt.

    Attributes:
        table: Rows of the prompts that are used.
        which: Candidates among the responses of the table, (C,), grouped by prompt.
        gold: Their gold rewards, (C,).
        length: Their characters, (C,).
        ends: Where the candidates of prompt i begin and end, (P + 1,).
        max_n: Largest n.
        left_out: Prompts with fewer candidates.
    """

    table: PreferenceTable
    which: NDArray[np.int64]
    gold: Floats
    length: Floats
    ends: NDArray[np.int64]
    max_n: int
    left_out: int

    @property
    def num_prompts(self) -> int:
        return len(self.ends) - 1

    def groups(self) -> list[slice]:
        """Return the candidates of each prompt."""
        return [slice(a, b) for a, b in zip(self.ends[:-1], self.ends[1:], strict=True)]

    def curves(self, score: Floats) -> Floats:
        """Return the expected gold reward of the best of n of each prompt, (P, max_n)."""
        return np.array(
            [expected_best(score[own], self.gold[own], self.max_n) for own in self.groups()]
        )

    def selective(self, score: Floats, p_above: Floats, seed: int) -> dict[str, Any]:
        """Return what abstaining on the least sure choices does to the gain over a random one."""
        best = [own.start + int(np.argmax(score[own])) for own in self.groups()]
        gain = np.array(
            [
                self.gold[b] - self.gold[own].mean()
                for b, own in zip(best, self.groups(), strict=True)
            ]
        )
        sure = p_above[best]

        def statistic(weight: Floats) -> Floats:
            curve = surest_mean(sure, gain, weight, COVERAGE)
            rest = surest_mean(sure, gain, weight, np.array([1 - ABSTAIN, 1.0]))
            return np.append(curve, rest[0] - rest[1])

        one = np.ones(len(gain))
        found = statistic(one)
        low, high = np.quantile(
            prompt_bootstrap(statistic, one, np.arange(len(gain)), seed=seed), (0.05, 0.95), axis=0
        )
        return {
            "coverage": COVERAGE.tolist(),
            "gain": found[:-1].tolist(),
            "lower": low[:-1].tolist(),
            "upper": high[:-1].tolist(),
            "raised_by_abstaining": {
                "share": ABSTAIN,
                "difference": float(found[-1]),
                "lower": float(low[-1]),
                "upper": float(high[-1]),
            },
        }


def _candidates(table: PreferenceTable, gold: str, max_n: int | None) -> _Candidates:
    if gold not in table.objectives:
        names = ", ".join(table.objectives) or "nothing"
        raise InputError(
            f"best-of-n: no row rates {gold!r}{did_you_mean(gold, table.objectives)} Rated are: "
            f"{names}."
        )
    values = table.ratings[:, table.objectives.index(gold)]
    rated = np.flatnonzero(~np.isnan(values))
    counts = np.bincount(table.response_prompt[rated], minlength=table.num_prompts)
    some = counts[counts > 1]
    if max_n is None:
        max_n = int(np.quantile(some, 0.5, method="lower")) if len(some) else 2
    if max_n < 2:
        raise InputError(f"best-of-n: max_n is {max_n}, but must be at least 2.")
    enough = counts >= max_n
    if not enough.any():
        most = int(counts.max(initial=0))
        raise InputError(
            f"best-of-n: no prompt has {max_n} candidates with a rating of {gold!r}; the most is "
            f"{most}. Give rows with more, or a smaller max_n."
        )
    part = table.select_prompts(enough)
    values = part.ratings[:, part.objectives.index(gold)]
    which = np.flatnonzero(~np.isnan(values))
    which = which[np.argsort(part.response_prompt[which], kind="stable")]
    ends = np.searchsorted(part.response_prompt[which], np.arange(part.num_prompts + 1))
    length = np.array([float(len(part.responses[j])) for j in which])
    left_out = int((~enough & (counts > 0)).sum())
    return _Candidates(part, which, values[which], length, ends, max_n, left_out)


def _scores(
    model: ModelLike, used: _Candidates, level: float, seed: int, settings: dict[str, Any]
) -> GroupScores:
    """Return the scores of the candidates, in their order."""
    source = read_inputs(model, used.table, **settings).source
    size = len(used.which)
    none = np.zeros(0, dtype=np.int64)
    states = UnlabelledStates(
        prompts=np.asarray(source.prompts),
        responses=np.asarray(source.responses)[used.which],
        response_prompt=used.table.response_prompt[used.which],
        pair_first=none,
        pair_second=none,
        preference=np.zeros(0),
        pair_weight=np.zeros(0),
        ratings=np.zeros((size, 0)),
    )
    return group_scores(as_model(model).model, states, level, seed)


def _summary(curves: Floats) -> dict[str, list[float]]:
    """Return means over prompts with 90% intervals, by n from 1."""
    mean = curves.mean(0)
    error = curves.std(0, ddof=1) / len(curves) ** 0.5 if len(curves) > 1 else np.zeros_like(mean)
    return {
        "mean": mean.tolist(),
        "se": error.tolist(),
        "lower": (mean - Z_90 * error).tolist(),
        "upper": (mean + Z_90 * error).tolist(),
    }
