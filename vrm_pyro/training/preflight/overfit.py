"""Check that the configured model can memorise a few pairs."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import entr

from vrm_pyro.data.batch import FeatureBatch
from vrm_pyro.data.dataset import PromptDataset
from vrm_pyro.data.source import FeatureSource, with_objectives
from vrm_pyro.diagnostics.metrics.pair_metrics import accuracy_values, log_loss_values
from vrm_pyro.models.evaluation import evaluation_mode
from vrm_pyro.models.settings.build import build_model
from vrm_pyro.models.settings.config import ModelConfig, check_data, objective_names, uses_ratings
from vrm_pyro.models.settings.row_checks import check_rankings
from vrm_pyro.training.module import TrainingModule
from vrm_pyro.training.preflight.check import Check
from vrm_pyro.training.preparation import data_facts, fit_scalers, rating_unit

NUM_PAIRS: Final = 32
NUM_STEPS: Final = 400
LOOK_EVERY: Final = 50
LEARNING_RATE: Final = 5e-3
POPULATION: Final = 1_000_000
# A constant prediction of 1/2 has ln 2 = 0.69, and so has a collapsed model with the right signs.
EXCESS_LIMIT: Final = 0.5
ACCURACY_LIMIT: Final = 0.95


class Fit(NamedTuple):
    """How well a model fits the pairs it was trained on.

    Attributes:
        num_pairs: Number of pairs.
        steps: Steps taken.
        accuracy: Accuracy on pairs with a preference other than 1/2; NaN if the loss diverged.
        excess: Log loss above the entropy of the labels, in nats.
    """

    num_pairs: int
    steps: int
    accuracy: float
    excess: float

    @property
    def learned(self) -> bool:
        """Whether the model memorised the pairs.

        Examples:
            >>> Fit(num_pairs=32, steps=100, accuracy=1.0, excess=0.1).learned
            True
        """
        return self.accuracy >= ACCURACY_LIMIT and self.excess <= EXCESS_LIMIT

    def words(self) -> str:
        """Return the numbers as text."""
        return (
            f"accuracy {self.accuracy:.0%}, log loss {self.excess:.2f} above the labels' entropy"
        )


def check_overfit(
    config: ModelConfig,
    source: FeatureSource,
    *,
    num_pairs: int = NUM_PAIRS,
    num_steps: int = NUM_STEPS,
    seed: int = 0,
) -> Check:
    """Train the configured model and objective on about 32 pairs and evaluate on the same pairs.

    A working model memorises them. Otherwise gradients do not reach the parameters, the backbone
    cannot tell the pairs apart, or a KL weight collapses the latents. If training with ratings
    fails, labels are tried alone: ratings fix the scores, so a label against all ratings cannot
    be learned.

    Args:
        config: Settings of the model.
        source: States and labels; the first prompts with ``num_pairs`` pairs are taken.
        num_pairs: Number of pairs to learn.
        num_steps: Maximum number of full-batch AdamW steps.
        seed: Seed of the initial weights; torch's global random state is unchanged.

    Raises:
        InputError: If settings and rows do not fit.
    """
    fit = _fit(config, source, num_pairs, num_steps, seed)
    finding = f"{fit.num_pairs} comparisons after {fit.steps} steps: {fit.words()}"
    if fit.learned:
        return Check("overfit", "ok", finding)
    if not np.isfinite(fit.accuracy):
        return Check(
            "overfit",
            "fail",
            f"the loss is not finite after {fit.steps} steps",
            "Are all states and ratings finite?",
        )
    if config.has_latents and uses_ratings(config, data_facts(source)):
        alone = _fit(
            replace(config, supervision="none", objectives=[], scores="linear", latent_dim=4),
            source,
            num_pairs,
            num_steps,
            seed,
        )
        if alone.learned:
            return Check(
                "overfit",
                "warn",
                f"{finding}; without ratings {alone.words()}",
                "Labels and ratings pull apart: do they judge the same quality? If labels matter "
                "more, lower model.rating_power.",
            )
    if config.has_latents and config.mode == "vib":
        return Check(
            "overfit",
            "fail",
            finding,
            "In mode vib a KL weight of 1 collapses the latents by theorem: lower "
            "model.kl_weights and model.kl_features, or use mode conditional.",
        )
    return Check(
        "overfit",
        "fail",
        finding,
        "Are pairs labelled both ways, or equal after cutting at max_length? If not, a setting "
        "keeps the model from learning: start from the shipped default.",
    )


def _fit(
    config: ModelConfig, source: FeatureSource, num_pairs: int, num_steps: int, seed: int
) -> Fit:
    facts = data_facts(source)
    check_rankings(config, source)
    check_data(config, facts)
    rated, objectives = uses_ratings(config, facts), objective_names(config, facts)
    view = with_objectives(source, objectives if rated else ())
    items = _first_prompts(view, num_pairs)
    fit = None
    for step, module, batch in memorise(config, source, items, num_steps, seed):
        if module is None:
            return Fit(batch.num_pairs, step, float("nan"), float("nan"))
        fit = Fit(batch.num_pairs, step, *_rates(module, batch))
        if step and fit.learned:
            break
    assert fit is not None
    return fit


def memorise(
    config: ModelConfig, source: FeatureSource, items: NDArray[np.int64], num_steps: int, seed: int
) -> Iterator[tuple[int, TrainingModule | None, FeatureBatch]]:
    """Train the configured model on some prompts; yield now and then the step and the module.

    Args:
        config: Settings of the model.
        source: States and labels.
        items: The prompts, one batch.
        num_steps: Most AdamW steps.
        seed: Seed of the initial weights; torch's global random state is unchanged.

    Yields:
        Steps taken, the module (None once the loss is not finite), and the batch.
    """
    facts = data_facts(source)
    rated, objectives = uses_ratings(config, facts), objective_names(config, facts)
    view = with_objectives(source, objectives if rated else ())
    loc, scale = rating_unit(view, type(config.rating_likelihood))
    batch = PromptDataset(view, loc, scale, items).batch()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(config, view.responses.shape[1], len(objectives), rated)
        fit_scalers(model, view)
        if rated:
            model.set_rating_unit(loc, scale)
        # As if these rows were a few of many: their evidence alone would shrink a map to nothing.
        module = TrainingModule(model, config, POPULATION)
        optimizer = torch.optim.AdamW(module.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        yield 0, module, batch
        module.train()
        for step in range(1, num_steps + 1):
            optimizer.zero_grad()
            loss = module(**batch.as_dict())["loss"]
            if not torch.isfinite(loss):
                yield step, None, batch
                return
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), 5.0)
            optimizer.step()
            if step % LOOK_EVERY == 0 or step == num_steps:
                yield step, module, batch


def _first_prompts(source: FeatureSource, num_pairs: int) -> NDArray[np.int64]:
    """Return the first prompts that together have ``num_pairs`` pairs, or all that have any."""
    pair_prompt = np.asarray(source.response_prompt)[np.asarray(source.pair_first)]
    prompts, counts = np.unique(pair_prompt, return_counts=True)
    return prompts[: int(np.searchsorted(np.cumsum(counts), num_pairs)) + 1]


def _rates(module: TrainingModule, batch: FeatureBatch) -> tuple[float, float]:
    """Return accuracy on pairs with a preference, and log loss minus the labels' entropy."""
    with evaluation_mode(module):
        p = module.model.predict_pairs(batch).double().numpy()
    preference = batch.preference.double().numpy()
    decided = np.abs(preference - 0.5) > 1e-6
    right = accuracy_values(p[decided], preference[decided].round())
    excess = log_loss_values(p, preference) - entr(preference) - entr(1 - preference)
    return float(right.mean()) if decided.any() else 0.5, float(excess.mean())
