"""Pages that are made from the code: API, command line, configs, schemas, notebooks.

They lie in folders that git ignores and are written anew by every build, so they cannot be out of
date. A file is left alone when its content is the same, and Sphinx then skips it.
"""

import contextlib
import importlib
import io
import os
import pkgutil
import re
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

CONFIGS = "vrm_pyro/configs"


@dataclass(frozen=True)
class Group:
    """Names of the public API that belong together.

    Args:
        title: Heading of the group.
        text: What it is for, in a sentence.
        names: The names, in the order in which they are used.
    """

    title: str
    text: str
    names: tuple[str, ...]


def public_groups() -> dict[str, Group]:
    """Return the groups of ``vrm_pyro.__all__`` by the name of their page."""
    return {
        "rows": Group(
            "Rows",
            "Preference data: read them, split them, simulate them.",
            (
                "load_table",
                "PreferenceTable",
                "split_by_prompt",
                "fold_by_prompt",
                "simulate_texts",
            ),
        ),
        "states": Group(
            "Text to states",
            "A transformers backbone turns texts into states, in memory or in a store.",
            (
                "load_backbone",
                "Backbone",
                "encode_table",
                "write_store",
                "open_store",
                "Inputs",
            ),
        ),
        "model": Group(
            "Model",
            "The model and the parts of it that a config replaces.",
            (
                "ModelConfig",
                "VRM",
                "BradleyTerryModel",
                "build_model",
                "WeightPrior",
                "FeaturePrior",
                "Guide",
                "PreferenceLikelihood",
                "RatingLikelihood",
                "Objective",
            ),
        ),
        "training": Group(
            "Training",
            "From rows to a run folder that every verb of the command line reads.",
            ("fit", "search", "train", "TrainArguments", "TuningConfig", "DataConfig"),
        ),
        "trained": Group(
            "A trained model",
            "Load it, score with it, and find out how good it is.",
            (
                "load_model",
                "LoadedModel",
                "save_model",
                "Scorer",
                "predict",
                "evaluate",
                "benchmark",
                "best_of_n",
                "acquire",
                "explain",
                "draw_posterior",
                "to_datatree",
                "write_posterior",
                "diagnose",
                "Finding",
                "sensitivity",
                "certify",
                "write_report",
            ),
        ),
        "outside": Group(
            "In other libraries",
            "A trained model in TRL and transformers; the error that every function raises.",
            ("VRMReward", "export_model", "VRMForSequenceClassification", "InputError"),
        ),
    }


MODULES = {
    "vrm_pyro.models.priors": "Priors of weights and features",
    "vrm_pyro.models.guides": "Guides",
    "vrm_pyro.models.likelihoods": "Preference likelihoods",
    "vrm_pyro.models.ratings": "Rating likelihoods",
    "vrm_pyro.models.objectives": "Objectives",
    "vrm_pyro.models.distributions": "Distributions",
    "vrm_pyro.diagnostics.metrics": "Metrics",
    "vrm_pyro.diagnostics.checks": "Checks of a model",
    "vrm_pyro.diagnostics.certificates": "Certificates",
    "vrm_pyro.report.plots": "Plots",
    "vrm_pyro.integrations.ray": "Corpora with Ray",
    "vrm_pyro.serve.ray": "Replicas with Ray Serve",
}
"""Modules of the public API whose names are documented together, one page each."""


def write_pages(docs: Path) -> None:
    """Write all generated pages into the source folder of the site."""
    _write_folder(docs / "reference" / "api", api_pages(docs))
    _write_folder(docs / "reference" / "cli", cli_pages())
    _write_folder(docs / "reference" / "configs", config_pages(docs.parent / CONFIGS))
    _write_folder(docs / "reference" / "schemas", schema_pages())
    _write_folder(docs / "tutorials" / "notebooks", notebook_pages(docs.parent / "notebooks"))


