"""Reports of a trained model: figures and an HTML page."""

from typing import TYPE_CHECKING

from vrm_pyro.lazy import lazy_names

if TYPE_CHECKING:
    from vrm_pyro.report.page.write import Report, write_report

# The page loads matplotlib, ArviZ and xarray, so it waits until it is asked for.
_MODULES = dict.fromkeys(("Report", "write_report"), "vrm_pyro.report.page.write")
__getattr__, __dir__ = lazy_names(__name__, _MODULES)

__all__ = ["Report", "write_report"]
