"""What all notebooks share: the size of a run, where it writes, and rows with their states."""

import gzip
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from vrm_pyro.backbone import load_backbone
from vrm_pyro.data.rows import PreferenceTable, fold_by_prompt, load_table, prompt_key
from vrm_pyro.data.simulation import SPLITS, simulate_texts
from vrm_pyro.diagnostics.recovery import Truth
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.writing import write_store
from vrm_pyro.models.priors import ConditionalDirichletPrior, ConditionalNormalPrior
from vrm_pyro.models.ratings import GaussianRatings
from vrm_pyro.models.settings.config import DEFAULT_BACKBONE, ModelConfig
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.train import TrainResult, train

QUICK = os.environ.get("VRM_PYRO_QUICK") == "1"
RUNS = Path(__file__).resolve().parents[1] / "runs" / "notebooks" / ("quick" if QUICK else "full")
DATA = os.environ.get("VRM_PYRO_DATA")

FOLDS = 5
QUICK_PROMPTS = 40
RESPONSES_PER_PROMPT = 5

# Of cohere_feedback, the ratings that all its responses have, apart from the overall one, which
# makes the label: shares of raters who did not see an error.
COHERE_OBJECTIVES = (
    "no_contradiction",
    "no_factual_error",
    "no_formatting_error",
    "no_inconsistency",
    "no_irrelevance",
    "no_refusal",
    "no_repetition",
)
# Of hellobench, those that most of its prompts rate.
COMMON_OBJECTIVES = ("clarity", "completeness", "creativity", "factuality", "overall")
COHERE_KINDS = {"amazon": "product description", "curation": "summary", "wikihow": "how-to"}


@dataclass(frozen=True)
class Rows:
    """A set of comparisons with the states of its texts.

    Args:
        title: What figures call it.
        inputs: Rows and states.
        kind: Kind of each prompt, shape (P,); no model sees it.
        truth: What simulated texts were made from; None for real ones.
    """

    title: str
    inputs: Inputs
    kind: NDArray[Any]
    truth: xr.Dataset | None = field(default=None, repr=False)

    @property
    def simulated(self) -> bool:
        """Whether the texts were simulated."""
        return self.truth is not None

    def part(self, prompts: NDArray[Any]) -> "Rows":
        """Return some prompts with all their responses and pairs."""
        kind = self.kind[prompts]
        return Rows(self.title, self.inputs.select(prompts), kind, self.truth)

    def split(self, test: int = 0) -> dict[str, "Rows"]:
        """Return train, validation and test: 3, 1 and 1 of 5 folds; no prompt is in two."""
        fold = fold_by_prompt(self.inputs.table, FOLDS)
        valid = (test + 1) % FOLDS
        train_prompts = (fold != test) & (fold != valid)
        return {
            "train": self.part(np.flatnonzero(train_prompts)),
            "validation": self.part(np.flatnonzero(fold == valid)),
            "test": self.part(np.flatnonzero(fold == test)),
        }


def real_rows(name: str) -> Rows:
    """Return ``cohere_feedback`` or ``hellobench``; simulated texts where they are not there."""
    folder = Path(DATA or "") / name
    if DATA is None or not folder.is_dir():
        where = "VRM_PYRO_DATA is not set" if DATA is None else f"VRM_PYRO_DATA has no {name}"
        print(
            f"*** {where}: SIMULATED texts stand in for {name}. ***\n"
            "*** What the text of this notebook says about real pairs does not hold for them. ***"
        )
        return simulated_rows()
    files = [str(folder / f"{split}.jsonl.gz") for split in SPLITS]
    if name == "cohere_feedback":
        table = load_table(files, objectives=COHERE_OBJECTIVES)
    else:
        # Up to 72 pairs and 26 long responses a prompt: a few of them take a fifth of the time.
        # Few prompts need not rate every objective in every part.
        names = COMMON_OBJECTIVES if QUICK else None
        table = load_table(_few_responses(files, RESPONSES_PER_PROMPT), objectives=names)
    if QUICK:
        table = _some_prompts(table)
    inputs = _with_states(table, name)
    kind = np.array(inputs.table.prompt_subset, dtype=str)
    if name == "cohere_feedback":
        kind = np.array([COHERE_KINDS[subset.split("/")[1]] for subset in kind])
    return Rows(name, inputs, kind)


