"""Cells of a sweep: one training and one result file each, so an interrupt loses only one."""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from tqdm import tqdm

import vrm_pyro
from sweeps.options import SweepSettings
from sweeps.states import SweepStates, Withheld
from vrm_pyro.atomic import claim_directory, write_file
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.diagnostics.evaluate import evaluate
from vrm_pyro.models.checkpoint import settings_to_json
from vrm_pyro.models.settings.config import ModelConfig, check_data, check_settings
from vrm_pyro.prediction.predict import predict
from vrm_pyro.training.arguments import TrainArguments
from vrm_pyro.training.preparation import data_facts
from vrm_pyro.training.train import TrainResult, train

MARKER: Final = "sweep.json"
RESULT_FILE: Final = "results.json"
FIGURE_FILE: Final = "figure.png"
#: Decimals of a probability in a file: far more than any metric needs.
_DECIMALS: Final = 7
# Training arguments that do not change the result.
_FREE: Final = {"output_dir", "seed", "disable_tqdm", "report_to", "run_name", "logging_dir"}


@dataclass(frozen=True)
class Cell:
    """One training.

    Args:
        group: Name of the group in the comparison; cells of a group differ by seed only.
        model: Settings of the model.
        seed: Seed of the training.
        facts: Facts about the group for figures and results, such as its lambda.
        train: Training arguments that differ from those of the sweep.
        share: Share of the training rows that is used.
        withhold: What is withheld from the rest: whole prompts, or labels.
    """

    group: str
    model: ModelConfig
    seed: int
    facts: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] = field(default_factory=dict)
    share: float = 1.0
    withhold: Withheld = "prompts"


@dataclass(frozen=True)
class Result:
    """The result of a cell.

    Args:
        cell: The cell.
        values: ``num_pairs`` (training), ``training``, ``validation`` and ``test`` rates,
            ``p_first`` of test pairs, and ``log``: validation metrics over the steps.
    """

    cell: Cell
    values: dict[str, Any]


