"""Check what would prevent a run: the checks of ``vrm-pyro doctor``."""

from collections.abc import Iterator

from vrm_pyro.data.rows import PreferenceTable
from vrm_pyro.errors import InputError
from vrm_pyro.features.reading import DataLike, data_name, read_data
from vrm_pyro.training.preflight import Check, check_environment, environment, preflight
from vrm_pyro.training.preflight.all_checks import MOST_RESPONSES
from vrm_pyro.training.run.backbone import backbone_of
from vrm_pyro.training.run.settings import RunSettings


def doctor(
    settings: RunSettings, *, max_responses: int = MOST_RESPONSES, progress: bool = False
) -> Iterator[Check]:
    """Yield the checks of machine, rows and settings as they finish, cheapest first.

    Args:
        settings: Settings of the run; without training rows only the machine is checked.
        max_responses: Approximate number of responses in the sample of prompts that is encoded.
        progress: Whether to show a progress bar while texts are encoded.

    Raises:
        InputError: If rows or backbone cannot be read, or settings and rows do not fit.
    """
    if max_responses < 2:
        raise InputError(f"--max_responses is {max_responses}, but must be at least 2.")
    data = settings.data
    rows = data.train if settings.train_rows is None else settings.train_rows
    if not rows:
        yield from check_environment(environment())
        return
    held_out = data.validation if settings.validation_rows is None else settings.validation_rows
    train = _texts(data.read_as(rows), data.skip_invalid, "train")
    validation = None
    if held_out:
        validation = _texts(data.read_as(held_out), data.skip_invalid, "validation")
    yield from preflight(
        settings.model,
        backbone_of(settings),
        train,
        validation,
        max_responses=max_responses,
        progress=progress,
    )


def _texts(data: DataLike, skip_invalid: bool, split: str) -> PreferenceTable:
    rows = read_data(data, skip_invalid=skip_invalid, split=split)
    if not isinstance(rows, PreferenceTable):
        raise InputError(
            f"--data {data_name(data)}: is a feature store; doctor looks at texts. Give the rows "
            "it was made from."
        )
    return rows