def simulated_rows(num_pairs: int = 2400, seed: int = 0, quick_pairs: int = 240) -> Rows:
    """Return simulated texts, six comparisons of four responses a prompt, with their truth."""
    number = quick_pairs if QUICK else num_pairs
    simulation = simulate_texts(number, seed, pairs_per_prompt=6, shared_responses=4)
    table = load_table([row for split in SPLITS for row in simulation.rows(split)])
    inputs = _with_states(table, f"simulated-{number}-{seed}")
    return Rows(
        "simulated texts",
        inputs,
        np.array(inputs.table.prompt_subset, dtype=str),
        simulation.truth,
    )


def overall_rating(part: Rows) -> NDArray[np.float64]:
    """Return the mean overall rating of each response, which no model here reads.

    Of ``cohere_feedback``; of simulated texts, the true reward.
    """
    table = part.inputs.table
    if part.truth is not None:
        return Truth.of(part.truth, part.inputs, table.objectives).reward
    files = [str(Path(DATA or "") / part.title / f"{split}.jsonl.gz") for split in SPLITS]
    rated = load_table(files, objectives=("overall",))
    owners = [prompt_key(rated.prompts[p]) for p in rated.response_prompt]
    known = dict(zip(zip(owners, rated.responses, strict=True), rated.ratings[:, 0], strict=True))
    keys = [prompt_key(table.prompts[p]) for p in table.response_prompt]
    return np.array([known[key] for key in zip(keys, table.responses, strict=True)])


def rated_config(objective: str = "integrated", **changes: Any) -> ModelConfig:
    """Return the settings of ``configs/ratings.yaml``, changed where named."""
    settings: dict[str, Any] = {
        "objective": objective,
        "hyperprior_weight": 0.01,
        "rating_power": 0.1,
        "rating_likelihood": GaussianRatings(scale=1.0, learn_scale=False),
        "weight_prior": ConditionalDirichletPrior(0, 0.5, 5.0),
        "feature_prior": ConditionalNormalPrior(64, 0.5, 0.5),
    }
    return ModelConfig(**(settings | changes))


def fit(name: str, config: ModelConfig, parts: dict[str, Rows], **changes: Any) -> TrainResult:
    """Train on the states of ``train``, stop early on those of ``validation``."""
    settings: dict[str, Any] = {
        "num_train_epochs": 8 if QUICK else 60,
        "logging_steps": 10_000,
        "logging_strategy": "epoch",
        "disable_tqdm": True,
        "use_cpu": True,
        "seed": 0,
    }
    arguments = TrainArguments(output_dir=str(RUNS / "models" / name), **(settings | changes))
    return train(
        config, arguments, parts["train"].inputs.source, parts["validation"].inputs.source
    )


def _with_states(table: PreferenceTable, name: str) -> Inputs:
    """Run the frozen backbone once and keep its states for the other notebooks."""
    backbone = load_backbone(DEFAULT_BACKBONE, max_length=64 if QUICK else 256)
    # Of the same rows and backbone a store is opened at once; of others it is made anew.
    store = write_store(table, backbone, RUNS / "states" / name, progress=False, overwrite=True)
    return Inputs.of(store)


def _few_responses(files: list[str], limit: int) -> list[dict[str, Any]]:
    """Return the rows of the first so many responses that each prompt's rows name."""
    kept: list[dict[str, Any]] = []
    held: dict[str, set[str]] = {}
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            for row in map(json.loads, lines):
                responses = held.setdefault(json.dumps(row["prompt"]), set())
                both = responses | {row["chosen"], row["rejected"]}
                if len(both) <= limit:
                    responses |= both
                    kept.append(row)
    return kept


def _some_prompts(table: PreferenceTable) -> PreferenceTable:
    folds = max(2, table.num_prompts // QUICK_PROMPTS)
    return table.select_prompts(fold_by_prompt(table, folds, seed=1) == 0)
