"""Score corpora with Ray Data, on as many machines as a Ray cluster has.

Needs the extra ``ray``. ``vrm_pyro.serve.ray`` serves a model with several replicas.
"""

import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa

from vrm_pyro.data.rows import load_table
from vrm_pyro.data.rows.formats import parse_line
from vrm_pyro.data.rows.readers import Source
from vrm_pyro.data.schemas.reading import Reading
from vrm_pyro.errors import InputError, NoUsableRow
from vrm_pyro.features.refused import without_refused
from vrm_pyro.prediction.opening import as_model, as_scorer
from vrm_pyro.prediction.scorer.parquet import score_schema

# ray is optional, and takes a second to import.
if TYPE_CHECKING:
    import ray.data

__all__ = ["score_dataset"]

EXTRA: Final = "Ray is not installed: pip install 'vrm-pyro[ray]'."
BATCH_ROWS: Final = 1000
"""Rows in a batch: what a worker repeats if another one dies."""

_LINE: Final = "text"  # the column that Ray's reader of lines gives
_PATH: Final = "path"
_NO_ID: Final = (
    'has no "id". Ray keeps no order of rows, so their scores would be lost among others: give '
    "each row an id of its own."
)

log = logging.getLogger(__name__)


def score_dataset(
    rows: "ray.data.Dataset | str | os.PathLike[str] | Sequence[str]",
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    workers: int | tuple[int, int] | None = None,
    batch_rows: int = BATCH_ROWS,
    num_cpus: float = 1.0,
    num_gpus: float = 0.0,
    schema: str | None = None,
    columns: str | Mapping[str, str] | None = None,
    skip_invalid: bool = False,
    classes: Sequence[type] = (),
    backbone: str | None = None,
    dtype: str | None = None,
) -> "ray.data.Dataset":
    """Score rows with Ray Data: a line for each response, with the columns of ``score``.

    The rows stream through actors that each hold the model, and at most what Ray's object store
    has room for is in memory. An actor that dies is started again, and its batch with it, as often
    as it takes. Lines come in no order, unless ``ray.data.DataContext`` has ``preserve_order``;
    ``id`` and ``response_index`` say whose they are, so each row needs an ``id``.

    Numbers are those of :func:`~vrm_pyro.prediction.score_file.score_file` up to rounding: its
    batches hold other texts beside them::

        scored = score_dataset("s3://bucket/rows", "/shared/run", "s3://bucket/scores", num_gpus=1)
        scored.filter(expr="reward_sd > 1").write_parquet("s3://bucket/unsure")

    Args:
        rows: A data set of Ray; or Parquet or JSONL, as a file, a folder (Parquet) or a list of
            either. Rows are those of ``score``, labels and ratings are not read.
        model: Folder of a run, which every machine of the cluster sees at this path.
        output: Folder for Parquet files, on a disk that all machines see or in a cloud. It must
            not exist: a job that was stopped is begun anew.
        workers: Number of actors, or the least and the greatest; as many as the cluster has room
            for when omitted.
        batch_rows: Rows that an actor reads at once.
        num_cpus: CPUs of an actor; its threads are as many, at least one. Reading and writing
            need some of the cluster's, too.
        num_gpus: GPUs of an actor, 0 to compute on CPUs.
        schema: Published form of the rows, see :func:`~vrm_pyro.data.rows.load_table`.
        columns: What the columns of an own table are, see there.
        skip_invalid: Leave out unusable rows, with a warning in the actor's log, instead of
            stopping at them.
        classes: A user's own prior, guide or likelihood classes.
        backbone: Where the model's backbone is now, if it was moved.
        dtype: Precision of the backbone; that of training when omitted.

    Returns:
        The lines: those that were written, or without ``output`` a data set that computes them
        when it is read.

    Raises:
        InputError: If Ray is missing, the model or the rows cannot be read, a row is not usable
            or has no id, or the output exists.

    Warns:
        UserWarning: If the actors leave no CPU to read and write with.
    """
    try:
        import ray.data
    except ImportError as error:
        raise InputError(EXTRA) from error
    if output is not None and Path(output).exists():
        raise InputError(f"output {output}: is there already. Give another folder, or remove it.")
    folder = str(Path(model).expanduser().absolute())
    as_model(folder, classes=classes, backbone=backbone)  # what cannot be loaded is said here
    if batch_rows < 1:
        raise InputError(f"batch_rows is {batch_rows}, but must be at least 1.")
    least, most = workers if isinstance(workers, tuple) else (workers or 1, workers)
    if least < 1 or (most is not None and most < least):
        raise InputError(
            f"workers is {workers}, but must be a number from 1, or the least and the greatest."
        )
    source = rows if isinstance(rows, ray.data.Dataset) else _read(rows)
    _warn_of_waiting(least * num_cpus)
    # An actor that dies repeats its blocks, and a large file without this would be a few blocks.
    scored = source.repartition(target_num_rows_per_block=batch_rows).map_batches(
        Worker,
        fn_constructor_kwargs={
            "model": folder,
            "reading": (schema, columns),
            "skip_invalid": skip_invalid,
            "loading": {"classes": tuple(classes), "backbone": backbone, "dtype": dtype},
        },
        compute=ray.data.ActorPoolStrategy(min_size=least, max_size=most),
        batch_size=batch_rows,
        batch_format="pyarrow",
        num_cpus=num_cpus,
        num_gpus=num_gpus or None,
        max_restarts=-1,
        max_task_retries=-1,
    )
    scored.context.raise_original_map_exception = True  # an InputError reaches the caller
    if output is None:
        return scored
    return _written(scored, str(output))


