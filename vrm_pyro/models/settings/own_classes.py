"""Import a user's own classes by dotted path."""

import importlib
import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import cast

from vrm_pyro.data.rows.readers import Spec
from vrm_pyro.errors import InputError
from vrm_pyro.models.guides import Guide
from vrm_pyro.models.likelihoods import PreferenceLikelihood
from vrm_pyro.models.priors import FeaturePrior, WeightPrior
from vrm_pyro.models.ratings import RatingLikelihood
from vrm_pyro.models.settings.tables import TABLES


def find_own_classes() -> None:
    """Add the working folder to the import path, as ``python -m`` does.

    It comes last, so that a local folder called ``datasets`` does not shadow the library.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def own_classes(paths: Spec, asked: Collection[str]) -> list[type]:
    """Import a user's own classes by their dotted paths.

    Args:
        paths: The dotted paths.
        asked: Names of the classes that the models ask for; no other is imported.

    Raises:
        InputError: If a path is none of a class that is asked for, there is no such class, or it
            is not one that a model is built from.
    """
    listed = [paths] if isinstance(paths, str) else list(paths)
    for path in listed:
        name = path.rpartition(".")[2]
        if name not in asked:
            wanted = (
                f"it asks for {', '.join(sorted(asked))}" if asked else "it needs no --classes"
            )
            raise InputError(f"--classes {path}: the model has no class {name!r}; {wanted}.")
    find_own_classes()
    return [_own_class(path) for path in listed]


def _own_class(path: str) -> type:
    module, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise InputError(
            f"--classes {path}: cannot be imported ({error}). Give the dotted path of a class "
            "that Python finds here, such as my_priors.MyPrior."
        ) from error
    bases: Sequence[type] = (
        WeightPrior,
        FeaturePrior,
        Guide,
        PreferenceLikelihood,
        RatingLikelihood,
    )
    if not (isinstance(found, type) and issubclass(found, tuple(bases))):
        names = ", ".join(base.__name__ for base in bases)
        raise InputError(
            f"--classes {path}: is no class under one of {names}, the classes that "
            f"{', '.join(TABLES)} are made of."
        )
    return cast(type, found)
