"""Write a posterior file: draws of a trained model with what describes it."""

import hashlib
import json
import secrets
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vrm_pyro.data.source import with_objectives
from vrm_pyro.features.inputs import Inputs
from vrm_pyro.models.checkpoint import LoadedModel, settings_to_json
from vrm_pyro.models.settings.compatibility import what_it_bounds
from vrm_pyro.prediction.posterior.draws import draw_posterior
from vrm_pyro.prediction.posterior.to_xarray import Names, to_datatree, write_netcdf


def write_posterior(
    loaded: LoadedModel,
    inputs: Inputs,
    path: Path,
    num_draws: int,
    seed: int = 0,
    summarized: bool = False,
    progress: bool = False,
) -> None:
    """Write draws of every prompt, response and pair, or summaries of them.

    Ratings count as outcomes where the model was trained on ratings, else not.
    """
    objectives = loaded.objectives if loaded.rated else ()
    source = with_objectives(inputs.source, objectives)
    scratch = path.parent / f".{path.stem}.{secrets.token_hex(4)}.draws"
    scratch.mkdir(parents=True)
    try:
        draws = draw_posterior(
            loaded.model,
            source,
            num_draws,
            seed=seed,
            storage=scratch,
            summarized=summarized,
            progress=progress,
        )
        attrs = posterior_facts(loaded) | {"seed": seed, "num_draws": num_draws}
        names = Names.of(inputs.table, loaded.objectives)
        write_netcdf(to_datatree(draws, names, attrs=attrs), path)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


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
        "backbone": loaded.backbone.get("name"),
        "config_hash": hashlib.sha256(settings.encode("utf-8")).hexdigest(),
        **packages,
    }