def api_pages(docs: Path) -> dict[str, str]:
    """Return a page for each public name and each public module, by file name."""
    package = importlib.import_module("vrm_pyro")
    public = set(getattr(package, "__all__", ())) - {"__version__"}
    pages = {}
    listed = []
    for key, group in public_groups().items():
        examples = read_examples(docs / "reference" / "examples" / f"{key}.md")
        names = [name for name in group.names if name in public]
        public -= set(names)
        if not names:
            continue
        listed.append(f"\n## {group.title}\n\n{group.text}\n\n{_toctree(names)}")
        for name in names:
            pages[f"{name}.md"] = name_page(package, name, examples.get(name, ""))
    if public:
        raise ValueError(f"docs/generate.py: no group has the public names {sorted(public)}.")
    for module in MODULES:
        pages[f"{module}.md"] = module_page(module)
    listed.append("\n## Modules\n\nFurther public names, by module.\n\n" + _toctree(list(MODULES)))
    pages["index.md"] = (
        "# Python API\n\nEverything under the first headings comes from\
 `vrm_pyro` itself:\n\n```python\nfrom vrm_pyro import fit, Scorer\n```\n"
        + "\n".join(listed)
    )
    return pages


def name_page(package: object, name: str, example: str) -> str:
    """Return the page of one public name: its documentation, then an example."""
    found = getattr(package, name)
    directive = "autoexception" if _is_error(found) else ""
    directive = directive or ("autoclass" if isinstance(found, type) else "autofunction")
    target = f"{found.__module__}.{found.__qualname__}"
    shown = f"\n## Example\n\n{example}\n" if example else ""
    return (
        f"# {name}\n\n```python\nfrom vrm_pyro import {name}\n```\n\n"
        f"```{{eval-rst}}\n.. {directive}:: {target}\n```\n{shown}"
    )


def module_page(module: str) -> str:
    """Return the page of a module: its docstring and every name that it gives out."""
    lines = []
    for path, value in public_members(module):
        if isinstance(value, type):
            kind = "autoexception" if _is_error(value) else "autoclass"
        else:
            kind = "autofunction"
        lines.append(f".. {kind}:: {path}\n   :no-index:\n")
    body = "\n".join(lines)
    return (
        f"# {MODULES[module]}\n\n```python\nimport {module}\n```\n\n"
        f"```{{eval-rst}}\n.. automodule:: {module}\n   :no-members:\n   :no-index:\n"
        f"\n{body}\n```\n"
    )


def public_members(module: str) -> list[tuple[str, object]]:
    """Return path and value of the classes and functions that a module gives out.

    These are the names in ``__all__``; without one, those that its submodules define.
    """
    found = importlib.import_module(module)
    if hasattr(found, "__all__"):
        named = [(f"{module}.{name}", getattr(found, name)) for name in found.__all__]
    else:
        named = [
            (f"{part.__name__}.{name}", value)
            for part in _submodules(found)
            for name, value in vars(part).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == part.__name__
        ]
    return [(path, value) for path, value in named if callable(value) and _has_name(value)]


def _submodules(package: ModuleType) -> list[ModuleType]:
    names = sorted(found.name for found in pkgutil.iter_modules(package.__path__))
    return [importlib.import_module(f"{package.__name__}.{name}") for name in names]


def _has_name(value: object) -> bool:
    return isinstance(getattr(value, "__qualname__", None), str)


def _is_error(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, BaseException)


def read_examples(path: Path) -> dict[str, str]:
    """Return the sections of a page of examples by their heading, a public name each."""
    if not path.is_file():
        return {}
    parts = re.split(r"^## (\w+)\n", path.read_text("utf-8"), flags=re.MULTILINE)
    return {name: text.strip() for name, text in zip(parts[1::2], parts[2::2], strict=True)}


