"""Schemas of the parts that an export adds to ``config.json``."""

from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import from_json, to_json

from vrm_pyro.data.artefacts import Count, Positive, Schema, checked

WHERE = "config.json"
REMEDY = "Export the model again."


class _Closed(Schema):
    model_config = ConfigDict(extra="forbid")


_Ids = list[Count]
_Special = list[Annotated[_Ids, Field(min_length=2, max_length=2)]]


class _Tokens(_Closed):
    before: _Special
    between: _Special
    after: _Special
    first_type: Count
    second_type: Count


class _Layout(_Closed):
    template: Literal["chat", "roles", "pair"]
    single: _Tokens
    pair: _Tokens
    max_length: Positive


class ReadingSchema(_Closed):
    """How token ids are read."""

    layout: _Layout
    header: _Ids
    marker: _Ids
    pooling: Literal["mean", "response_mean", "last", "last+mean"]
    is_decoder: bool
    counts_positions: bool
    shares_prompts: bool
    pad_id: Count
    template_hash: str
    tokenizer_hash: str
    appended: _Ids = []
    ending: _Ids = []
    repeats: bool = False
    blank: _Ids = []
    others: list[_Ids] = []

    @model_validator(mode="after")
    def _whole(self) -> "ReadingSchema":
        """Refuse some of the fields that version 0.1.0 lacked: it lacked them all."""
        later = {name for name, item in type(self).model_fields.items() if not item.is_required()}
        lacking = later - self.model_fields_set
        if lacking and lacking != later:
            raise ValueError(f"one with {min(lacking)!r}, which is missing")
        return self


class _Described(Schema):
    model_type: str  # or transformers takes a large model of its own choice


class _Backbone(_Closed):
    config: _Described


class OwnSchema(_Closed):
    """What the configuration of an export adds to that of a model of transformers."""

    backbone: _Backbone | None = None
    adapter: dict[str, Any] | None
    without_boundary: Literal["raise", "whole_text"]
    empty_reward: float | None


class SelfTestSchema(_Closed):
    """Rows of token ids with their rewards."""

    rows: Annotated[list[Annotated[_Ids, Field(min_length=1)]], Field(min_length=1)]
    rewards: list[float]
    dtype: Literal["float32", "float16", "bfloat16"]


def check_part(kind: type[Schema], name: str, content: Any) -> None:
    """Raise InputError unless a part of ``config.json`` fits its schema.

    Args:
        kind: The schema.
        name: Name of the part, and what messages say of it.
        content: Its JSON values.
    """
    values = from_json(
        to_json(content, inf_nan_mode="constants")
    )  # in memory, lists may be tuples
    checked(kind, values, f"{WHERE}: {name}", REMEDY)
