"""Run the demo: every verb on simulated texts, and recovery of the known truth."""

import contextlib
import importlib
import io
import json
import shlex
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import xarray as xr
from matplotlib.figure import Figure

import vrm_pyro
from vrm_pyro.atomic import claim_directory, write_file, write_json
from vrm_pyro.data.simulation import SPLITS, TRUTH_FILE
from vrm_pyro.diagnostics.recovery import (
    Truth,
    compare_scores,
    compare_weights,
    log_loss_difference,
    predicted_weights,
    truth_rates,
)
from vrm_pyro.errors import InputError
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.features.store import open_store
from vrm_pyro.models.checkpoint import load_model
from vrm_pyro.models.vrm import VRM
from vrm_pyro.prediction.scorer import score_source
from vrm_pyro.report.plots import reliability, reward_spread, training_curves, weights_by_kind

DEFAULT_PAIRS = 3000
DEFAULT_OUT = "runs/demo"
MARKER = "settings.json"
RESULT_FILE = "demo.json"
DRAWS = 200

# Four responses per prompt with all six comparisons: half as many texts to encode.
PAIRS_PER_PROMPT, RESPONSES_PER_PROMPT = 6, 4

# Heads alone for most steps: their gradients come without those of the backbone, which take twice
# the time.
_LORA = shlex.split(
    "--train.learning_rate 2e-3 --train.early_stopping_patience 8 "
    "--train.num_train_epochs 4 --train.per_device_train_batch_size 8 "
    "--tuning.method lora --tuning.frozen_fraction 0.5 --tuning.rank 8 --tuning.alpha 16"
)


def run_demo(
    out: str | Path,
    pairs: int = DEFAULT_PAIRS,
    seed: int = 0,
    backbone: str | None = None,
    lora_prompts: int = 0,
) -> dict[str, Any]:
    """Simulate, encode, train two models, compare them with each other and with the truth.

    The folder gets ``data/``, ``features/``, ``model/``, ``bradley_terry/``, ``figures/``,
    ``posterior.nc`` and ``demo.json``. States of an earlier run with the same settings are
    reused; everything else is computed again.

    Args:
        out: Folder to write.
        pairs: Number of comparisons in all splits together.
        seed: Seed of the simulation and of training.
        backbone: Name of another backbone than the default.
        lora_prompts: If positive, the VRM is also trained together with low-rank adapters of the
            backbone, on this many training prompts, into ``lora/``.

    Returns:
        The content of ``demo.json``.

    Raises:
        InputError: If ``out`` holds files that the demo did not write, or there are too few
            pairs.
    """
    return _Demo(Path(out), pairs, seed, backbone, lora_prompts).run()


