"""Options that several verbs share, and loading of the models and rows they name.

A verb's options are built without torch, so that ``--help`` is quick: modules of ``cli`` import
the library inside the functions that run it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jsonargparse import ArgumentParser, Namespace

from vrm_pyro.atomic import check_file
from vrm_pyro.data.output_places import refuse_input_as_output
from vrm_pyro.errors import InputError

if TYPE_CHECKING:
    from vrm_pyro.diagnostics.certificates.certify import Declared
    from vrm_pyro.features.inputs import Inputs
    from vrm_pyro.models.checkpoint import LoadedModel
    from vrm_pyro.prediction.scorer import Scorer


def add_model_options(parser: ArgumentParser, data_required: bool = True) -> None:
    """Add the options of verbs that use a trained model on rows."""
    add_model_option(parser)
    add_row_options(parser, data_required)
    add_loading_options(parser)
    if data_required:  # else a verb reads one row: not worth caching
        add_cache_option(parser)


def add_model_option(parser: ArgumentParser) -> None:
    """Add the option that names the trained model."""
    parser.add_argument(
        "--model", type=str, required=True, metavar="DIR", help="Folder that train wrote."
    )


def add_loading_options(parser: ArgumentParser) -> None:
    """Add the options that say how a trained model and its backbone are loaded."""
    parser.add_argument(
        "--classes",
        type=str | list[str],
        metavar="PATH",
        help="Dotted path of your own prior, guide or likelihood class, if the model uses one; "
        "several as a list: '[pkg.MyPrior, pkg.MyGuide]'.",
    )
    parser.add_argument(
        "--backbone",
        type=str,
        metavar="NAME",
        help="New path of the model's backbone, if it was moved. Its weights must be the same.",
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
        "--skip_invalid",
        action="store_true",
        help="Skip and count invalid rows instead of stopping at them.",
    )
    parser.add_argument(
        "--schema",
        type=str,
        metavar="NAME",
        help="Published form of the rows, one of vrm-pyro schemas, or rows for none; found by "
        "the columns if omitted. Also spelled --data.schema.",
    )
    parser.add_argument(
        "--columns",
        type=dict[str, str] | str,
        metavar="COLUMNS",
        help="What the columns of an own table are: prompt=question,chosen=answer,"
        "rejected=other,rating.truth=score. Also spelled --data.columns.",
    )


def rows_of(options: Namespace) -> Any:
    """Return the rows of ``--data`` with the schema or the columns that the options name."""
    from vrm_pyro.data.rows import ReadAs

    return ReadAs.given(options.data, options.schema, options.columns)


def add_output_option(parser: ArgumentParser, what: str) -> None:
    """Add the option for the output file of a verb; ``what`` begins its help."""
    parser.add_argument(
        "--out",
        type=str,
        required=True,
        metavar="FILE",
        help=f"{what}; an existing file is replaced.",
    )


# Options that name what a verb reads.
INPUTS = (
    "model",
    "data",
    "config",
    "backbone",
    "against",
    "reference",
    "diagnose",
    "posterior",
)


def check_outputs(options: Namespace, names: Sequence[str] = ("out",)) -> None:
    """Raise InputError if an output is a folder or an input, before any work is done.

    Args:
        options: Parsed options of the verb.
        names: Options that name files to write.
    """
    inputs = [options.get(name) for name in INPUTS]
    texts = [options.get("prompt"), *(options.get("response") or [])]
    inputs += [text[1:] for text in texts if isinstance(text, str) and text.startswith("@")]
    for name in names:
        out = options.get(name)
        if out is not None:
            check_file(out)
            refuse_input_as_output(out, inputs, f"--{name}")


MOST_DRAWS = 1_000_000
"""Most draws or steps: more would fill the memory, or take days."""

SEEDS = (0, 2**32 - 1)
"""Seeds that torch and NumPy both take."""


def check_numbers(options: Namespace, **ranges: tuple[float, float]) -> None:
    """Raise InputError unless options lie in ranges, ends included.

    >>> check_numbers(Namespace(draws=0), draws=(1, 100))
    Traceback (most recent call last):
    vrm_pyro.errors.InputError: --draws is 0, but must be at least 1.
    """
    for name, (low, high) in ranges.items():
        value = options[name]
        if not low <= value <= high:  # NaN is in none
            allowed = f"at most {high:,}" if value > high else f"at least {low:,}"
            raise InputError(f"--{name} is {value}, but must be {allowed}.")


def read_declared(declared: str | bool) -> "Declared":
    """Return ``--backbone_saw_these_labels`` as a word; YAML reads no as false.

    Raises:
        InputError: If it is not one of no, yes, unknown.
    """
    from vrm_pyro.diagnostics.certificates.certify import check_declared

    if isinstance(declared, bool):
        declared = "yes" if declared else "no"
    return check_declared(declared, "--backbone_saw_these_labels")


def add_cache_option(parser: ArgumentParser) -> None:
    """Add ``--no_cache`` to a verb that encodes rows; pass on ``cache=not options.no_cache``."""
    parser.add_argument(
        "--no_cache",
        action="store_true",
        help="Do not use the cache of backbone states (~/.cache/vrm_pyro/states, or the folder "
        "in VRM_PYRO_CACHE).",
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


def read_model(options: Namespace) -> "LoadedModel":
    """Load the model that the options name, with the user's classes."""
    from vrm_pyro.prediction.opening import as_model

    classes = read_classes(options, options.model)
    return as_model(options.model, classes=classes, backbone=options.backbone)


def read_models(options: Namespace) -> "tuple[LoadedModel, list[LoadedModel]]":
    """Load the model and those of ``--against``, with the user's classes."""
    from vrm_pyro.prediction.opening import as_model

    others = as_list(options.against)
    classes = read_classes(options, options.model, *others)
    loaded = [
        as_model(folder, classes=classes, backbone=options.backbone)
        for folder in (options.model, *others)
    ]
    return loaded[0], loaded[1:]


def as_list(value: str | list[str] | None) -> list[str]:
    """Return one name or several as a list.

    >>> as_list("khat"), as_list(None)
    (['khat'], [])
    """
    if value is None:
        return []
    return [value] if isinstance(value, str) else value


def read_classes(options: Namespace, *models: str) -> list[type]:
    """Import the classes that the options name, as far as models in folders ask for them."""
    if not options.classes:
        return []
    from vrm_pyro.models.checkpoint import own_class_names
    from vrm_pyro.models.settings.own_classes import own_classes

    return own_classes(options.classes, set().union(*map(own_class_names, models)))


def read_scorer(options: Namespace, loaded: "LoadedModel") -> "Scorer":
    """Return the model with its backbone; checks that the backbone is the right one."""
    from vrm_pyro.prediction.opening import as_scorer

    return as_scorer(loaded, device=options.device, dtype=options.dtype)


def read_inputs(
    options: Namespace, loaded: "LoadedModel", *, needs_outcomes: bool = False
) -> "Inputs":
    """Return the rows that the options name, with states from the model's backbone."""
    from vrm_pyro.prediction import opening

    return opening.read_inputs(
        loaded,
        rows_of(options),
        needs_outcomes=needs_outcomes,
        skip_invalid=options.skip_invalid,
        split=options.split,
        device=options.device,
        dtype=options.dtype,
        progress=True,
        cache=not options.no_cache,
    )
