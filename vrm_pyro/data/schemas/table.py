"""The published forms of preference data that are read unchanged."""

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from vrm_pyro.data.schemas import (
    alpaca_farm,
    arena,
    arena_55k,
    argilla_dashes,
    argilla_ratings,
    argilla_responses,
    axolotl,
    capybara,
    distilabel,
    helpsteer2,
    helpsteer2_preference,
    helpsteer3,
    hh_rlhf,
    hh_rlhf_prompt,
    kto,
    llamafactory_alpaca,
    llamafactory_kto,
    llamafactory_sharegpt,
    ms_swift,
    ms_swift_kto,
    ms_swift_messages,
    ms_swift_query,
    mt_bench,
    nectar,
    oasst,
    orca_distilabel,
    orca_dpo,
    pku_saferlhf,
    pku_saferlhf_safer,
    prometheus,
    rewardbench,
    rewardbench2,
    rlhflow,
    rm_bench,
    shp,
    skywork,
    stack_exchange,
    summarize_axis,
    summarize_feedback,
    tulu,
    ultrafeedback,
    ultrafeedback_binarized,
    ultrainteract,
    webgpt,
)
from vrm_pyro.data.schemas.schema import Columns, Schema, kind

SCHEMAS: dict[str, Schema] = {
    "hh_rlhf": hh_rlhf.SCHEMA,
    "hh_rlhf_prompt": hh_rlhf_prompt.SCHEMA,
    "ultrafeedback": ultrafeedback.SCHEMA,
    "ultrafeedback_binarized": ultrafeedback_binarized.SCHEMA,
    "argilla_ratings": argilla_ratings.SCHEMA,
    "argilla_dashes": argilla_dashes.SCHEMA,
    "argilla_responses": argilla_responses.SCHEMA,
    "capybara": capybara.SCHEMA,
    "rlhflow": rlhflow.SCHEMA,
    "helpsteer2": helpsteer2.SCHEMA,
    "helpsteer2_preference": helpsteer2_preference.SCHEMA,
    "helpsteer3": helpsteer3.SCHEMA,
    "skywork": skywork.SCHEMA,
    "tulu": tulu.SCHEMA,
    "rewardbench": rewardbench.SCHEMA,
    "rewardbench2": rewardbench2.SCHEMA,
    "rm_bench": rm_bench.SCHEMA,
    "nectar": nectar.SCHEMA,
    "shp": shp.SCHEMA,
    "pku_saferlhf": pku_saferlhf.SCHEMA,
    "pku_saferlhf_safer": pku_saferlhf_safer.SCHEMA,
    "arena": arena.SCHEMA,
    "arena_55k": arena_55k.SCHEMA,
    "mt_bench": mt_bench.SCHEMA,
    "orca_dpo": orca_dpo.SCHEMA,
    "orca_distilabel": orca_distilabel.SCHEMA,
    "distilabel": distilabel.SCHEMA,
    "ultrainteract": ultrainteract.SCHEMA,
    "stack_exchange": stack_exchange.SCHEMA,
    "webgpt": webgpt.SCHEMA,
    "summarize_feedback": summarize_feedback.SCHEMA,
    "summarize_axis": summarize_axis.SCHEMA,
    "oasst": oasst.SCHEMA,
    "alpaca_farm": alpaca_farm.SCHEMA,
    "prometheus": prometheus.SCHEMA,
    "kto": kto.SCHEMA,
    "llamafactory_alpaca": llamafactory_alpaca.SCHEMA,
    "llamafactory_sharegpt": llamafactory_sharegpt.SCHEMA,
    "llamafactory_kto": llamafactory_kto.SCHEMA,
    "axolotl": axolotl.SCHEMA,
    "ms_swift": ms_swift.SCHEMA,
    "ms_swift_messages": ms_swift_messages.SCHEMA,
    "ms_swift_query": ms_swift_query.SCHEMA,
    "ms_swift_kto": ms_swift_kto.SCHEMA,
}
"""Schemas by name. To add one, write a file beside this one and its line here."""

SCHEMA_COLUMNS = frozenset(name for schema in SCHEMAS.values() for name in schema.known)
"""Columns of all schemas: their values have to be read."""


def find_schema(row: Mapping[str, Any]) -> str | None:
    """Return the name of the schema that a row is of, None if it is of none.

    A schema matches if all its columns are there, with values of its kinds. Of several, the one
    that knows most of the row's columns is taken, and of these the one that requires most.

    >>> find_schema({"system": "", "question": "Sky?", "chosen": "Blue.", "rejected": "Green."})
    'orca_dpo'
    """
    return _find(frozenset((str(name), kind(value)) for name, value in row.items()))


@lru_cache(maxsize=4096)
def _find(signature: frozenset[tuple[str, str]]) -> str | None:
    columns: Columns = dict(signature)
    found = [
        name for name, schema in SCHEMAS.items() if schema.automatic and schema.matches(columns)
    ]
    return max(
        found,
        key=lambda name: (
            len(SCHEMAS[name].known & columns.keys()),
            len(SCHEMAS[name].columns),
        ),
        default=None,
    )


def nearest_schema(columns: Iterable[str]) -> str | None:
    """Return the schema that shares most columns with a row, None if none shares two."""
    names = set(columns)
    shared = {name: names & schema.columns.keys() for name, schema in SCHEMAS.items()}
    best = max(shared, key=lambda name: len(shared[name]) / len(SCHEMAS[name].columns))
    return best if len(shared[best]) > 1 else None


def missing_columns(name: str, columns: Iterable[str]) -> list[str]:
    """Return the columns that a schema needs and a row lacks."""
    return sorted(SCHEMAS[name].columns.keys() - set(columns))
