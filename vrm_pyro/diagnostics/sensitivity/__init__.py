"""Power-scaling sensitivity of a posterior to its priors and its outcomes."""

from vrm_pyro.diagnostics.sensitivity.measure import Sensitivity, sensitivity
from vrm_pyro.diagnostics.sensitivity.rendering import panels, table
from vrm_pyro.diagnostics.sensitivity.summary import (
    THRESHOLD,
    ComponentRow,
    DiagnosisRow,
    component_rows,
    diagnosis_rows,
    draws_needed,
)

__all__ = [
    "THRESHOLD",
    "ComponentRow",
    "DiagnosisRow",
    "Sensitivity",
    "component_rows",
    "diagnosis_rows",
    "draws_needed",
    "panels",
    "sensitivity",
    "table",
]
