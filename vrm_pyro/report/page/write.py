"""Write the page about a model on some rows."""

import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from html import escape
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch

from vrm_pyro.atomic import check_file, write_file
from vrm_pyro.diagnostics.certificates.certify import Declared
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, data_name
from vrm_pyro.prediction.opening import ModelLike, as_model, read_inputs
from vrm_pyro.prediction.scorer import Scorer
from vrm_pyro.report.page.contents import sections
from vrm_pyro.report.page.page import render
from vrm_pyro.report.page.page_inputs import gather
from vrm_pyro.report.page.settings import (
    DiagnosisLike,
    Settings,
    check_baseline,
    check_page_name,
    read_findings,
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Report:
    """A page that was written. It is an ``os.PathLike`` of its file.

    >>> Report(Path("report.html"), {"n_pairs": 1200, "n_prompts": 300})
    Report('report.html': 1,200 pairs of 300 prompts)

    Args:
        path: The file.
        metrics: Rates on the rows, as :func:`~vrm_pyro.diagnostics.evaluate.evaluate` gives them.
    """

    path: Path
    metrics: Mapping[str, Any]

    def __fspath__(self) -> str:
        return str(self.path)

    def __repr__(self) -> str:
        return f"Report({str(self.path)!r}: {self.counts})"

    def _repr_html_(self) -> str:
        path = self.path
        link = path.as_uri() if path.is_absolute() else quote(path.as_posix())
        return f'<a href="{link}">{escape(str(path))}</a>: {self.counts}'

    @property
    def counts(self) -> str:
        """How many pairs and prompts the page is about."""
        return f"{self.metrics['n_pairs']:,} pairs of {self.metrics['n_prompts']:,} prompts"


def write_report(
    model: ModelLike,
    data: DataLike,
    out: str | os.PathLike[str],
    *,
    against: ModelLike | None = None,
    diagnosis: DiagnosisLike | None = None,
    worst: int = 10,
    texts: bool = True,
    num_draws: int = 1000,
    khat_prompts: int = 200,
    psense_prompts: int = 40,
    seed: int = 0,
    backbone_saw_these_labels: Declared = "unknown",
    skip_invalid: bool = False,
    split: str = "train",
    device: str | torch.device = "auto",
    dtype: str | None = None,
    cache: bool = True,
    progress: bool = False,
) -> Report:
    """Write one HTML page about a model on rows that it was not trained on.

    The page shows rates beside those of a baseline, calibration, weights by kind of prompt, a map
    of features, collapse, k-hat, sensitivity to the prior, certificates, and single pairs with
    the model's reasons. It needs no network and no script. It shows texts of the rows unless
    ``texts`` is False.

    Args:
        model: Folder of a run, loaded model or scorer; of architecture ``vrm``.
        data: Rows or a feature store.
        out: The file, ending in ``.html``; one that is there is replaced.
        against: A Bradley-Terry model or a gate, trained on the same states, to compare with.
        diagnosis: What ``diagnose`` returned or ``vrm-pyro diagnose`` wrote, to be shown.
        worst: How many mistakes and uncertain pairs to show.
        texts: Whether to show the texts of prompts and responses.
        num_draws: Draws of each prompt for k-hat and sensitivity.
        khat_prompts: Prompts for k-hat, drawn at random.
        psense_prompts: Prompts for the sensitivity to the prior, drawn at random; 0 leaves it out.
        seed: Fixes everything that is drawn.
        backbone_saw_these_labels: As in ``certify``: ``yes`` withholds the certificates,
            ``unknown`` shows them with a warning.
        skip_invalid: Leave out and count unusable rows instead of stopping at them.
        split: Split of a Hub id or of a data set with several.
        device: Where the backbone runs, if it has to.
        dtype: Its precision; that of training when omitted.
        cache: Whether states of texts are looked for, and kept, on disk.
        progress: Whether to show a progress bar while texts are encoded.

    Raises:
        InputError: If model or rows cannot be read, the model has no latent variables, the
            baseline reads other states, a setting is wrong, or the file cannot be written.
    """
    check_file(out)
    check_page_name(out)
    settings = Settings(
        worst, texts, num_draws, khat_prompts, psense_prompts, seed, backbone_saw_these_labels
    )
    findings = None if diagnosis is None else read_findings(diagnosis)
    loaded = as_model(model)
    if not loaded.members:
        raise InputError(
            f"{loaded.directory or 'the model'}: is a {loaded.architecture} model, which has no "
            "latent variables to report on. Give it as against, and a model of architecture vrm "
            "as model."
        )
    baseline = None if against is None else as_model(against)
    if baseline is not None:
        check_baseline(baseline, loaded)
    inputs = read_inputs(
        model if isinstance(model, Scorer) else loaded,
        data,
        needs_pairs=True,
        skip_invalid=skip_invalid,
        split=split,
        device=device,
        dtype=dtype,
        cache=cache,
        progress=progress,
    )
    start = time.perf_counter()
    found, rows = gather(loaded, inputs), data_name(data)
    made = sections(settings, loaded, found, inputs, baseline, findings, rows)
    name = "a model" if loaded.directory is None else loaded.directory.resolve().name
    report = Report(Path(out), found.metrics)
    subtitle = f"{report.counts} from {rows}, {datetime.now(UTC).date().isoformat()}"
    page = render(f"Report on {name}", subtitle, made)
    with write_file(out) as partial:
        partial.write_text(page, encoding="utf-8")
    size = len(page.encode()) / 1e6
    log.info("%.2f MB in %.0f s after scoring", size, time.perf_counter() - start)
    return report
