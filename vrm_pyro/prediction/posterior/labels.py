"""Labels of a posterior: names along its dimensions, attributes of its model."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from vrm_pyro.data.rows import PreferenceTable, prompt_key
from vrm_pyro.models.checkpoint import LoadedModel, settings_to_json
from vrm_pyro.models.settings.compatibility import what_it_bounds


@dataclass(frozen=True)
class Names:
    """Names along the dimensions; positions where a name is missing or not unique.

    Args:
        objectives: Names of the objectives, K of them.
        prompt: Names of the prompts.
        response: Ids of the responses.
        pair: Ids of the pairs.
        pair_subset: Subset of each pair; None where it has none.
        prompt_subset: Subset of each prompt, likewise.
    """

    objectives: Sequence[str]
    prompt: Sequence[str | None] | None = None
    response: Sequence[str | None] | None = None
    pair: Sequence[str | None] | None = None
    pair_subset: Sequence[str | None] | None = None
    prompt_subset: Sequence[str | None] | None = None

    @classmethod
    def of(cls, table: PreferenceTable, objectives: Sequence[str]) -> "Names":
        """Take ids and subsets from a table.

        Rows do not name prompts: a prompt is called by a digest of its messages, the same in
        every file that holds it.
        """
        return cls(
            objectives,
            prompt=[prompt_id(prompt_key(messages)) for messages in table.prompts],
            response=table.response_id,
            pair=table.pair_id,
            pair_subset=table.pair_subset,
            prompt_subset=table.prompt_subset,
        )


def prompt_id(key: str) -> str:
    """Return the name of a prompt: 12 hexadecimal digits of a digest of its key.

    >>> prompt_id("What is 2 + 2?")
    '9494c4064793'
    """
    return hashlib.blake2b(key.encode("utf-8"), digest_size=6).hexdigest()


def posterior_facts(loaded: LoadedModel) -> dict[str, Any]:
    """Return the attributes of a posterior file that say which model it is of."""
    config = loaded.config
    settings = json.dumps(settings_to_json(config), sort_keys=True)
    packages = {
        f"{name.replace('-', '_')}_version": version(name)
        for name in ("pyro-ppl", "torch", "transformers", "numpy", "xarray")
    }
    return {
        "mode": config.mode,
        "objective": config.objective,
        "guide": type(config.guide).__name__,
        "weight_prior": type(config.weight_prior).__name__,
        "feature_prior": type(config.feature_prior).__name__,
        "likelihood": type(config.likelihood).__name__,
        "kl_weights": config.kl_weights,  # kappa of each block
        "kl_features": config.kl_features,
        "rating_power": config.rating_power,  # lambda
        "ratings_used": loaded.rated,
        "bound": what_it_bounds(config, loaded.rated),
        **({"ensemble_size": config.ensemble_size} if config.ensemble_size > 1 else {}),
        "backbone": loaded.backbone.get("name"),
        "config_hash": hashlib.sha256(settings.encode("utf-8")).hexdigest(),
        **packages,
    }
