"""Sweep of the kind of supervision by ratings, in the manner of the paper's Figure 3."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from jsonargparse import ArgumentParser

from sweeps.cells import Cell, Result, Sweep
from sweeps.figures import supervision_dots
from sweeps.options import other_model, read_sweep, sweep_parser, use_backbone_of
from sweeps.rating_power import without_ratings
from sweeps.states import SweepStates, read_states
from sweeps.summary import by_group, conclude, measured_on, measures, over_seeds, table
from vrm_pyro.cli.parsing import UsageError
from vrm_pyro.errors import InputError, did_you_mean
from vrm_pyro.models.likelihoods.weight_supervision import WeightLoss
from vrm_pyro.models.ratings import (
    BernoulliRatings,
    DifferenceRatings,
    GaussianRatings,
    OrdinalRatings,
    RatingLikelihood,
)
from vrm_pyro.models.settings.config import ModelConfig

DEFAULT_POWERS = [0.1, 1.0]


@dataclass(frozen=True)
class Type:
    """A type of supervision.

    Args:
        words: Name in tables and figures.
        mode: ``conditional`` for the model of ``--config``, ``vib`` for that of ``--vib_config``.
        ratings: Likelihood of ratings given scores; a Gaussian keeps the config's own scale.
        weights: Loss between ratings and weights.
    """

    words: str
    mode: str
    ratings: type[RatingLikelihood] | None = None
    weights: WeightLoss | None = None

    @property
    def rated(self) -> bool:
        """Whether ratings are used."""
        return self.ratings is not None or self.weights is not None

    def model(self, base: ModelConfig, power: float, states: SweepStates) -> ModelConfig:
        """Return the model of this type."""
        if not self.rated:
            return without_ratings(base, states)
        if self.weights is not None:
            return replace(
                base,
                supervision="weights",
                objective="integrated",
                weight_supervision=self.weights,
                rating_power=power,
            )
        assert self.ratings is not None
        likelihood = base.rating_likelihood
        if type(likelihood) is not self.ratings:
            likelihood = _with_scale_of(likelihood, self.ratings)
        return replace(
            base, supervision="scores", rating_likelihood=likelihood, rating_power=power
        )


TYPES: Final[dict[str, Type]] = {
    "none": Type("none", "conditional"),
    "gaussian": Type("scores, Gaussian", "conditional", GaussianRatings),
    "ordinal": Type("scores, ordinal", "conditional", OrdinalRatings),
    "bernoulli": Type("scores, Bernoulli", "conditional", BernoulliRatings),
    "difference": Type("scores, differences", "conditional", DifferenceRatings),
    "none_vib": Type("none", "vib"),
    "cross_entropy": Type("weights, cross-entropy", "vib", weights="cross_entropy"),
    "squared_error": Type("weights, squared error", "vib", weights="squared_error"),
    "dirichlet_kl": Type("weights, Dirichlet KL", "vib", weights="dirichlet_kl"),
}


def build_parser() -> ArgumentParser:
    """Return the options of the sweep."""
    parser = sweep_parser(
        "scripts/sweep_supervision.py",
        "Train a model with several types of supervision by ratings: none; on scores, with the "
        "model of --config (mode conditional), by Gaussian, ordinal, Bernoulli or difference "
        "likelihood; on weights, with the model of --vib_config, by cross-entropy, squared error "
        "or Dirichlet KL. Losses have different units, so each type is trained with every lambda "
        "of --powers and shown with the one that has the best mean validation log loss over "
        "seeds. Writes figure.png and results.json, and prints a table. In the manner "
        "of the paper's Figure 3, known here by its caption alone.",
        (
            "--data.train rows.jsonl --config networks --out runs/supervision",
            "--types none gaussian ordinal --powers 0.03 0.1 0.3",
        ),
    )
    parser.add_argument(
        "--types",
        type=str,
        nargs="+",
        default=list(TYPES),
        metavar="TYPE",
        help=f"Types to train: {', '.join(TYPES)}. none_vib is none in mode vib: the reference "
        "of the supervision of weights.",
    )
    parser.add_argument(
        "--powers",
        type=float,
        nargs="+",
        default=DEFAULT_POWERS,
        metavar="LAMBDA",
        help="Values of lambda to try for each type.",
    )
    parser.add_argument(
        "--vib_config",
        type=str,
        default="paper",
        metavar="FILE",
        help="Config of the model in mode vib.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Train, choose lambda, draw and print."""
    parser = build_parser()
    settings = read_sweep(parser, argv)
    names = list(dict.fromkeys(settings.given.types))
    powers = sorted(set(settings.given.powers))
    _check(names, powers)
    bases = {
        "conditional": settings.model,
        "vib": other_model(parser, settings.given.vib_config, settings),
    }
    for mode in {TYPES[name].mode for name in names}:
        if bases[mode].mode != mode or bases[mode].architecture != "vrm":
            option = "--config" if mode == "conditional" else "--vib_config"
            raise UsageError(
                f"{option} gives a model of architecture {bases[mode].architecture} and mode "
                f"{bases[mode].mode}, but must give a vrm of mode {mode}."
            )
    sweep = Sweep(settings, "supervision")
    states = read_states(settings)
    if not states.rated and any(TYPES[name].rated for name in names):
        raise InputError("no training row has ratings; with such rows the only type is none.")
    for base in bases.values():
        use_backbone_of(settings.model, base)
    cells = [
        Cell(
            f"{name} {power:g}" if TYPES[name].rated else name,
            TYPES[name].model(bases[TYPES[name].mode], power, states),
            seed,
            {"type": name, "power": power if TYPES[name].rated else None},
        )
        for name in names
        for power in (powers if TYPES[name].rated else powers[:1])
        for seed in range(settings.seeds)
    ]
    results = by_group(sweep.run(cells, states))
    chosen = {name: _best(name, results) for name in names}
    reference = names[0]
    groups: list[dict[str, Any]] = [
        {
            "type": name,
            "words": TYPES[name].words,
            "mode": TYPES[name].mode,
            "power": cells_of[0].cell.facts["power"],
            **measures(cells_of, chosen[reference], states, settings),
        }
        for name, cells_of in chosen.items()
    ]
    tried = {name: over_seeds(cells_of, "validation") for name, cells_of in results.items()}
    words = measured_on(states, settings)
    figure = supervision_dots(groups, title=f"Supervision by ratings ({words})")
    summary = {"powers": powers, "reference": reference, "groups": groups, "tried": tried}
    rows = [(_row_name(group), group["test"], group["difference"]) for group in groups]
    shown = table(rows, "supervision (lambda)", _row_name(groups[0]))
    conclude(sweep, figure, summary, states, shown)


