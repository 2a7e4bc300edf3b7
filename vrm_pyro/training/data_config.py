"""Data settings of a run."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from vrm_pyro.data.schemas.reading import Reading
from vrm_pyro.errors import InputError

if TYPE_CHECKING:
    from vrm_pyro.backbone.reading import ReadingSettings


@dataclass
class DataConfig:
    """Training and validation rows, and how they are split.

    Rows are a file (.jsonl, .json, .csv, .tsv, .parquet, .arrow; text also compressed), a quoted
    pattern such as ``"data/*.jsonl"``, a Hub id, or a list of these.

    Args:
        train: Training rows, or a folder that ``vrm-pyro features`` wrote.
        validation: Rows or a folder for early stopping and ``metrics.json``. If omitted, some
            prompts of ``train`` are held out, with all their rows.
        validation_fraction: Fraction of prompts held out when ``validation`` is omitted.
        split_seed: Seed that decides which prompts are held out.
        max_prompts: Maximum number of training prompts, for a quick try; 0 uses all.
        skip_invalid: Skip and count unusable rows instead of stopping.
        schema: Published form of the rows, one of ``vrm-pyro schemas``, or ``rows`` for none;
            found by the columns when omitted.
        columns: What the columns of an own table are:
            ``prompt=question,chosen=answer,rejected=other,rating.truth=score``, or a mapping.
        on_unidentified: What to do when labels are a function of the ratings, so that the data do
            not identify objective weights and count the same evidence twice: ``warn``,
            ``drop_ratings`` or ``drop_preferences``.
        reasoning: What becomes of reasoning (``reasoning_content``, ``<think>`` parts) in turns of
            the assistant and in responses: ``keep`` hands it to the chat template, ``strip``
            leaves it out. The trained model reads all later texts in the same way.
        date: Day, as YYYY-MM-DD, for a chat template that writes today's date; null: the day on
            which training starts. It is kept with the model.
    """

    train: str | list[str] | None = None
    validation: str | list[str] | None = None
    validation_fraction: float = 0.1
    split_seed: int = 0
    max_prompts: int = 0
    skip_invalid: bool = False
    schema: str | None = None
    columns: dict[str, str] | str | None = None
    on_unidentified: Literal["warn", "drop_ratings", "drop_preferences"] = "warn"
    reasoning: Literal["keep", "strip"] = "keep"
    date: str | None = None

    @property
    def reading(self) -> "ReadingSettings":
        """How the backbone reads conversations.

        Raises:
            InputError: If a setting is wrong.
        """
        from vrm_pyro.backbone.reading import ReadingSettings  # transformers: --help does without

        return ReadingSettings(self.date, self.reasoning)

    def read_as(self, rows: Any) -> Any:
        """Return rows in any form with the schema or the columns that are set here."""
        from vrm_pyro.data.rows import ReadAs  # numpy: --help does without

        return ReadAs.given(rows, self.schema, self.columns)


def check_data_settings(data: DataConfig) -> None:
    """Raise InputError for data settings that are wrong for any rows.

    >>> check_data_settings(DataConfig(train="rows.jsonl", validation_fraction=2))
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: data.validation_fraction is 2, but must lie between 0 and 1; ...
    """
    if not data.train:
        raise InputError(
            "data.train is not set; name the training rows: --data.train rows.jsonl. One row "
            'has "prompt", "chosen" and "rejected".'
        )
    Reading.of(data.schema, data.columns)
    if not 0 < data.validation_fraction < 1:
        raise InputError(
            f"data.validation_fraction is {data.validation_fraction}, but must lie between 0 "
            "and 1; 0.1 is usual."
        )
    assert data.reading  # checks itself
    if not 0 <= data.split_seed < 2**32:
        raise InputError(
            f"data.split_seed is {data.split_seed}, but must be from 0 to {2**32 - 1:,}."
        )
    if data.max_prompts < 0:
        raise InputError(f"data.max_prompts is {data.max_prompts}, but must be 0 (all) or more.")
