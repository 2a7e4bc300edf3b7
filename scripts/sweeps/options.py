"""Options of a sweep: those of ``vrm-pyro train``, plus test rows, seeds and a folder."""

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import Help, UsageError
from vrm_pyro.cli.settings import read_settings, read_with_options, run_parser
from vrm_pyro.errors import InputError
from vrm_pyro.models.settings.config import ModelConfig
from vrm_pyro.training.data_config import DataConfig
from vrm_pyro.training.run.settings import RunSettings

DEFAULT_PAIRS = 3000
#: The config for real rows without ``--config``.
DEFAULT_CONFIG = "networks"

# Networks, small and with dropout, for the few prompts of the simulation.
_TRAIN = {"learning_rate": 2.0e-3, "early_stopping_patience": 8}
VRM_SETTINGS: dict[str, Any] = {
    "model": {
        "mode": "conditional",
        "objective": "integrated",
        "latent_dim": 4,
        "num_draws": 8,
        "supervision": "scores",
        "rating_power": 1.0,
        # Initial beta; it is learned. From 1, weights would take three times as long to separate.
        "reward_scale": 3.0,
        "hyperprior_weight": 0.02,
        "weight_prior": {
            "class_path": "ConditionalDirichletPrior",
            # Few prompts, many state dimensions: a linear map with dropout generalises best.
            "init_args": {"hidden_size": 0, "dropout": 0.5},
        },
        "feature_prior": {
            "class_path": "ConditionalNormalPrior",
            "init_args": {"hidden_size": 128, "dropout": 0.5},
        },
    },
    "train": _TRAIN,
}
BASELINE_SETTINGS: dict[str, Any] = {
    "model": {"architecture": "bradley_terry", "head_size": 128, "head_dropout": 0.5},
    "train": _TRAIN,
}

# lambda and tau of Gaussian ratings are one parameter (spec 2.5), so a sweep fixes tau. 0.5 is
# close to the noise of simulated ratings.
_FIXED_SCALE = {"class_path": "GaussianRatings", "init_args": {"scale": 0.5, "learn_scale": False}}
SIMULATED_SETTINGS: dict[str, Any] = {
    **VRM_SETTINGS,
    "model": VRM_SETTINGS["model"] | {"rating_likelihood": _FIXED_SCALE},
}

_MORE = (
    "Rows are those of vrm-pyro train: files, or folders that vrm-pyro features wrote. Without "
    "--data.train the command simulates texts with ratings, as scripts/demo.py does; --config is "
    "then a small model of networks, else the shipped config networks. All settings of vrm-pyro "
    "train can be given too, --model.NAME and --train.NAME; vrm-pyro train --help explains them. "
    "train.output_dir and train.seed are set by the sweep.\n\n"
    "Numbers are means over seeds, with the lowest and the highest seed. Seeds share the test "
    "prompts, so this range does not include variation over prompts; the limits of the "
    "differences in the table do. To resume an interrupted sweep, start it again with the same "
    "--out: finished cells are kept. Start it with more seeds or values to extend it."
)


class _ShortHelp(Help):
    """Help formatter that hides the settings which ``vrm-pyro train --help`` explains.

    It filters when help is printed. Suppressing the help of an action would also remove it from
    the settings that jsonargparse returns.
    """

    def add_argument(self, action: argparse.Action) -> None:
        if action.dest.split(".")[0] not in ("model", "train", "tuning"):
            super().add_argument(action)


@dataclass
class SweepData(DataConfig):
    """Training, validation and test rows.

    Args:
        train: Training rows, or a folder that ``vrm-pyro features`` wrote; simulated if omitted.
        validation: Rows or a folder for early stopping. If omitted, some prompts of ``train``.
        validation_fraction: Fraction of prompts for validation, when that is omitted.
        test: Rows or a folder for the reported numbers. If omitted, some prompts of ``train``.
        test_fraction: Fraction of prompts for the test, when that is omitted.
        split_seed: Seed that decides which prompts are held out.
        max_prompts: Maximum number of prompts of ``train``, for a quick try; 0 uses all.
        skip_invalid: Skip and count unusable rows instead of stopping with an error.
        schema: Published form of the rows; found by the columns when omitted.
        columns: What the columns of an own table are, as in ``vrm-pyro train``.
        on_unidentified: What to do when labels are a function of the ratings: ``warn``,
            ``drop_ratings`` or ``drop_preferences``.
    """

    test: str | list[str] | None = None
    test_fraction: float = 0.3