def cli_pages() -> dict[str, str]:
    """Return a page for each verb with its ``--help``, by file name."""
    cli = importlib.import_module("vrm_pyro.cli")
    os.environ["COLUMNS"] = "96"
    pages = {}
    for verb, text in cli.VERBS.items():
        shown = printed_by(cli.main, [verb, "--help"])
        pages[f"{verb}.md"] = f"# `vrm-pyro {verb}`\n\n{text}\n\n```text\n{shown.strip()}\n```\n"
    lines = "\n".join(f"| [`{verb}`]({verb}.md) | {text} |" for verb, text in cli.VERBS.items())
    hidden = "```{toctree}\n:hidden:\n\n" + "\n".join(cli.VERBS) + "\n```\n"
    pages["index.md"] = (
        f"# Command line\n\n{CLI_TEXT}\n\n| verb | |\n| --- | --- |\n{lines}\n\n{hidden}"
    )
    return pages


CLI_TEXT = """\
`vrm-pyro VERB [--config FILE] [options]`. Settings have dotted names
(`--train.learning_rate 1e-3`); a YAML file holds the same settings, and options after `--config`
override it. `vrm-pyro VERB --print_config` prints all of them.

| exit code | meaning |
| --- | --- |
| 0 | done |
| 1 | a fault of the program, after a traceback |
| 2 | the input or an option is not usable, after one message that says how to fix it |
| 130, 143 | interrupted, terminated |

Outputs are written whole or not at all."""


def printed_by(main: object, arguments: list[str]) -> str:
    """Return what the command prints for these arguments."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.suppress(SystemExit):
        main(arguments)  # type: ignore[operator]
    return out.getvalue()


def config_pages(folder: Path) -> dict[str, str]:
    """Return a page for each shipped config, by file name."""
    names = sorted(path.stem for path in folder.glob("*.yaml"))
    pages = {
        f"{name}.md": f"# `configs/{name}.yaml`\n\n```yaml\n"
        f"{(folder / f'{name}.yaml').read_text('utf-8').strip()}\n```\n"
        for name in names
    }
    pages["index.md"] = (
        "# Configs\n\nThe shipped configs, as they are in the package (`vrm_pyro/configs/`). "
        "`--config ratings` and `--config configs/ratings.yaml` both find them from any folder. "
        "[Which config do I want?](../../howto/which_config.md) compares them.\n\n"
        + _toctree(names)
    )
    return pages


def schema_pages() -> dict[str, str]:
    """Return the page of the published forms that are read, by file name."""
    table = importlib.import_module("vrm_pyro.data.schemas.table")
    parts = []
    for name, schema in table.SCHEMAS.items():
        text = schema.described().replace("``", "`")
        title, *paragraphs = text.split("\n\n")
        named = [re.sub(r"^([A-Z][a-z ]+):", r"**\1.**", part) for part in paragraphs]
        parts.append("\n\n".join([f"## {name}", title, *named]))
    return {"index.md": SCHEMAS_TEXT + "\n\n".join(parts) + "\n"}


SCHEMAS_TEXT = """\
# Published schemas

These forms of preference data are read unchanged, from a file, the Hub or `datasets`. The form of
a row is found by its columns: all of a schema must be there, with values of its kinds; of several
that match, the one that knows most of the row's columns is taken. The count line names it
("read as helpsteer2: ..."). `--data.schema NAME` (`schema=` in Python) asks for one,
`--data.schema rows` for none. `vrm-pyro schemas` lists them.

Whatever the form, `id`, `subset`, `source`, `weight`, `margin` and `system` are kept. The
comparisons of a row with n responses weigh n - 1 together. Other tables are read by
`--data.columns`: see [Use your own data](../../howto/own_data.md#columns-of-your-own-table).

"""


def notebook_pages(folder: Path) -> dict[str, str]:
    """Return the notebooks as they are stored, by file name."""
    return {path.name: path.read_text("utf-8") for path in sorted(folder.glob("*.ipynb"))}


def _toctree(names: list[str]) -> str:
    return "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(names) + "\n```\n"


def _write_folder(folder: Path, pages: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name not in pages:
            path.unlink()
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")
