"""Settings of the documentation site; ``make docs`` builds it without the network."""

import re
import sys
from pathlib import Path

from sphinx.application import Sphinx
from sphinx.util.typing import stringify_annotation

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]

from generate import write_pages  # noqa: E402

import vrm_pyro  # noqa: E402
from vrm_pyro.data.rows.readers import TableSpec  # noqa: E402
from vrm_pyro.features.reading import DataLike  # noqa: E402
from vrm_pyro.prediction.opening import ModelLike  # noqa: E402

project = "vrm_pyro"
copyright = "the vrm_pyro authors"
release = version = vrm_pyro.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build", "reference/examples"]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}

# Notebooks are shown with the outputs that they are stored with.
nb_execution_mode = "off"
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4
# Notebooks may start a part at a lower heading.
suppress_warnings = ["myst.header"]

autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_member_order = "bysource"
autodoc_default_options = {"members": True, "show-inheritance": True}
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # shapes such as "*rows objectives" would be read as markup
maximum_signature_line_length = 80
python_use_unqualified_type_names = True
add_module_names = False

# Every reference inside the site must resolve. Names of Python objects are exempt: most are of
# other packages, whose inventories would have to be fetched.
nitpicky = True
nitpick_ignore_regex = [("py:.*", ".*")]

html_theme = "furo"
html_title = f"vrm_pyro {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


# The longest first: some are parts of others.
ALIASES = {"DataLike": DataLike, "TableSpec": TableSpec, "ModelLike": ModelLike}


def setup(app: Sphinx) -> None:
    """Write the generated pages before the sources are read; read docstrings as this project's."""
    write_pages(DOCS)
    app.connect("autodoc-process-signature", short_signature)
    app.connect("autodoc-process-docstring", plain_docstring, priority=100)


def short_signature(
    app, what, name, obj, options, signature: str | None, returns: str | None
) -> tuple[str | None, str | None]:
    """Show long unions by their names: ``DataLike`` instead of all forms that rows may have."""
    return _with_aliases(signature), _with_aliases(returns)


def _with_aliases(text: str | None) -> str | None:
    for alias, union in ALIASES.items():
        text = text and text.replace(stringify_annotation(union, "smart"), alias)
    return text


def plain_docstring(app, what, name, obj, options, lines: list[str]) -> None:
    """Make "spec 2.6" a link to that section, and keep | and * of a formula from being markup."""
    lines[:] = [line if ">>>" in line else _plain(line) for line in lines]


def _plain(line: str) -> str:
    parts = re.split(r"(``.*?``)", line)
    for place, part in enumerate(parts):
        if place % 2 == 0:
            plain = re.sub(r"(?<![*\\])\*(?!\*)|\|", r"\\\g<0>", part)
            parts[place] = re.sub(r"\bspec (\d+(?:\.\d+)*)", _link, plain)
    return "".join(parts)


def _link(found: re.Match[str]) -> str:
    section = found[1]
    return rf":ref:`spec {section} <spec-{section.replace('.', '-')}>`\ "
