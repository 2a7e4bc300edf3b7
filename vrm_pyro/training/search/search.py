"""Search settings of one or several configs with equal budgets, on the same folds."""

import json
import logging
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from filelock import FileLock

import vrm_pyro
from vrm_pyro.atomic import claim_directory
from vrm_pyro.backbone import Backbone
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.errors import InputError, Terminated
from vrm_pyro.features.reading import DataLike
from vrm_pyro.processes import num_processes
from vrm_pyro.training.run.directory import RunDirectory
from vrm_pyro.training.run.fit import IN_MEMORY, settings_of, spec_of
from vrm_pyro.training.run.read_settings import DEFAULT_CONFIG
from vrm_pyro.training.search.cells import settings_identity
from vrm_pyro.training.search.configs import Candidate, ConfigsLike, read_candidates
from vrm_pyro.training.search.result import SearchResult
from vrm_pyro.training.search.rows import STATE_SETTINGS, Plan, SearchRows
from vrm_pyro.training.search.session import Session
from vrm_pyro.training.search.space import SpaceLike, space_name
from vrm_pyro.training.search.trials import LOCK, Trials, load_optuna

MARKER = "settings.json"
RESULT_LOCK = ".result.lock"

log = logging.getLogger(__name__)


def search(
    data: DataLike | None = None,
    *,
    space: SpaceLike,
    output_dir: str | PathLike[str],
    configs: ConfigsLike = DEFAULT_CONFIG,
    test: DataLike | None = None,
    trials: int = 30,
    folds: int = 5,
    seeds: int = 1,
    prune: bool = True,
    settings: Mapping[str, Any] | None = None,
    backbone: Backbone | None = None,
    overwrite: bool = False,
    progress: bool = False,
) -> SearchResult:
    """Search settings of one or several configs, each with the same number of trials and folds.

    A trial trains once for each fold, on the other folds, and predicts the fold; its value is the
    mean log loss of all pairs, each predicted by a model that saw neither the pair nor its prompt.
    Training stops early by a part of its own rows. States are computed once. The folder keeps all
    results: the same call resumes an interrupted search, and several processes with the same
    folder share its trials::

        found = vrm_pyro.search(
            "rows.jsonl", configs=["ratings", "bradley_terry"], space="heads", output_dir="runs/s"
        )
        print(found)
        vrm_pyro.fit("rows.jsonl", config=found.configs["ratings"].path, output_dir="runs/best")

    Args:
        data: Rows in any form, see :data:`vrm_pyro.features.reading.DataLike`; those of
            ``data.train`` in config or settings when omitted.
        space: Settings to try: path of a YAML file, name of a shipped one, or its content. See
            ``docs/howto/search.md``.
        output_dir: Folder of the search.
        configs: Configs to compare: names or paths, or model settings, perhaps by name.
        test: Rows that play no part in the search. The choice of each config is trained on all
            rows of ``data`` and measured on these.
        trials: Trials of each config, of all processes and calls together.
        folds: Number of folds by prompt.
        seeds: Repetitions with other folds and other initial values.
        prune: Whether to stop a trial whose mean over the folds so far is worse than the median
            of finished trials (Optuna's ``MedianPruner``).
        settings: Settings that hold for all trials of all configs, by dotted key.
        backbone: A loaded backbone that replaces ``model.backbone``.
        overwrite: Replace another search in the folder.
        progress: Whether to show a progress bar.

    Returns:
        The trials, the choice of each config, and the differences between configs. The folder
        has them as ``search.json`` and ``search.md``, and the config of each choice as
        ``NAME/best.yaml``.

    Raises:
        InputError: If rows, configs or space are not usable, Optuna is not installed, the folder
            holds another search, or no trial of a config can be trained.
    """
    load_optuna()
    if num_processes() > 1:
        raise InputError(
            "a search is no run of several processes under torchrun. Start the same command "
            "several times instead: they share the trials."
        )
    _check_numbers(trials=(trials, 1, 10**6), folds=(folds, 2, 10**4), seeds=(seeds, 1, 10**4))
    given = dict(settings or {})
    spec = spec_of(data)
    if data is not None:
        given["data.train"] = IN_MEMORY if spec is None else spec
    if backbone is not None:
        given |= settings_of(backbone)
    candidates = read_candidates(configs, space, given)
    for item in candidates:
        item.base.backbone = backbone
        item.base.train_rows = data if spec is None else None
    base, out = candidates[0].base, Path(output_dir).expanduser()
    RunDirectory(str(out), overwrite=overwrite, resume=not overwrite)
    read = [base.data.train, spec_of(test), space, configs, base.model.backbone]
    refuse_input_as_output(out, read)
    rows = SearchRows(base, test, Plan(folds, seeds), out, progress)
    _check_states(candidates, rows, backbone is not None, space_name(space))
    for item in candidates:
        rows.adopt(item.base)
        rows.check_learnable(item.base)
    identity = rows.identity()
    content = {
        "version": vrm_pyro.__version__,
        "rows": identity,
        "pruning": prune,
        "configs": {item.name: settings_identity(item.base) for item in candidates},
        "spaces": {item.name: item.space.to_json() for item in candidates},
    }
    _claim(out, json.dumps(content, indent=1, default=str) + "\n", overwrite)
    study = Trials(
        out,
        {item.name: item.space for item in candidates},
        trials,
        {item.name: item.start() for item in candidates},
        seed=base.values["train"]["seed"],
        prune=prune,
    )
    by_name = {item.name: item for item in candidates}
    session = Session(out, rows, identity, by_name, study, trials)
    try:
        session.run(progress)
        with FileLock(out / RESULT_LOCK):  # the first process to get here refits, others read
            result = session.conclude(prune)
            result.write()
    except (KeyboardInterrupt, Terminated) as stop:
        raise type(stop)("The same command resumes the search.") from None
    return result


def _claim(out: Path, content: str, overwrite: bool) -> None:
    """Claim the folder for this search; of several processes one is first."""
    out.mkdir(parents=True, exist_ok=True)
    with FileLock(out / LOCK):
        resumed = claim_directory(out, marker=MARKER, content=content, overwrite=overwrite)
    if resumed:
        log.info("%s: resuming the search there", out)


def _check_numbers(**numbers: tuple[int, int, int]) -> None:
    for name, (value, least, most) in numbers.items():
        if value < least:
            raise InputError(f"--{name} is {value}, but must be at least {least}.")
        if value > most:
            raise InputError(f"--{name} is {value}, but must be at most {most:,}.")


def _check_states(
    candidates: Sequence[Candidate], rows: SearchRows, given: bool, where: str
) -> None:
    """Refuse to search settings that given states or a given backbone fix."""
    for item in candidates:
        keys = item.searched(STATE_SETTINGS)
        if keys and (rows.stores or given):
            fixed = rows.stores[0].path if rows.stores else "the backbone"
            raise InputError(
                f"{where}: {item.name}: {keys[0]} cannot be searched, as it is that of {fixed}. "
                "Leave it out, or give rows of text and the name of a backbone."
            )