@dataclass
class SweepSettings:
    """Settings of a sweep.

    Args:
        run: Model, data and training arguments that every cell starts from.
        seeds: Number of training seeds, from 0.
        resplit: Whether each seed has another split.
        simulated: Whether texts are simulated.
        out: Folder of the sweep.
        given: The parsed command line, with the options of the sweep itself.
    """

    run: RunSettings
    seeds: int
    resplit: bool
    simulated: bool
    out: Path
    given: Any

    @property
    def data(self) -> SweepData:
        """Settings of the data."""
        assert isinstance(self.run.data, SweepData)
        return self.run.data

    @property
    def split_seeds(self) -> dict[int, int]:
        """Which split each training seed has."""
        return {seed: seed if self.resplit else 0 for seed in range(self.seeds)}

    @property
    def rows_name(self) -> str:
        """Name of the rows in figures and tables."""
        if self.simulated:
            return "simulated texts"
        named = self.data.test or self.data.train
        return Path(named).name.partition(".")[0] if isinstance(named, str) else "several files"

    @property
    def model(self) -> ModelConfig:
        """Model settings from ``--config`` and the ``--model`` options."""
        return self.run.model


def sweep_parser(script: str, description: str, examples: Sequence[str]) -> ArgumentParser:
    """Return a parser with the options that all sweeps share.

    Args:
        script: Path of the script as typed by the user.
        description: What is varied, and what is written.
        examples: Example command lines.
    """
    program = f"python {script}"
    lines = [f"{program} {example}" for example in ("  # simulated texts", *examples)]
    parser = run_parser("train", description, lines, _MORE, program, SweepData)
    parser.formatter_class = _ShortHelp
    name = Path(script).stem
    parser.add_argument(
        "--out", type=str, default=f"runs/{name}", metavar="DIR", help="Folder to write."
    )
    parser.add_argument("--seeds", type=int, default=3, help="Trainings of each cell.")
    parser.add_argument(
        "--resplit",
        action="store_true",
        help="Hold out different validation and test prompts of --data.train for every seed, so "
        "that the range over seeds includes variation over prompts.",
    )
    parser.add_argument(
        "--pairs",
        type=int,
        default=DEFAULT_PAIRS,
        help="Number of comparisons to simulate if --data.train is omitted.",
    )
    parser.add_argument(
        "--simulation_seed", type=int, default=0, help="Seed of the simulated texts."
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="Delete a sweep in --out and start over."
    )
    return parser


def read_sweep(parser: ArgumentParser, argv: Sequence[str]) -> SweepSettings:
    """Return checked settings.

    Raises:
        InputError: If settings are wrong for any rows.
    """
    named = any(item == "--config" or item.startswith("--config=") for item in argv)
    run, given = read_with_options(parser, argv)
    simulated = not run.data.train
    if not named:
        first = as_options(SIMULATED_SETTINGS) if simulated else ["--config", DEFAULT_CONFIG]
        run, given = read_with_options(parser, [*first, *argv])
    if run.tuning.method != "frozen":
        raise InputError(
            f"tuning.method is {run.tuning.method}, but a sweep trains its models on states of a "
            "frozen backbone, computed once for all. Set tuning.method frozen."
        )
    for name in ("seeds", "pairs"):
        if getattr(given, name) < 1:
            raise UsageError(f"--{name} is {getattr(given, name)}, but must be at least 1.")
    settings = SweepSettings(
        run, given.seeds, given.resplit, simulated, Path(given.out).expanduser(), given
    )
    _check_data(settings)
    return settings


def other_model(parser: ArgumentParser, config: str, settings: SweepSettings) -> ModelConfig:
    """Return the model of another config on the same backbone."""
    model = read_settings(parser, ["--config", config]).model
    base = settings.model
    return replace(
        model,
        backbone=base.backbone,
        pooling=base.pooling,
        layer=base.layer,
        max_length=base.max_length,
        dtype=base.dtype,
    )


def as_options(settings: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return nested settings as a command line."""
    found = []
    for group, values in settings.items():
        for name, value in values.items():
            text = value if isinstance(value, str) else json.dumps(value)
            found += [f"--{group}.{name}", text]
    return found


def _check_data(settings: SweepSettings) -> None:
    data = settings.data
    if settings.simulated and (data.validation or data.test):
        raise UsageError(
            "--data.validation and --data.test need --data.train; leave all three out to simulate."
        )
    if settings.resplit and data.validation and data.test:
        raise UsageError("--resplit cuts parts from --data.train, but both other parts are given.")
    cut = []
    for name, given in (("validation_fraction", data.validation), ("test_fraction", data.test)):
        share = getattr(data, name)
        if not 0 < share < 1:
            raise InputError(f"data.{name} is {share}, but must lie between 0 and 1.")
        cut += [] if given else [share]
    if sum(cut) >= 1:
        raise InputError(
            f"data.validation_fraction + data.test_fraction is {sum(cut):g}, which leaves no "
            "prompt to train on; give less than 1."
        )


def use_backbone_of(model: ModelConfig, other: ModelConfig) -> None:
    """Copy the backbone settings to another model of the sweep; a store may have set them."""
    for key in ("backbone", "pooling", "layer", "max_length"):
        setattr(other, key, getattr(model, key))
