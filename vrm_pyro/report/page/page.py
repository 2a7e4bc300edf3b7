"""The report as a self-contained HTML page, without scripts or network access."""

from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from typing import Final

from jinja2 import Environment, StrictUndefined, Template
from markupsafe import Markup

from vrm_pyro.report.page.blocks import Section

_HERE: Final = files("vrm_pyro.report.page")


def render(title: str, subtitle: str, sections: Sequence[Section]) -> str:
    """Return the page.

    All text is escaped, so markup in prompts and responses is not run. The page's content
    security policy also forbids scripts and network access.

    Args:
        title: Heading of the page.
        subtitle: A line below it.
        sections: Sections in their order.
    """
    style = Markup((_HERE / "page.css").read_text(encoding="utf-8"))  # our own file
    page: str = _template().render(title=title, subtitle=subtitle, sections=sections, style=style)
    return page


@cache
def _template() -> Template:
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string((_HERE / "page.html").read_text(encoding="utf-8"))
