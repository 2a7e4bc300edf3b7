"""Run the trials of a search, and sum them up: choices, refits and comparisons."""

import itertools
import logging
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

import vrm_pyro
from vrm_pyro.atomic import write_file
from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError
from vrm_pyro.training.run.settings import RunSettings
from vrm_pyro.training.search.cells import cell_name, read_cell, run_cell
from vrm_pyro.training.search.configs import Candidate, config_text
from vrm_pyro.training.search.result import (
    BEST_FILE,
    Comparison,
    SearchedConfig,
    SearchResult,
    SearchTrial,
)
from vrm_pyro.training.search.rows import STATE_SETTINGS, SearchRows
from vrm_pyro.training.search.scores import (
    PairScores,
    compare,
    pair_scores,
    rates,
    within_one_error,
)
from vrm_pyro.training.search.trials import Claim, Entry, Trials

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Session:
    """A search in its folder.

    Args:
        out: The folder.
        rows: The rows, with folds and states.
        identity: JSON values that identify rows and folds.
        candidates: The configs by name.
        trials: Their trials, shared with other processes.
        budget: Trials of each config.
    """

    out: Path
    rows: SearchRows
    identity: dict[str, Any]
    candidates: Mapping[str, Candidate]
    trials: Trials
    budget: int

    def run(self, progress: bool) -> None:
        """Run trials until the budget is used."""
        for item in self.candidates.values():
            if not item.searched(STATE_SETTINGS):
                self.rows.prepare(item.base)
        total = self.budget * len(self.candidates)
        done = self.trials.num_finished()
        with (
            tqdm(
                total=total, initial=done, unit="trial", desc="search", disable=not progress
            ) as bar,
            closing(self.trials.claims()) as claims,
        ):
            for claim in claims:
                self._try(claim, bar)
                bar.n = self.trials.num_finished()
                bar.refresh()

    def _try(self, claim: Claim, bar: Any) -> None:
        """Run one trial; a combination of settings that cannot be trained is a failed one."""
        cells: list[str] = []
        total = mass = 0.0
        table, steps = self.rows.table, self.rows.steps()
        try:
            settings = self._settings(claim.config, claim.values)
            for step, (seed, fold) in enumerate(steps):
                bar.set_postfix_str(
                    f"{claim.config} trial {claim.number}, fold {step + 1}/{len(steps)}"
                )
                part = self.rows.part(settings, seed, fold)
                cell = run_cell(settings, part, self.identity, self.out)
                cells.append(cell_name(settings, part.name, self.identity))
                weight = table.pair_weight[part.pairs]
                loss = pair_scores([cell.p_first], table, part.pairs).log_loss
                total, mass = total + float(weight @ loss), mass + float(weight.sum())
                if claim.report(step, total / mass) and step + 1 < len(steps):
                    claim.finish("pruned", cells=cells)
                    return
        except InputError as error:
            log.warning("%s: trial %d failed: %s", claim.config, claim.number, error)
            claim.finish("failed", cells=cells, error=str(error))
            return
        claim.finish("complete", loss=total / mass, cells=cells)

    def conclude(self, pruning: bool) -> SearchResult:
        """Return the result, with the choices trained on all rows where there is a test."""
        found, held_out, tested = {}, {}, {}
        test_table = self.rows.test_table
        for name, item in self.candidates.items():
            entries = self.trials.entries(name)
            scores = {
                entry.number: self._held_out(entry)
                for entry in entries
                if entry.state == "complete"
            }
            if not scores:
                raise InputError(
                    f"{name}: none of {len(entries)} trials could be trained. The first says: "
                    f"{next((e.error for e in entries if e.error), 'nothing')}"
                )
            searched = [self._searched(entry, scores.get(entry.number)) for entry in entries]
            losses = {number: values.log_loss for number, values in scores.items()}
            best, close = within_one_error(losses, self.rows.table)
            chosen = min(
                (trial for trial in searched if trial.number in close),
                key=lambda trial: (trial.num_parameters, trial.number),
            )
            settings = self._settings(name, chosen.values)
            path = self.out / name / BEST_FILE
            text = config_text(settings, chosen.values, _comment(item, chosen, self.budget))
            with write_file(path) as partial:
                partial.write_text(text, encoding="utf-8")
            held_out[name] = scores[chosen.number]
            test_rates = None
            if test_table is not None:
                tested[name] = pair_scores(self._refit(settings), test_table)
                test_rates = rates(tested[name], test_table)
            found[name] = SearchedConfig(
                name, tuple(searched), best, close, chosen.number, path, test_rates
            )
        comparisons = _comparisons("held out", held_out, self.rows.table)
        if test_table is not None:
            comparisons += _comparisons("test", tested, test_table)
        table, plan = self.rows.table, self.rows.plan
        facts = {
            "version": vrm_pyro.__version__,
            "pairs": table.num_pairs,
            "prompts": table.num_prompts,
            "test_pairs": None if test_table is None else test_table.num_pairs,
            "test_prompts": None if test_table is None else test_table.num_prompts,
            "folds": plan.folds,
            "seeds": plan.seeds,
            "trials": self.budget,
            "pruning": pruning,
        }
        return SearchResult(self.out, facts, found, tuple(comparisons))

    def _settings(self, name: str, values: Mapping[str, Any]) -> RunSettings:
        settings = self.candidates[name].settings(values)
        self.rows.adopt(settings)
        return settings

    def _held_out(self, entry: Entry) -> PairScores:
        """Return the scores of all pairs from the trainings of a complete trial."""
        table = self.rows.table
        p_first = np.zeros((self.rows.plan.seeds, table.num_pairs))
        for (seed, fold), name in zip(self.rows.steps(), entry.cells, strict=True):
            pairs = self.rows.held_out_pairs(seed, fold)
            p_first[seed, pairs] = read_cell(self.out, name, len(pairs)).p_first
        return pair_scores(list(p_first), table)

    def _searched(self, entry: Entry, scores: PairScores | None) -> SearchTrial:
        cells = [read_cell(self.out, name) for name in entry.cells]
        seconds = round(sum(cell.seconds for cell in cells), 2)
        trial = SearchTrial(
            entry.number, entry.state, entry.values, seconds=seconds, error=entry.error
        )
        if scores is None:
            return trial
        return replace(
            trial, rates=rates(scores, self.rows.table), num_parameters=cells[0].num_parameters
        )

    def _refit(self, settings: RunSettings) -> list[NDArray[np.float64]]:
        """Return predictions of the test pairs by models trained on all other rows, by seed."""
        parts = (self.rows.test_part(settings, seed) for seed in range(self.rows.plan.seeds))
        return [run_cell(settings, part, self.identity, self.out).p_first for part in parts]


def _comparisons(
    rows: str, scores: Mapping[str, PairScores], table: PreferenceTable
) -> list[Comparison]:
    return [
        Comparison(first, second, rows, *compare(scores[first], scores[second], table))
        for first, second in itertools.combinations(scores, 2)
    ]


def _comment(item: Candidate, trial: SearchTrial, budget: int) -> str:
    assert trial.rates is not None
    loss = trial.rates.log_loss
    return (
        f"Chosen by vrm-pyro search: trial {trial.number} of {budget} of config {item.name},\n"
        f"held-out log loss {loss.value:.4f} +- {loss.standard_error:.4f}."
    )