class _Demo:
    def __init__(
        self, out: Path, pairs: int, seed: int, backbone: str | None, lora_prompts: int
    ) -> None:
        self.out, self.pairs, self.seed = out, pairs, seed
        self.lora_prompts, self.steps = lora_prompts, 6 if lora_prompts else 5
        # auto would make the numbers depend on whether the processor has bfloat16
        self.reading = ["--model.dtype", "float32"]
        if backbone is not None:
            self.reading += ["--model.backbone", backbone]
        self.model, self.baseline = out / "model", out / "bradley_terry"
        self.seconds: dict[str, float] = {}

    def run(self) -> dict[str, Any]:
        start = time.perf_counter()
        self._claim()
        data, features = self.out / "data", self.out / "features"
        with self._step(
            "simulate", f"simulate {self.pairs:,} comparisons of texts with known truth"
        ):
            layout = ["--pairs_per_prompt", PAIRS_PER_PROMPT]
            layout += ["--shared_responses", RESPONSES_PER_PROMPT]
            size = ["--pairs", self.pairs, "--seed", self.seed]
            self._verb("simulate", "--out", data, *size, *layout, "--overwrite")
        with self._step(
            "features", "encode them once with the frozen backbone (most of the time)"
        ):
            for split in SPLITS:
                rows = ["--data", data / f"{split}.jsonl", "--out", features / split]
                self._verb("features", *rows, *self.reading, "--overwrite")
        with self._step("model", "train the variational reward model on preferences and ratings"):
            self._train("ratings", self.model)
        with self._step("bradley_terry", "train a Bradley-Terry model on the same states"):
            self._train("bradley_terry", self.baseline)
        with self._step("compare", "evaluate both on test prompts, draw posteriors and figures"):
            for folder in (self.model, self.baseline):
                self._verb("evaluate", *self._test_rows(folder), folder / "test.json")
            where = self._test_rows(self.model)
            self._verb("posterior", *where, self.out / "posterior.nc", "--draws", DRAWS)
            result = self._compare()
        if self.lora_prompts:
            with self._step("lora", "train the VRM and adapters of the backbone together"):
                result["test"]["lora"] = self._train_lora()
                result["files"]["lora"] = str(self.out / "lora")
        result["seconds"] = self.seconds | {"total": round(time.perf_counter() - start, 1)}
        write_json(self.out / RESULT_FILE, result)
        return result

    def _claim(self) -> None:
        given = {"demo": vrm_pyro.__version__, "pairs": self.pairs, "seed": self.seed}
        if "--model.backbone" in self.reading:
            given["backbone"] = self.reading[-1]
        content = json.dumps(given, sort_keys=True)
        held = self.out / MARKER
        if not held.is_file() and self.out.is_dir() and any(self.out.iterdir()):
            raise InputError(
                f"{self.out}: holds files that the demo did not write; give another folder with "
                "--out."
            )
        same = held.is_file() and held.read_text(encoding="utf-8") == content
        claim_directory(self.out, marker=MARKER, content=content, overwrite=not same)

    @contextlib.contextmanager
    def _step(self, name: str, words: str) -> Iterator[None]:
        print(f"[{len(self.seconds) + 1}/{self.steps}] {words}", flush=True)
        start = time.perf_counter()
        yield
        self.seconds[name] = round(time.perf_counter() - start, 1)

    def _verb(self, verb: str, *arguments: Any) -> None:
        """Run a verb and discard its output."""
        argv = [str(argument) for argument in arguments]
        print(f"      $ vrm-pyro {verb} {shlex.join(argv)}", flush=True)
        with contextlib.redirect_stdout(io.StringIO()):
            importlib.import_module(f"vrm_pyro.cli.verbs.{verb}").run(argv)

    def _train(self, config: str, folder: Path, rows: list[Any] | None = None) -> None:
        """Train a shipped config as it is: no setting was chosen on these texts."""
        features = self.out / "features"
        data = ["--data.train", features / "train", "--data.validation", features / "validation"]
        where = ["--train.output_dir", folder, "--train.seed", self.seed, "--overwrite"]
        self._verb("train", "--config", config, *(rows or data), *where)

    def _train_lora(self) -> dict[str, Any]:
        """Train heads and adapters on texts, and return the rates on the test texts."""
        data, folder = self.out / "data", self.out / "lora"
        rows = ["--data.train", data / "train.jsonl", "--data.validation"]
        rows += [data / "validation.jsonl", "--data.max_prompts", self.lora_prompts]
        self._train("networks", folder, [*rows, *self.reading, *_LORA])
        where = ["--model", folder, "--data", data / "test.jsonl"]
        self._verb("evaluate", *where, "--out", folder / "test.json")
        return _read(folder / "test.json")

    def _test_rows(self, folder: Path) -> list[Any]:
        return ["--model", folder, "--data", self.out / "features" / "test", "--out"]

    def _compare(self) -> dict[str, Any]:
        inputs = Inputs.of(open_store(self.out / "features" / "test"))
        loaded, baseline = load_model(self.model), load_model(self.baseline)
        assert isinstance(loaded.model, VRM)
        objectives = loaded.objectives
        with xr.open_dataset(self.out / "data" / TRUTH_FILE) as dataset:
            truth = Truth.of(dataset.load(), inputs, objectives)
        mean, sd = predicted_weights(loaded.model, inputs)
        scores = score_source(loaded.model, inputs.source)
        p_first = {
            "VRM": scores.p_first,
            "Bradley-Terry": score_source(baseline.model, inputs.source).p_first,
        }
        table = inputs.table
        log = json.loads((self.model / "log_history.json").read_text(encoding="utf-8"))
        names = [f"prompt {i + 1}\n{kind}" for i, kind in enumerate(truth.kind)]
        figures = {
            "reliability": reliability(
                p_first,
                table.preference,
                table.pair_weight,
                table.pair_prompt,
                title="Reliability on test prompts (simulated texts)",
            ),
            "weights": weights_by_kind(
                mean,
                sd,
                truth.kind,
                objectives,
                truth.weights,
                title="Objective weights from the prompt alone (simulated texts)",
            ),
            "reward": reward_spread(
                scores.reward,
                scores.variance**0.5,
                [names[i] for i in table.response_prompt],
                truth.reward,
                title="Reward of test responses (simulated texts)",
            ),
            "training": training_curves(log, title="Training of the VRM (simulated texts)"),
        }
        return {
            "simulated": True,
            "pairs": self.pairs,
            "seed": self.seed,
            "test": {
                "vrm": _read(self.model / "test.json"),
                "bradley_terry": _read(self.baseline / "test.json"),
                "truth": truth_rates(inputs, truth),
                "log_loss_vrm_minus_bradley_terry": log_loss_difference(
                    p_first["VRM"], p_first["Bradley-Terry"], inputs
                ),
            },
            "weights": compare_weights(mean, truth, objectives),
            "scores_correlation": compare_scores(
                loaded.model, inputs, truth, objectives, within_prompts=True
            ),
            "files": self._files(figures),
        }

    def _files(self, figures: dict[str, Figure]) -> dict[str, str]:
        folder = self.out / "figures"
        folder.mkdir(exist_ok=True)
        for name, figure in figures.items():
            with write_file(folder / f"{name}.png") as partial:
                figure.savefig(partial, format="png")
        paths = {
            "data": self.out / "data",
            "features": self.out / "features",
            "model": self.model,
            "bradley_terry": self.baseline,
            "posterior": self.out / "posterior.nc",
            "figures": folder,
        }
        return {name: str(path) for name, path in paths.items()}


def _read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))
