"""What the options of a verb name: rows, stores, models, backbones and classes."""

import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.backbone import Backbone, load_backbone
from vrm_pyro.batch import FeatureSource
from vrm_pyro.checkpoint import TABLES, LoadedModel, load_model
from vrm_pyro.errors import InputError
from vrm_pyro.features import FeatureStore, encode_table, open_store
from vrm_pyro.features.meta import FILE as STORE_FILE
from vrm_pyro.guides import Guide
from vrm_pyro.likelihood import PreferenceLikelihood
from vrm_pyro.pair_checks import warn_ignored_margins
from vrm_pyro.priors import FeaturePrior, WeightPrior
from vrm_pyro.ratings import RatingLikelihood
from vrm_pyro.rows import PreferenceTable, load_table
from vrm_pyro.scorer import Scorer, backbone_of
from vrm_pyro.sources import Inputs

log = logging.getLogger(__name__)

Spec = str | list[str]

# What a model's backbone is known by: name in the checkpoint, name in the key of a store.
FACTS = {
    "template_hash": "template",
    "tokenizer_hash": "tokenizer",
    "weights_hash": "weights",
    "pooling": "pooling",
    "max_length": "max_length",
}


def add_model_options(parser: ArgumentParser, data_required: bool = True) -> None:
    """Add the options of verbs that use a trained model on rows."""
    parser.add_argument(
        "--model", type=str, required=True, metavar="DIR", help="Folder that train wrote."
    )
    add_row_options(parser, data_required)
    parser.add_argument(
        "--classes",
        type=str | list[str],
        metavar="PATH",
        help="Dotted path of a prior, guide or likelihood class of your own that the model uses; "
        "several as a list: '[pkg.MyPrior, pkg.MyGuide]'.",
    )
    parser.add_argument(
        "--backbone",
        type=str,
        metavar="NAME",
        help="Where the model's backbone is now, if it was moved. It has to be the same one.",
    )
    add_device_options(parser)


def add_row_options(parser: ArgumentParser, required: bool = True) -> None:
    """Add the options that say which rows to read."""
    parser.add_argument(
        "--data",
        type=str | list[str],
        required=required,
        metavar="ROWS",
        help="Rows: a file, a quoted pattern, a Hub id, a list of these, or a folder that "
        "features wrote.",
    )
    add_reading_options(parser)


def add_reading_options(parser: ArgumentParser) -> None:
    """Add the options that say how rows are read, wherever they come from."""
    parser.add_argument(
        "--split", type=str, default="train", help="Split of a Hub id; files are read whole."
    )
    parser.add_argument(
        "--skip-invalid",
        action="store_true",
        help="Leave out and count unusable rows instead of stopping at them.",
    )


def add_output_option(parser: ArgumentParser, what: str) -> None:
    """Add the option that names the one file a verb writes; ``what`` begins its help."""
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help=f"{what}; one that is there is replaced.",
    )


def add_device_option(parser: ArgumentParser) -> None:
    """Add the option that says where the backbone runs."""
    parser.add_argument(
        "--device", type=str, default="auto", help="Where the backbone runs: auto, cpu, cuda."
    )


def add_device_options(parser: ArgumentParser) -> None:
    """Add the options that say where and how the backbone of a trained model runs."""
    add_device_option(parser)
    parser.add_argument(
        "--dtype",
        type=str,
        metavar="PRECISION",
        help="Precision of the backbone: auto, float32 or bfloat16; that of training if omitted.",
    )


def is_store(spec: Spec) -> bool:
    """Whether a spec names a feature store, finished or not."""
    return isinstance(spec, str) and (Path(spec).expanduser() / STORE_FILE).is_file()


def read_store(spec: Spec) -> FeatureStore:
    """Open the store that a spec names."""
    store = open_store(Path(str(spec)).expanduser())
    lost = store.meta["report"].get("margins_ignored", 0)
    if lost:
        warnings.warn(
            f'{store.path}: "margin" is ignored in {lost:,} rows: the store was written by a '
            "version that did not keep it. Write it again with vrm-pyro features.",
            UserWarning,
            stacklevel=2,
        )
    return store