def _best(name: str, results: dict[str, list[Result]]) -> list[Result]:
    """Return the cells of a type with the lambda of the best mean validation log loss."""
    own = [cells for cells in results.values() if cells[0].cell.facts["type"] == name]

    def loss(cells: list[Result]) -> float:
        return float(np.mean([cell.values["validation"]["log_loss"] for cell in cells]))

    return min(own, key=loss)


def _row_name(group: dict[str, Any]) -> str:
    power = "" if group["power"] is None else f" ({group['power']:g})"
    return f"{group['mode']}: {group['words']}{power}"


def _with_scale_of(likelihood: RatingLikelihood, kind: type[RatingLikelihood]) -> RatingLikelihood:
    """Return a likelihood of a kind, with the scale of another if both have one."""
    shared = {
        name: getattr(likelihood, name)
        for name in ("scale", "learn_scale")
        if hasattr(likelihood, name) and name in kind.__dataclass_fields__  # type: ignore[attr-defined]
    }
    return kind(**shared)


def _check(names: Sequence[str], powers: Sequence[float]) -> None:
    for name in names:
        if name not in TYPES:
            raise UsageError(
                f"--types: no type {name!r}{did_you_mean(name, TYPES)} Choose among "
                f"{', '.join(TYPES)}."
            )
    for power in powers:
        if not 0 < power < float("inf"):
            raise UsageError(
                f"--powers: {power} is no power of a rating term; give positive numbers. The type "
                "none has no ratings."
            )
