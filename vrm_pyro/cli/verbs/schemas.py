"""``vrm-pyro schemas``: the published forms of preference data that are read unchanged."""

from collections.abc import Sequence

from jsonargparse import ArgumentParser

from vrm_pyro.cli.parsing import UsageError, new_parser, parse
from vrm_pyro.data.schemas.table import SCHEMAS
from vrm_pyro.errors import did_you_mean


def build_parser() -> ArgumentParser:
    """Return the options of ``schemas``."""
    parser = new_parser(
        "schemas",
        "List the published forms of preference data that are read unchanged. A form is found by "
        "the columns of a row; --data.schema NAME asks for one, and --data.columns is for tables "
        "of your own.",
        ["vrm-pyro schemas", "vrm-pyro schemas --name helpsteer2"],
    )
    parser.add_argument(
        "--name",
        type=str,
        metavar="NAME",
        help="Show one in full: its columns, its label rule, and what becomes of ratings, ties "
        "and strengths.",
    )
    return parser


def run(argv: Sequence[str]) -> None:
    """Print the list, or one schema."""
    name = parse(build_parser(), argv).name
    if name is None:
        width = max(map(len, SCHEMAS))
        for key, schema in SCHEMAS.items():
            print(f"{key:<{width}}  {schema.title}")
        return
    if name not in SCHEMAS:
        raise UsageError(
            f"--name: no schema {name!r}{did_you_mean(name, SCHEMAS)} vrm-pyro schemas lists them."
        )
    print(f"{name}: {SCHEMAS[name].described().replace('``', '')}")