def read_rows(spec: Spec, skip_invalid: bool, split: str = "train") -> PreferenceTable:
    """Read rows and say what became of them."""
    table = load_table(spec, skip_invalid=skip_invalid, split=split)
    log.info("%s: %s", spec if isinstance(spec, str) else ", ".join(spec), table.report.summary())
    return table


def backbone_name(name: str) -> str:
    """Return a name that means the same in another working folder."""
    folder = Path(name).expanduser()
    return str(folder.resolve()) if folder.is_dir() else name


def read_backbone(name: str, **settings: Any) -> Backbone:
    """Load a backbone by a name that outlives the working folder."""
    device = settings.get("device", "auto")
    try:
        return load_backbone(backbone_name(name), **settings)
    except RuntimeError as error:
        if device == "auto":
            raise
        raise InputError(f"--device {device}: {str(error).splitlines()[0]}") from error


def backbone_facts(store: FeatureStore) -> dict[str, Any]:
    """Return what a checkpoint keeps of the backbone that made these states."""
    key = store.meta["key"]
    return {"name": store.meta["backbone"]["name"], **{k: key[part] for k, part in FACTS.items()}}


def read_model(options: Namespace) -> LoadedModel:
    """Load the model that the options name, with the user's own classes."""
    loaded = load_model(options.model, own_classes(options.classes or []))
    if options.backbone:
        loaded.backbone["name"] = backbone_name(options.backbone)
    return loaded


def read_scorer(options: Namespace, loaded: LoadedModel) -> Scorer:
    """Return the model with its backbone, after a check that it is the right one."""
    try:
        dtype = options.dtype or loaded.config.dtype
        backbone = backbone_of(loaded, device=options.device, dtype=dtype)
    except RuntimeError as error:
        if options.device == "auto":
            raise
        raise InputError(f"--device {options.device}: {str(error).splitlines()[0]}") from error
    return Scorer(loaded, backbone)


def read_inputs(options: Namespace, loaded: LoadedModel) -> Inputs:
    """Return the rows that the options name with states as the model knows them."""
    if is_store(options.data):
        store = read_store(options.data)
        check_store(store, loaded, options.model)
        warn_ignored_margins(loaded.config, cast(FeatureSource, store))
        return Inputs.of(store)
    table = read_rows(options.data, options.skip_invalid, options.split)
    warn_ignored_margins(loaded.config, cast(FeatureSource, table))
    scorer = read_scorer(options, loaded)
    return Inputs.of(encode_table(table, scorer.backbone, progress=True))


def check_store(store: FeatureStore, loaded: LoadedModel, model: str) -> None:
    """Raise InputError unless a store holds the states that a model was trained on."""
    key, facts = store.meta["key"], loaded.backbone
    differing = [k for k, part in FACTS.items() if k in facts and facts[k] != key[part]]
    if differing:
        lines = [
            f"{k} is {str(key[FACTS[k]])[:12]} there and {str(facts[k])[:12]} in the model"
            for k in differing
        ]
        raise InputError(
            f"{store.path}: its states come from another backbone or setting than those that "
            f"{model} was trained on: {'; '.join(lines)}. Give rows, or write a store with "
            f"--model.backbone {facts.get('name')} --model.pooling {facts.get('pooling')} "
            f"--model.max_length {facts.get('max_length')}."
        )
    if store.hidden_size != loaded.hidden_size:
        raise InputError(
            f"{store.path}: its states have size {store.hidden_size}, the model was trained on "
            f"size {loaded.hidden_size}."
        )


def find_own_classes() -> None:
    """Let dotted paths name modules in the working folder, as ``python -m`` does.

    Last in the path: a folder called ``datasets`` there must not stand in for the library.
    """
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.append(here)


def own_classes(paths: Spec) -> list[type]:
    """Import a user's own classes by their dotted paths.

    Raises:
        InputError: If there is no such class, or it has no place in a model.
    """
    find_own_classes()
    return [_own_class(path) for path in ([paths] if isinstance(paths, str) else paths)]


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