class Sweep:
    """The folder of a sweep, with methods that train its cells.

    Args:
        settings: Settings of the sweep.
        name: Name of the sweep; a folder holds one kind of sweep.

    Raises:
        InputError: If the folder holds anything but this sweep.
    """

    def __init__(self, settings: SweepSettings, name: str) -> None:
        self.settings, self.name = settings, name
        out, overwrite = settings.out, settings.given.overwrite
        data = settings.data
        refuse_input_as_output(out, [data.train, data.validation, data.test])
        content = json.dumps({"sweep": name}) + "\n"
        claim_directory(out, marker=MARKER, content=content, overwrite=overwrite)

    def run(self, cells: Sequence[Cell], states: SweepStates) -> list[Result]:
        """Train the missing cells and return the results of all cells, in order.

        Settings and rows of all cells are checked before the first is trained.

        Raises:
            InputError: If settings and rows of a cell do not fit.
        """
        checked: dict[int, Any] = {}
        for cell in cells:
            check_settings(cell.model)
            key = self.settings.split_seeds[cell.seed]
            facts = checked.setdefault(key, data_facts(states.training(cell.seed, key)))
            check_data(cell.model, facts)
        held = [self._kept(cell, states) for cell in cells]
        done = sum(values is not None for values in held)
        results = []
        with tqdm(total=len(cells), initial=done, unit="cell", desc=self.name) as bar:
            for cell, values in zip(cells, held, strict=True):
                if values is None:
                    bar.set_postfix_str(f"{cell.group}, seed {cell.seed}")
                    values = self._train(cell, states)
                    bar.update()
                results.append(Result(cell, values))
        return results

    def write(self, figure: Any, summary: dict[str, Any], states: SweepStates) -> None:
        """Write ``figure.png`` and ``results.json``."""
        settings = self.settings
        result = {
            "sweep": self.name,
            "version": vrm_pyro.__version__,
            "simulated": settings.simulated,
            "rows": states.identity,
            "data": settings.run.values["data"],
            "train": settings.run.values["train"],
            "seeds": settings.seeds,
            "resplit": settings.resplit,
            **summary,
        }
        with write_file(settings.out / FIGURE_FILE) as partial:
            figure.savefig(partial, format="png")
        _write_json(settings.out / RESULT_FILE, result, indent=1)

    def _identity(self, cell: Cell, states: SweepStates) -> dict[str, Any]:
        """Return everything that determines the result of a cell."""
        settings = self.settings
        data = settings.data
        own = {k: v for k, v in settings.run.values["train"].items() if k not in _FREE}
        return {
            "version": vrm_pyro.__version__,
            "model": settings_to_json(cell.model),
            "train": own | cell.train,
            "seed": cell.seed,
            "share": cell.share,
            "withhold": cell.withhold if cell.share < 1 else "",
            "rows": states.identity,
            "split": {
                "seed": data.split_seed + self.settings.split_seeds[cell.seed],
                "validation_fraction": None if data.validation else data.validation_fraction,
                "test_fraction": None if data.test else data.test_fraction,
                "max_prompts": data.max_prompts,
                "on_unidentified": data.on_unidentified,
            },
        }

    def _path(self, cell: Cell, states: SweepStates) -> Path:
        text = json.dumps(self._identity(cell, states), sort_keys=True, default=str)
        digest = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        return self.settings.out / "cells" / f"{digest}.json"

    def _kept(self, cell: Cell, states: SweepStates) -> dict[str, Any] | None:
        path = self._path(cell, states)
        if not path.is_file():
            return None
        return json.loads(path.read_text(encoding="utf-8"))["values"]

    def _train(self, cell: Cell, states: SweepStates) -> dict[str, Any]:
        path = self._path(cell, states)
        work = self.settings.out / "work" / path.stem
        shutil.rmtree(work, ignore_errors=True)  # left by an interrupted start
        arguments = TrainArguments(
            **(
                self.settings.run.values["train"]
                | cell.train
                | {
                    "output_dir": str(work.resolve()),
                    "seed": cell.seed,
                    "disable_tqdm": True,
                    "report_to": "none",
                    "save_only_model": True,  # an interrupted cell starts again from scratch
                    "resume_from_checkpoint": None,
                }
            )
        )
        key = self.settings.split_seeds[cell.seed]
        split = states.split(key)
        source = states.training(cell.seed, key, cell.share, cell.withhold)
        result = train(cell.model, arguments, source, split.validation.source)
        model = result.loaded.model
        values = {
            "num_pairs": len(source.pair_first),
            "num_prompts": int(source.prompts.shape[0]),
            "training": {
                name: result.metrics[name] for name in ("steps", "best_step", "train_runtime")
            },
            "validation": evaluate(model, split.validation.source),
            "test": evaluate(model, split.test.source),
            "p_first": np.round(predict(model, split.test.source).p_first, _DECIMALS).tolist(),
            "log": _validation_log(result),
        }
        identity = self._identity(cell, states)
        path.parent.mkdir(exist_ok=True)
        _write_json(path, {"group": cell.group, "cell": identity, "values": values})
        shutil.rmtree(work, ignore_errors=True)
        return values

    def close(self) -> None:
        """Remove the checkpoint folder, which is empty once all cells are done."""
        shutil.rmtree(self.settings.out / "work", ignore_errors=True)


def _validation_log(result: TrainResult) -> list[dict[str, Any]]:
    names = ("step", "eval_log_loss", "eval_accuracy")
    return [
        {name: entry[name] for name in names}
        for entry in result.log_history
        if all(name in entry for name in names)
    ]


def _write_json(path: Path, value: Any, indent: int | None = None) -> None:
    with write_file(path) as partial:
        text = json.dumps(value, indent=indent, ensure_ascii=False, allow_nan=False, default=str)
        partial.write_text(text + "\n", encoding="utf-8")