class Worker:
    """A model in an actor: batches of rows in, lines out.

    Args:
        model: Folder of the run.
        reading: Schema and columns of the rows.
        skip_invalid: Whether to leave out unusable rows.
        loading: See :func:`~vrm_pyro.prediction.opening.as_scorer`.

    Raises:
        InputError: If the model or its backbone cannot be loaded.
    """

    def __init__(
        self,
        model: str,
        reading: tuple[str | None, str | Mapping[str, str] | None],
        skip_invalid: bool,
        loading: Mapping[str, Any],
    ) -> None:
        self._scorer = as_scorer(model, **loading)
        self._schema = score_schema(self._scorer.loaded)
        self._reading, self._skip_invalid = Reading.of(*reading), skip_invalid

    def __call__(self, batch: pa.Table) -> pa.Table:
        """Return the lines of a batch of rows.

        Raises:
            InputError: If a row is not usable, or has no id.
        """
        source = Source("the rows", _located(batch), self._reading)
        try:
            table = load_table(source, skip_invalid=self._skip_invalid, every_row=True)
            if self._skip_invalid:
                table = without_refused(table, self._scorer.backbone)
        except NoUsableRow as error:
            if not self._skip_invalid:
                raise
            log.warning("%s", error)
            return self._schema.empty_table()
        if None in table.row_order.ids:
            item = table.row_order.ids.index(None)
            row = int(table.row_order.row[item])
            raise InputError(f"row {row} of a batch {_NO_ID}")
        if table.report.invalid:
            log.warning("%s", table.report.summary())
        lines = list(self._scorer.score_table(table))
        return pa.Table.from_pylist(lines, schema=self._schema)


def _located(batch: pa.Table) -> Iterator[tuple[str, object]]:
    """Yield each row of a batch with its place."""
    for index, row in enumerate(batch.to_pylist()):
        if row.keys() == {_LINE, _PATH}:
            yield str(row[_PATH]), parse_line(row[_LINE])
        else:
            yield f"row {row.get('id', index)}", row


def _warn_of_waiting(taken: float) -> None:
    """Warn if actors take all CPUs: Ray then waits for one to read with, and says nothing."""
    import ray

    there = ray.cluster_resources().get("CPU", 0.0)
    if there - taken < 1:
        warnings.warn(
            f"the workers take {taken:g} CPUs, and Ray has {there:g}: nothing is left to read and "
            "write with, so the job waits until the cluster grows. Give fewer workers, or a "
            "num_cpus below 1.",
            UserWarning,
            stacklevel=3,
        )


def _read(paths: Any) -> "ray.data.Dataset":
    """Return the data set of Parquet or JSONL files."""
    import ray.data

    several = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
    names = [os.fspath(path) for path in several]
    kinds = {os.path.splitext(name)[1] for name in names}
    try:
        if kinds <= {".jsonl", ".ndjson"} and kinds:
            # Read as lines: Ray's reader of JSON asks for one type a column.
            return ray.data.read_text(names, include_paths=True)
        if kinds <= {".parquet", ""} and kinds:
            return ray.data.read_parquet(names)
    except (OSError, ValueError) as error:
        raise InputError(f"{', '.join(names[:3])}: cannot be read ({error}).") from error
    raise InputError(
        f"{', '.join(names[:3]) or 'no files'}: give Parquet (files, or a folder of them) or "
        ".jsonl files, or read the rows into a data set of Ray."
    )


def _written(scored: "ray.data.Dataset", output: str) -> "ray.data.Dataset":
    """Write lines as Parquet and return what was written."""
    import ray.data

    try:
        scored.write_parquet(output, mode=ray.data.SaveMode.ERROR)
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"output {output}: cannot be written ({error}).") from error
    return ray.data.read_parquet(output)
