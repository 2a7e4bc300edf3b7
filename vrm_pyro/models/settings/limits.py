"""The most that sizes among the settings may be."""

from typing import Any, Final

from vrm_pyro.errors import InputError

#: The most that settings may be: beyond, no memory is large enough.
MOST: Final = {
    "num_objectives": 10_000,
    "extra_objectives": 10_000,
    "latent_dim": 10_000,
    "head_size": 100_000,
    "num_draws": 10_000,
    "head_draws": 10_000,
    "ensemble_size": 1_000,
    "max_length": 10_000_000,
}


def check_sizes(config: Any) -> None:
    """Raise InputError for a size in a ``ModelConfig`` or its parts that no memory holds."""
    for key, most in MOST.items():
        value = getattr(config, key)
        if value is not None and value > most:
            raise InputError(f"model.{key} is {value}, but must be at most {most:,}.")
    for name in ("weight_prior", "feature_prior", "guide", "likelihood", "rating_likelihood"):
        part = getattr(config, name)
        for key, value in vars(part).items():
            if isinstance(value, int) and value > MOST["head_size"]:
                raise InputError(
                    f"model.{name}: {key} is {value:,}, but must be at most {MOST['head_size']:,}."
                )
